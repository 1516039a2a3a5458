"""Export a checkpoint or ONNX file to OpenVINO: `python export/to_openvino.py MODEL [-o OUT.xml] [--config NAME]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: make the four packages importable from the source tree
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import onnx
import onnx.inliner

from export.comparison.drift import DriftReport
from export.comparison.parity import ParityReport
from export.comparison.quantisation import check_quantised
from export.graph.carried_spec import read_carried_spec
from export.graph.convolutions import Layer, report_convolutions
from export.graph.export_input import ExportInput, Say, read_export_input
from export.graph.precision import QUANTISED, precision_of
from export.own_files import require_own_files
from export.streaming.clip_view import as_clip_engine
from export.to_onnx import Compare, check
from runtime.common.files import file_sha256
from runtime.common.sizes import file_size
from runtime.common.temporaries import scratch_folder
from runtime.engines import Engine, open_engine
from runtime.engines.artifact import remove_old_sidecar, settle_model
from runtime.engines.openvino.core import process_core
from runtime.engines.openvino.xml import write_xml_entries
from runtime.engines.two_files import replace_as_one
from runtime.errors import ExportError, InputError, import_failure
from runtime.spec.model import ModelSpec


def export_openvino(
    path: str | Path,
    out: str | Path | None = None,
    config: str = "",
    say: Say = print,
    *,
    videos: Sequence[Path] = (),
) -> Path:
    """Write OpenVINO IR (.xml with the ModelSpec, and .bin) after comparing its numbers.

    The reference is PyTorch for a checkpoint, and ONNX Runtime for an ONNX file.

    Args:
        path: checkpoint, bare state dict, or an ONNX file written by `export_onnx`.
        out: the .xml file to write; None: beside `path`.
        config: configuration of a bare state dict's network.
        say: receives progress and the parity report.
        videos: videos on which the detections of a calibrated file are compared with those of the ONNX file.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        InputError: videos for a float32 file.
        CheckpointError, ConfigError, SpecError: the file cannot be read or does not fit.
        ExportError: the numbers differ; nothing is written.
    """
    path, target = Path(path), Path(out) if out else Path(path).with_suffix(".xml")
    if target.suffix != ".xml":
        raise ExportError(f"{target}: expected a file name ending in .xml")
    require_own_files(target)
    network = read_export_input(path, config, say)
    return save_openvino(network.graph, network.reference, target, say, choose_comparison(network, videos))


def choose_comparison(network: ExportInput, videos: Sequence[Path] = ()) -> Compare:
    """Return how a file made of a network is compared: number by number, or as a calibrated network.

    Raises:
        InputError: videos, which only the detections of a calibrated network are compared on.
    """
    if precision_of(network.graph) not in QUANTISED:
        if videos:
            raise InputError(
                f"--videos: {network.path} is not calibrated, and the file computes the same; leave --videos out"
            )
        return check

    def compare_quantised(reference: Engine, artifact: Path, say: Say) -> DriftReport:
        say(f"comparing with {reference.library}")
        engine = as_clip_engine(open_engine(artifact))
        try:
            report = check_quantised(reference, engine, network.path, say, videos=videos)
        finally:
            engine.close()
        if artifact.suffix == ".xml":
            for line in report_convolutions(read_openvino_layers(artifact), network.graph, "int8").lines():
                say(line)
        return report

    return compare_quantised


def save_openvino(graph: onnx.ModelProto, reference: Engine, target: Path, say: Say, compare: Compare = check) -> Path:
    """Convert a graph and write the files atomically after comparing their numbers with the reference's.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        ExportError: the numbers differ; nothing is written.
    """
    require_own_files(target)
    with scratch_folder(target.parent) as folder:
        unfinished = folder / target.name
        weights = convert(graph, read_carried_spec(graph, str(target)), unfinished)
        report = compare(reference, unfinished, say)
        settle_model(target)
        replace_as_one((weights, target.with_suffix(".bin")), file_sha256(weights), (unfinished, target))
    remove_old_sidecar(target)
    report.write(target.with_suffix(f".xml.{'parity' if isinstance(report, ParityReport) else 'drift'}.json"))
    say(f"wrote {target} ({file_size(target.with_suffix('.bin').stat().st_size)} of weights)")
    return target


def convert(graph: onnx.ModelProto, spec: ModelSpec, target: Path) -> Path:
    """Inline the pooling function (OpenVINO expands no functions), convert, and write .xml and .bin; return the .bin.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        ExportError: the graph is FP8, in which OpenVINO's processors do not compute.
    """
    try:
        import openvino
    except ImportError as error:
        raise import_failure(error, "openvino", "openvino", "exporting to OpenVINO") from None
    if precision_of(graph) == "fp8":
        raise ExportError("OpenVINO: the graph is fp8, which is for GPUs; calibrate with --numbers uint8")
    inlined = target.with_suffix(".inlined.onnx")
    plain = onnx.inliner.inline_local_functions(graph)
    del plain.metadata_props[:]  # OpenVINO copies them
    onnx.save(plain, inlined)
    model = openvino.convert_model(inlined)
    openvino.save_model(model, target, compress_to_fp16=False)
    del model  # the model keeps the file mapped
    inlined.unlink()
    write_xml_entries(target, spec)
    return target.with_suffix(".bin")


def read_openvino_layers(path: Path) -> tuple[Layer, ...]:
    """Read the operations of an .xml file and their precision on this processor from OpenVINO's execution graph."""
    compiled = process_core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    layers = []
    for operation in compiled.get_runtime_model().get_ordered_ops():
        facts = operation.get_rt_info()
        texts = [facts[key].astype(str) for key in ("layerType", "originalLayersNames", "runtimePrecision")]
        kind, names, precision = texts[0], tuple(texts[1].split(",")), TYPES.get(texts[2])
        layers.append(Layer(operation.get_friendly_name(), kind, (precision,) if precision else (), names))
    return tuple(layers)


TYPES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}
"""OpenVINO's name of a type that a convolution may read → this project's name."""


if __name__ == "__main__":
    from runtime.cli import main

    sys.exit(main(["export", "--to", "openvino", *sys.argv[1:]]))
