"""Checkpoint or ONNX → OpenVINO: `python export/to_openvino.py SOURCE [-o MODEL.xml] [--config NAME]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

if __package__ in (None, ""):  # run as a script: make the four packages importable from the source tree
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import onnx
import onnx.inliner

from export.source import Say, read_source
from export.to_onnx import check
from runtime.engines import Engine
from runtime.engines.sidecar import write_sidecar
from runtime.errors import ExportError, MissingDependencyError
from runtime.spec import ModelSpec


def export_openvino(source: str | Path, out: str | Path | None = None, config: str = "", say: Say = print) -> Path:
    """Write OpenVINO IR (.xml, .bin and a sidecar with the ModelSpec), after its numbers were compared.

    From a checkpoint they are compared with PyTorch's; from an ONNX file with that file's in ONNX Runtime.

    Args:
        source: checkpoint, bare state dict, or an ONNX file written by `export_onnx`.
        out: the .xml file; beside the source when None.
        config: configuration of a bare state dict's network.
        say: receives progress and the parity report.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        CheckpointError, ConfigError, SpecError: the source cannot be read or does not fit.
        ExportError: the numbers differ; nothing is written.
    """
    source, target = Path(source), Path(out) if out else Path(source).with_suffix(".xml")
    if target.suffix != ".xml":
        raise ExportError(f"{target}: expected a file name ending in .xml")
    network = read_source(source, config, say)
    return save_openvino(network.graph, network.reference, target, say)


def save_openvino(graph: onnx.ModelProto, reference: Engine, target: Path, say: Say) -> Path:
    """Convert a graph and give the files their names once the numbers are those of the reference.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        ExportError: the numbers differ; nothing is written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        unfinished = Path(folder) / target.name
        files = _convert(graph, reference.spec, unfinished)
        report = check(reference, unfinished, say)
        for file in files:
            file.replace(target.parent / file.name)
    report.write(target.with_suffix(".xml.parity.json"))
    say(f"wrote {target} ({target.with_suffix('.bin').stat().st_size / 1e6:.1f} MB of weights)")
    return target


def _convert(graph: onnx.ModelProto, spec: ModelSpec, target: Path) -> list[Path]:
    """Inline the pooling function (OpenVINO expands none), convert, and write .xml, .bin and the sidecar."""
    try:
        import openvino
    except ImportError:
        raise MissingDependencyError("OpenVINO", "openvino", "exporting to OpenVINO") from None
    inlined = target.with_suffix(".inlined.onnx")
    onnx.save(onnx.inliner.inline_local_functions(graph), inlined)
    model = openvino.convert_model(inlined)
    openvino.save_model(model, target, compress_to_fp16=False)
    del model  # it maps the file
    inlined.unlink()
    weights = target.with_suffix(".bin")
    return [weights, target, write_sidecar(target, spec, [target, weights])]


if __name__ == "__main__":
    from runtime.cli import main

    sys.exit(main(["export", "--to", "openvino", *sys.argv[1:]]))
