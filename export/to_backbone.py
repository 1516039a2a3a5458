"""Export I3D weights as an engine that computes features: `afsd export-backbone rgb_imagenet.pt --to onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from export.graph.export_input import Say, library_versions
from export.graph.trace import to_graph
from export.to_onnx import check_name, save_onnx
from export.to_openvino import save_openvino
from runtime.errors import ExportError
from training.deployment.i3d_features import SIZE, BackboneWeights, backbone_spec
from training.deployment.views import TorchEngine


def export_backbone(
    weights: BackboneWeights,
    out: Path,
    *,
    to: Literal["onnx", "openvino"] = "onnx",
    size: int = SIZE,
    say: Say = print,
) -> Path:
    """Write a backbone as an ONNX or OpenVINO file after comparing its numbers with PyTorch's.

    Args:
        weights: see `read_backbone` and `random_backbone`.
        out: file to write, .onnx or .xml.
        to: format of the file.
        size: side of the square input frames in pixels.
        say: receives progress and the parity report.

    Raises:
        InputError: a size below 1.
        ExportError: the suffix of `out` does not fit `to`, or the numbers differ; nothing is written.
        MissingDependencyError: `to` is "openvino" and OpenVINO is not installed.
    """
    if to == "openvino" and out.suffix != ".xml":
        raise ExportError(f"{out}: expected a file name ending in .xml")
    if to == "onnx":
        check_name(out)
    spec = backbone_spec(weights, size, library_versions())
    say(f"tracing an I3D on {spec.stream}, snippets of {spec.window_length} frames of {size}×{size} pixels")
    reference = TorchEngine(weights.network, spec)
    graph = to_graph(weights.network, spec)
    return (save_onnx if to == "onnx" else save_openvino)(graph, reference, out, say)
