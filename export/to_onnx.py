"""Export a checkpoint as ONNX: `python export/to_onnx.py CHECKPOINT [-o MODEL.onnx] [--config NAME]`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):  # run as a script: make the four packages importable from the source tree
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import onnx

from export.comparison.drift import DriftReport
from export.comparison.parity import ParityReport, compare, require_parity
from export.graph.export_input import Say, read_export_input
from export.graph.files import save_graph
from export.own_files import require_own_files
from export.streaming.clip_view import as_clip_engine
from runtime.common.files import synchronise
from runtime.common.sizes import file_size
from runtime.common.temporaries import scratch_folder
from runtime.engines import Engine, open_engine
from runtime.errors import ExportError


def export_onnx(checkpoint: str | Path, out: str | Path | None = None, config: str = "", say: Say = print) -> Path:
    """Write a checkpoint as an ONNX file after comparing its numbers with PyTorch's.

    Args:
        checkpoint: checkpoint of this project, or a bare state dict.
        out: file to write; None: beside the checkpoint with the suffix .onnx.
        config: configuration of a bare state dict's network.
        say: receives progress and the parity report.

    Returns:
        Path of the file; `<out>.parity.json` holds the report.

    Raises:
        CheckpointError, ConfigError: the checkpoint cannot be read or does not fit.
        ExportError: the file's numbers differ from PyTorch's; nothing is written.
    """
    target = Path(out) if out else Path(checkpoint).with_suffix(".onnx")
    check_name(target)
    network = read_export_input(Path(checkpoint), config, say)
    return save_onnx(network.graph, network.reference, target, say)


def check_name(target: Path) -> None:
    """Raise ExportError unless a name ends in .onnx."""
    if target.suffix != ".onnx":
        raise ExportError(f"{target}: expected a file name ending in .onnx")


Compare = Callable[[Engine, Path, Say], ParityReport | DriftReport]
"""Function (reference, file, say) that compares a file with a reference, says the report and returns it."""


def save_onnx(
    graph: onnx.ModelProto, reference: Engine, target: Path, say: Say, compare: Compare | None = None
) -> Path:
    """Write a graph atomically after comparing its numbers with the reference's (ExportError: they differ)."""
    require_own_files(target)
    with scratch_folder(target.parent) as folder:
        unfinished = folder / target.name
        save_graph(graph, unfinished)
        report = (compare or check)(reference, unfinished, say)
        synchronise(unfinished)
        unfinished.replace(target)
        synchronise(target.parent)
    report.write(target.with_suffix(f".onnx.{'parity' if isinstance(report, ParityReport) else 'drift'}.json"))
    say(f"wrote {target} ({file_size(target.stat().st_size)})")
    return target


def check(reference: Engine, artifact: Path, say: Say) -> ParityReport:
    """Compare an artifact, run in its engine, with the reference (ExportError: a difference beyond the tolerance)."""
    say(f"comparing with {reference.library}")
    engine = as_clip_engine(open_engine(artifact))
    try:
        report = compare(reference, engine)
    finally:
        engine.close()
    say(report.table())
    require_parity(report)
    return report


if __name__ == "__main__":
    from runtime.cli import main

    sys.exit(main(["export", "--to", "onnx", *sys.argv[1:]]))
