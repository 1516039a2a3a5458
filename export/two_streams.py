"""Export two checkpoints, RGB and flow, as one network in one file, which runs both streams and fuses their outputs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from export.graph.export_input import ExportInput, Say, make_artifact_spec
from export.graph.trace import to_graph
from export.to_onnx import save_onnx
from export.to_openvino import save_openvino
from runtime.decoding.afsd import location_centres
from runtime.errors import ExportError, InputError
from runtime.spec.model import ModelSpec, fuse_specs
from runtime.two_streams import TwoStreamEngine
from training.afsd.pyramid import AfsdOutput
from training.checkpoints.files import build_model, load_checkpoint
from training.config.files import load_config
from training.deployment.views import Deployed, TorchEngine

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
"""Target of `export_fused` → suffix of its file."""


class TwoStreamNetwork(nn.Module):
    """Runs both networks on frames and flow and fuses their raw outputs as `runtime.two_streams.fuse_outputs` does."""

    centres: Tensor

    def __init__(self, rgb: nn.Module, flow: nn.Module, spec: ModelSpec) -> None:
        """Pair two networks; `spec` is the ModelSpec of the fused network."""
        super().__init__()
        self.rgb, self.flow = Deployed(rgb), Deployed(flow)
        self.geometric = spec.decoding.fusion == "geometric"
        self.window_length = spec.window_length
        self.register_buffer("centres", torch.from_numpy(location_centres(spec))[:, None], persistent=False)

    def forward(self, frames: Tensor, flow: Tensor, lengths: Tensor) -> AfsdOutput:
        """Return raw outputs of windows: frames uint8 [B,T,H,W,3], flow uint8 [B,T,H,W,2], lengths int32 [B]."""
        rgb, motion = self.rgb(frames, lengths), self.flow(flow, lengths)
        fused = AfsdOutput(*(0.5 * (a + b) for a, b in zip(rgb, motion, strict=True)))
        if not self.geometric:
            return fused
        (start_a, end_a), (start_b, end_b) = self._ends(rgb), self._ends(motion)
        left = self.centres - torch.sqrt(start_a * start_b)
        right = torch.sqrt(end_a * end_b) - self.centres
        loc = torch.cat([left, right], dim=-1)
        return fused._replace(loc=loc, prop_loc=torch.zeros_like(loc))

    def _ends(self, output: AfsdOutput) -> tuple[Tensor, Tensor]:
        """Return start and end [B,N,1] of the refined segments in frames, clamped to the window (equation 15)."""
        distances = output.loc + 0.5 * output.loc.sum(dim=-1, keepdim=True) * output.prop_loc
        start, end = self.centres - distances[..., :1], self.centres + distances[..., 1:]
        return start.clamp(0, self.window_length), end.clamp(0, self.window_length)


def export_fused(
    rgb: str | Path,
    flow: str | Path,
    out: str | Path | None = None,
    *,
    to: str = "onnx",
    config: str = "",
    flow_config: str = "",
    say: Say = print,
) -> Path:
    """Write two checkpoints as one file after comparing its numbers with both networks fused by the runtime.

    Args:
        rgb, flow: checkpoints, or bare state dicts.
        out: file to write; None: `<stem>_fused` beside the RGB checkpoint.
        to: "onnx" or "openvino".
        config, flow_config: configurations of bare state dicts' networks.
        say: receives progress and the parity report.

    Returns:
        Path of the file; a parity report is written beside it.

    Raises:
        CheckpointError, ConfigError: a checkpoint cannot be read or does not fit.
        ExportError: the two models do not fit together, or the file's numbers differ; nothing is written.
        MissingDependencyError: OpenVINO is not installed.
    """
    if to not in SUFFIXES:
        raise ExportError(f"to: got {to!r}, expected one of {', '.join(SUFFIXES)}")
    target = Path(out) if out else Path(rgb).with_name(f"{Path(rgb).stem}_fused{SUFFIXES[to]}")
    if target.suffix != SUFFIXES[to]:
        raise ExportError(f"{target}: expected a file name ending in {SUFFIXES[to]}")
    network = read_fused_input(rgb, flow, config, flow_config, say)
    return (save_onnx if to == "onnx" else save_openvino)(network.graph, network.reference, target, say)


def read_fused_input(rgb: str | Path, flow: str | Path, config: str, flow_config: str, say: Say) -> ExportInput:
    """Trace two checkpoints as one network; arguments and errors are those of `export_fused`."""
    loaded = [
        load_checkpoint(path, load_config(name) if name else None)
        for path, name in ((rgb, config), (flow, flow_config))
    ]
    specs = [make_artifact_spec(checkpoint) for checkpoint in loaded]
    try:
        spec = fuse_specs(*specs)
    except InputError as error:
        raise ExportError(f"{rgb} and {flow}: {error}") from None
    networks = [build_model(checkpoint, str(path)) for checkpoint, path in zip(loaded, (rgb, flow), strict=True)]
    reference = TwoStreamEngine(*(TorchEngine(network, own) for network, own in zip(networks, specs, strict=True)))
    say(f"tracing {rgb} and {flow}")
    graph = to_graph(TwoStreamNetwork(networks[0], networks[1], spec).eval(), spec)
    return ExportInput(Path(rgb), graph, reference)
