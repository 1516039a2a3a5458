"""Write a network in a precision as a typed ONNX graph after comparing its numbers with float32."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from export.comparison.drift import DriftReport, measure_drift_on_videos, measure_drift_on_windows, require_drift
from export.comparison.parity import compare, require_parity
from export.comparison.quantisation import check_quantised
from export.graph.carried_spec import read_carried_spec
from export.graph.export_input import ExportInput, Say, open_cpu_engine, read_export_input
from export.graph.files import save_graph
from export.graph.precision import HALF, QUANTISED, Precision, precision_of, to_half
from export.own_files import require_own_files
from export.to_onnx import check_name, save_onnx
from runtime.common.files import atomic_path
from runtime.common.sizes import file_size
from runtime.engines import Engine
from runtime.errors import ExportError
from runtime.families import class_output
from runtime.spec.model import ModelSpec

LIMITS = {"fp16": 0.05, "bf16": 0.3}
"""Precision → largest relative drift of the coarse class logits. A graph with a wrong connection differs by about 1; a
correct one stays far below the limit (untrained full-size network: 0.1 % in fp16 and 0.9 % in bf16)."""


CALIBRATE = (
    "it needs measured ranges: `afsd calibrate MODEL.onnx --videos … --target tensorrt -o MODEL.int8.onnx` makes a "
    "file to give here"
)


@dataclass(frozen=True)
class TypedModel:
    """Holds a typed graph and the engine that its numbers are compared with."""

    path: Path
    """ONNX file of the graph."""
    graph: onnx.ModelProto
    precision: Precision
    reference: Engine
    """Engine of the network before its precision was changed."""

    @property
    def spec(self) -> ModelSpec:
        """ModelSpec that the graph carries."""
        return read_carried_spec(self.graph, str(self.path))

    def check(
        self, engine: Engine, videos: Sequence[Path], say: Say, smallest: int = 1, largest: int = 2
    ) -> DriftReport:
        """Compare an engine of this graph with the reference, on seeded windows and on videos where there are any.

        Args:
            engine: engine that takes batches of `smallest` to `largest` windows.
            videos: real videos; skipped if the engine cannot run a single window.
            say: receives the report.
            smallest, largest: see `engine`.

        Raises:
            ExportError: the numbers differ by more than the precision explains.
        """
        if self.precision in QUANTISED:  # TensorRT runs the other layers in half precision: no limit was measured yet
            return check_quantised(
                self.reference, engine, self.path, say, videos=videos, limit=float("inf"), smallest=smallest,
                largest=largest,
            )  # fmt: skip
        report = measure_drift_on_windows(self.reference, engine, smallest, largest)
        if self.precision == "fp32":
            require_parity(compare(self.reference, engine, smallest, largest))
        limit = LIMITS.get(self.precision, float("inf"))
        drift = require_drift(report, {class_output(self.spec)}, limit, self.precision, "use another precision")
        say(report.table())
        if self.precision in LIMITS:
            say(f"  class logits drift by {drift:.2%}, accepted up to {limit:.0%}")
        if videos and smallest == 1:  # a detector gives one window at a time
            report = measure_drift_on_videos(self.reference, engine, [str(video) for video in videos])
            say(report.table())
        return report


def write_typed_onnx(
    path: Path,
    precision: Precision | None,
    config: str = "",
    *,
    out: Path | None = None,
    folder: Path | None = None,
    videos: Sequence[Path] = (),
    say: Say = print,
) -> TypedModel:
    """Convert a checkpoint or ONNX file to a precision, compare the numbers, and write it as an ONNX file.

    An ONNX file that has the precision already is used as it is, or copied to `out`.

    Args:
        path: checkpoint, bare state dict, or ONNX file of this project.
        precision: precision of the heavy layers; None: float16 for a float32 model, else the file's own.
        config: configuration of a bare state dict's network.
        out: ONNX file to write; None: <stem>.<precision>.onnx (float32: <stem>.onnx) in `folder`.
        folder: folder of the file when `out` is None; None: the folder of `path`.
        videos: videos on which the detections of half precision are compared as well.
        say: receives progress and reports.

    Raises:
        CheckpointError, ConfigError, EngineError, SpecError: the file cannot be read or does not fit.
        ExportError: the model is a backbone or of another precision, or its numbers drift too far.
    """
    if out is not None:
        check_name(out)
    if precision in QUANTISED and path.suffix != ".onnx":
        raise ExportError(f"--precision {precision}: {path} is not an ONNX file; {CALIBRATE}")
    network = read_export_input(path, config, say)
    if network.spec.is_backbone:
        raise ExportError(
            f"{path}: a backbone, which is float32 in ONNX and OpenVINO so far; OpenVINO runs it faster with "
            "--precision bf16, where it runs"
        )
    own = precision_of(network.graph)
    wanted = precision or ("fp16" if own == "fp32" else own)
    _check_possible(network, own, wanted)
    if wanted == own:
        if not network.is_onnx:
            target = (folder or path.parent) / f"{path.stem}.onnx"
            path = save_onnx(network.graph, network.reference, out or target, say)
        elif out is None:
            say(f"{path} is {own} already")
        else:
            require_own_files(out)
            with atomic_path(out) as unfinished:
                shutil.copyfile(path, unfinished)
            path = out
            say(f"wrote {out}, a copy: it was {own} already")
        return TypedModel(path, network.graph, wanted, network.reference)
    target = out or (folder or path.parent) / f"{path.stem}.{wanted}.onnx"
    require_own_files(target)
    graph = to_half(network.graph, "fp16" if wanted == "fp16" else "bf16")
    typed = TypedModel(target, graph, wanted, network.reference)
    say(f"comparing {wanted} with {network.reference.library}, with {wanted} rounding emulated")
    report = typed.check(open_cpu_engine(typed.graph, target), videos, say)
    with atomic_path(target) as unfinished:
        save_graph(typed.graph, unfinished)
    report.write(target.with_name(f"{target.name}.drift.json"))
    say(f"wrote {target} ({file_size(target.stat().st_size)})")
    return typed


def _check_possible(network: ExportInput, own: Precision, wanted: Precision) -> None:
    if wanted == own or (own == "fp32" and wanted in HALF):
        return
    if wanted in QUANTISED:
        raise ExportError(f"--precision {wanted}: {network.path} is {own}; {CALIBRATE}")
    raise ExportError(f"--precision {wanted}: {network.path} is {own} already; give the float32 model, or leave it out")
