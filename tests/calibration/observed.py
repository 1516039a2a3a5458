"""Quantisers for a network, from the extremes of what its convolutions read."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from calibration.tuning.fake_quantisation import InputQuantiser, Layers
from training.afsd.network import AFSD
from training.networks.layers import Rounding, Unit1D, Unit3D

OUTPUT_HEADS = ("loc_head.", "conf_head.", "center_head.")
"""Convolutions that give the outputs; they stay in floating point."""


def units(model: AFSD) -> Iterator[tuple[str, Unit1D | Unit3D]]:
    """Every unit that can be quantised, by the name of its weight."""
    for name, module in model.named_modules():
        if isinstance(module, Unit1D | Unit3D) and not any(head in f"{name}." for head in OUTPUT_HEADS):
            yield f"{name}.{'conv1d' if isinstance(module, Unit1D) else 'conv3d'}.weight", module


def observed(model: AFSD, frames: Tensor, levels: int = 256) -> Layers:
    """Asymmetric quantisers of `levels` integers for all units but the output heads; the network stays float.

    Args:
        model: in eval mode.
        frames: [B,C,T,H,W] in [−1,1].
        levels: integers from the smallest to the largest value.
    """
    ranges: dict[str, dict[int, tuple[float, float]]] = {}

    def observer(name: str) -> Rounding:
        def look(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            low, high = ranges.setdefault(name, {}).get(x.shape[2], (0.0, 0.0))
            ranges[name][x.shape[2]] = (min(low, x.min().item()), max(high, x.max().item()))
            return x, weight

        return look

    for name, unit in units(model):
        unit.rounding = observer(name)
    with torch.no_grad():
        model(frames)
    for _, unit in units(model):
        unit.rounding = None
    return {name: {t: spanning(*ends, levels) for t, ends in found.items()} for name, found in ranges.items()}


def spanning(low: float, high: float, levels: int = 256) -> InputQuantiser:
    """The quantiser whose integers 0 … levels − 1 span low … high."""
    scale = max(high - low, 1e-6) / (levels - 1)
    return InputQuantiser(scale, round(-low / scale), 0, levels - 1)
