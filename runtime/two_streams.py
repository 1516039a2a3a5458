"""Fuse two streams: their raw outputs, and two engines as one (AFSD, section 4.1; its code on ActivityNet)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import is_file
from runtime.decoding.afsd import AFSD_OUTPUTS, location_centres, refine_segments
from runtime.engines.base import Engine
from runtime.engines.pipeline import as_overlapping, runs_for_throughput
from runtime.errors import EngineError
from runtime.spec.model import ModelSpec, fuse_specs

Outputs = Mapping[str, NDArray[Any]]
AND = " + "
"""What stands between the files of two models in the name of a pair."""


def name_pair(model: str, flow_model: str) -> str:
    """Return the name of a pair by the paths of its models, "models/rgb.onnx + flow.onnx"; that of one if the other
    has none."""
    return f"{model}{AND}{Path(flow_model).name}" if model and flow_model else model


def is_pair(model: str) -> bool:
    """Return whether the name of a model is that of a pair, and not of a file that is called so."""
    return AND in Path(model).name and not is_file(Path(model))


def fuse_outputs(rgb: Outputs, flow: Outputs, spec: ModelSpec) -> dict[str, NDArray[np.float32]]:
    """Fuse the raw outputs of both networks to raw outputs of one network, float32, for the same decoder.

    "mean": the mean of all five. "geometric": the ends of each refined segment, clamped to the window, are
    √(rgb·flow), written as distances `loc` from the location with a `prop_loc` of 0; the logits are averaged.

    Args:
        rgb, flow: the arrays named in AFSD_OUTPUTS, batch first.
        spec: the fused model's.
    """
    half = np.float32(0.5)
    fused = {name: half * (rgb[name] + flow[name]) for name in AFSD_OUTPUTS}
    if spec.decoding.fusion == "geometric":
        ends = [refine_segments(outputs["loc"], outputs["prop_loc"], spec) for outputs in (rgb, flow)]
        segments = np.sqrt(ends[0] * ends[1])
        centres = location_centres(spec)[:, None]
        fused["loc"] = np.concatenate([centres - segments[..., :1], segments[..., 1:] - centres], axis=-1)
        fused["prop_loc"] = np.zeros_like(fused["loc"])
    return fused


class TwoStreamEngine:
    """Runs an RGB and a flow engine as one engine."""

    def __init__(self, rgb: Engine, flow: Engine) -> None:
        """Pair two engines; they are not closed when this one is made by a caller who opened them.

        Raises:
            InputError: see `fuse_specs`.
        """
        self.spec = fuse_specs(rgb.spec, flow.spec)
        self._rgb, self._flow = rgb, flow
        self._rgb_pipe, self._flow_pipe = as_overlapping(rgb), as_overlapping(flow)
        self.library = _both(rgb.library, flow.library)
        self.device = _both(rgb.device, flow.device)
        self.precision = _both(rgb.precision, flow.precision)
        self.mode = "throughput" if all(runs_for_throughput(engine) for engine in (rgb, flow)) else "latency"

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run one batch in both engines: `frames` uint8 [B,T,H,W,3], `flow` uint8 [B,T,H,W,2], `lengths` int32 [B]."""
        return self.collect(self.submit(inputs))

    @property
    def depth(self) -> int:
        """Maximum number of batches in flight in both engines."""
        return min(self._rgb_pipe.depth, self._flow_pipe.depth)

    def submit(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[Any, Any]:
        """Begin one batch in both engines; see `OverlappingEngine`."""
        lengths = inputs["lengths"]
        rgb = self._rgb_pipe.submit({"frames": inputs["frames"], "lengths": lengths})
        try:
            return rgb, self._flow_pipe.submit({"frames": inputs["flow"], "lengths": lengths})
        except BaseException:
            with suppress(EngineError):
                self._rgb_pipe.collect(rgb)
            raise

    def collect(self, ticket: tuple[Any, Any]) -> dict[str, NDArray[np.float32]]:
        """Wait for both engines and fuse their outputs."""
        try:
            rgb = self._rgb_pipe.collect(ticket[0])
        except BaseException:
            with suppress(EngineError):
                self._flow_pipe.collect(ticket[1])
            raise
        flow = self._flow_pipe.collect(ticket[1])
        with np.errstate(invalid="ignore", over="ignore"):  # the decoder reports NaN
            return fuse_outputs(rgb, flow, self.spec)

    def close(self) -> None:
        """Close both engines."""
        self._rgb.close()
        self._flow.close()


def _both(rgb: str, flow: str) -> str:
    return rgb if rgb == flow else f"{rgb} + {flow}"
