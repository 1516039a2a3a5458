"""Export a network as a streaming one: its backbone runs once per frame, its head on windows of features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.graph.export_input import Say, read_export_input
from export.streaming.graph import to_streaming
from export.to_onnx import save_onnx
from export.to_openvino import choose_comparison, save_openvino
from export.two_streams import SUFFIXES, read_fused_input
from runtime.errors import ExportError


def export_streaming(
    path: Path,
    out: Path | None = None,
    *,
    to: str = "onnx",
    config: str = "",
    flow: Path | None = None,
    flow_config: str = "",
    videos: Sequence[Path] = (),
    say: Say = print,
) -> Path:
    """Write a streaming network after comparing its numbers with those of the network on windows.

    Args:
        path: checkpoint, bare state dict, or ONNX file of a network on windows, float32 or calibrated.
        out: file to write; None: `<stem>.stream.onnx` or `.xml` beside `path`.
        to: "onnx" or "openvino".
        config: configuration of a bare state dict's network.
        flow, flow_config: flow checkpoint and its configuration; both streams become one file.
        videos: videos on which a calibrated network's detections are compared, window by window.
        say: receives progress and the report.

    Returns:
        Path of the file; a report is written beside it.

    Raises:
        CheckpointError, ConfigError, EngineError, SpecError: a file cannot be read or does not fit.
        ExportError: the network cannot stream, or the numbers differ; nothing is written.
        InputError: videos for a network that is not calibrated.
        MissingDependencyError: OpenVINO is not installed.
    """
    if to not in SUFFIXES:
        raise ExportError(f"--stream: got --to {to}, expected onnx or openvino")
    target = out or path.with_name(f"{path.stem}.stream{SUFFIXES[to]}")
    if target.suffix != SUFFIXES[to]:
        raise ExportError(f"{target}: expected a file name ending in {SUFFIXES[to]}")
    if flow is None:
        network = read_export_input(path, config, say)
    else:
        network = read_fused_input(path, flow, config, flow_config, say)
    graph = to_streaming(network.graph, str(path))
    save = save_onnx if to == "onnx" else save_openvino
    return save(graph, network.reference, target, say, choose_comparison(network, videos))
