"""A network in the precision asked for, as a typed ONNX graph whose numbers were compared with float32."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from export.comparison.drift import DriftReport, measure_drift_on_videos, measure_drift_on_windows, require_drift
from export.comparison.parity import compare, require_parity
from export.comparison.quantised import check_quantised
from export.graph.carried_spec import read_carried_spec
from export.graph.export_input import ExportInput, Say, open_cpu_engine, read_export_input
from export.graph.precision import HALF, QUANTISED, Precision, precision_of, to_half
from export.to_onnx import check_name, save_onnx
from runtime.common.files import atomic_path
from runtime.engines import Engine
from runtime.errors import ExportError
from runtime.families import class_output
from runtime.spec.model import ModelSpec

LIMITS = {"fp16": 0.05, "bf16": 0.3}
"""Largest drift of the coarse class logits in half precision. A graph that is wired wrongly differs by about 1; sound
weights stay a tenth of the limit (untrained full-size network: 0.1 % and 0.9 %)."""


CALIBRATE = (
    "it needs measured ranges: `afsd calibrate MODEL.onnx --videos … --target tensorrt -o MODEL.int8.onnx` makes a "
    "file to give here"
)


@dataclass(frozen=True)
class TypedModel:
    """A typed graph and what it is judged by."""

    path: Path
    """ONNX file that holds it."""
    graph: onnx.ModelProto
    precision: Precision
    reference: Engine
    """The network before its precision was changed."""

    @property
    def spec(self) -> ModelSpec:
        """As the graph carries it."""
        return read_carried_spec(self.graph, str(self.path))

    def check(
        self, engine: Engine, videos: Sequence[Path], say: Say, smallest: int = 1, largest: int = 2
    ) -> DriftReport:
        """Compare an engine of this graph, which takes batches between `smallest` and `largest`, with the reference;
        on real videos too where there are any.

        Raises:
            ExportError: the numbers differ by more than the precision explains.
        """
        if self.precision in QUANTISED:  # TensorRT runs the rest in half precision, so no limit was measured yet
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
    """A checkpoint or ONNX file in a precision; what is not a file of that precision already is written and compared.

    Args:
        path: checkpoint, bare state dict, or ONNX file of this project.
        precision: None: float16 from float32, else what the file is in.
        config: configuration of a bare state dict's network.
        out: ONNX file to write; <stem>.<precision>.onnx beside the source (float32: <stem>.onnx) when None.
        folder: where it is written when `out` is None, in place of the source's own.
        videos: half precision is also compared on their windows, by what happens to detections.
        say: receives progress and reports.

    Raises:
        CheckpointError, ConfigError, EngineError, SpecError: the source cannot be read or does not fit.
        ExportError: the source is a backbone or of another precision, or its numbers drift too far.
    """
    if out is not None:
        check_name(out)
    if precision in QUANTISED and path.suffix != ".onnx":
        raise ExportError(f"--precision {precision}: {path} is not an ONNX file; {CALIBRATE}")
    source = read_export_input(path, config, say)
    if source.spec.is_backbone:
        raise ExportError(
            f"{path}: a backbone, which is float32 in ONNX and OpenVINO so far; OpenVINO runs it faster with "
            "--precision bf16, where it runs"
        )
    own = precision_of(source.graph)
    wanted = precision or ("fp16" if own == "fp32" else own)
    _check_possible(source, own, wanted)
    if wanted == own:
        if not source.is_onnx:
            target = (folder or path.parent) / f"{path.stem}.onnx"
            path = save_onnx(source.graph, source.reference, out or target, say)
        elif out is None:
            say(f"{path} is {own} already")
        else:
            with atomic_path(out) as unfinished:
                shutil.copyfile(path, unfinished)
            path = out
            say(f"wrote {out}, a copy: it was {own} already")
        return TypedModel(path, source.graph, wanted, source.reference)
    target = out or (folder or path.parent) / f"{path.stem}.{wanted}.onnx"
    typed = TypedModel(target, to_half(source.graph, "fp16" if wanted == "fp16" else "bf16"), wanted, source.reference)
    say(f"comparing {wanted} with {source.reference.library}, rounded as {wanted} rounds")
    report = typed.check(open_cpu_engine(typed.graph, target), videos, say)
    with atomic_path(target) as unfinished:
        onnx.save(typed.graph, unfinished)
    report.write(target.with_name(f"{target.name}.drift.json"))
    say(f"wrote {target} ({target.stat().st_size / 1e6:.1f} MB)")
    return typed


def _check_possible(source: ExportInput, own: Precision, wanted: Precision) -> None:
    if wanted == own or (own == "fp32" and wanted in HALF):
        return
    if wanted in QUANTISED:
        raise ExportError(f"--precision {wanted}: {source.path} is {own}; {CALIBRATE}")
    raise ExportError(f"--precision {wanted}: {source.path} is {own} already; give the float32 model, or leave it out")
