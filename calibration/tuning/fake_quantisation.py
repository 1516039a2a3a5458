"""Emulate the quantised network in PyTorch with gradients: QuantizeLinear and DequantizeLinear around convolutions.

Rounding has no useful gradient. Gradients pass as if nothing had been rounded (straight-through, Bengio et al., 2013),
except where a value was clipped at the end of the range: such a value has no influence, so its gradient is zero.
Weights stay float and every forward pass rounds them again, so training moves them to where their rounded values do
best (Jacob et al., CVPR 2018).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from runtime.errors import InputError
from training.afsd.network import AFSD
from training.networks.layers import Unit1D, Unit3D, promote_to_float32

WEIGHT_LIMIT = 127
"""Largest integer of a weight; −128 is not used, so that the range is symmetric around zero."""

LISTED = 5
"""Largest number of names that an error message lists."""


@dataclass(frozen=True)
class InputQuantiser:
    """Rounds a convolution's input to integers q: x ≈ scale · (q − zero_point).

    Raises:
        InputError: a scale that is not positive, or a zero point outside the limits: padding would not be exact.
    """

    scale: float
    """Step between two integers, in units of the input."""
    zero_point: int
    """Integer that represents 0."""
    lowest: int
    """Smallest integer used: 0 in uint8, −127 in symmetric int8."""
    highest: int
    """Largest integer used: 255 in uint8, 127 in int8."""

    def __post_init__(self) -> None:
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise InputError(f"the scale of a quantiser is {self.scale}, expected a positive number; measure its range")
        if not self.lowest <= self.zero_point <= self.highest:
            raise InputError(
                f"the zero point of a quantiser is {self.zero_point}, expected {self.lowest} … {self.highest}, so that "
                "0 is exact; widen its range to hold 0"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Quantise and dequantise values of any shape in float32 or wider, with the straight-through gradient."""
        x = promote_to_float32(x)
        scale = x.new_full((), self.scale)  # on the GPU, dividing by a number multiplies by its reciprocal instead
        rounded: Tensor = _Round.apply(x, scale, self.zero_point, self.lowest, self.highest)  # type: ignore[no-untyped-call]
        return rounded


Layers = Mapping[str, Mapping[int, InputQuantiser]]
"""State-dict name of a convolution's weight → temporal length t of its input [B,C,t] or [B,C,t,H,W] before padding →
quantiser. A convolution shared by pyramid levels has one quantiser per length; a single quantiser fits any length."""


class _Round(torch.autograd.Function):
    """Computes (clip(round(x / scale) + zero_point) − zero_point) · scale with the straight-through gradient.

    The result equals ONNX's bit for bit. PyTorch's `fake_quantize` multiplies by 1 / scale, which rounds values near
    the middle between two levels to the other level than ONNX's division. Both round half to even.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: int, low: int, high: int) -> Tensor:
        steps = (x / scale).round_()
        low, high = low - zero, high - zero
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((steps >= low) & (steps <= high))
        return steps.clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None, None


def round_weight(weight: Tensor) -> Tensor:
    """Quantise and dequantise a weight [out,in,…]: symmetric, one scale max|w| / 127 per output channel.

    The scale follows the weight without a gradient of its own; no value is clipped. A channel of zeros stays zero.
    Folding a batch norm multiplies channels and their scales by constants, so rounding before or after it is the same.
    """
    weight = promote_to_float32(weight)
    largest = weight.detach().abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    scale = torch.where(largest > 0, largest / WEIGHT_LIMIT, torch.ones_like(largest))
    rounded: Tensor = _Round.apply(weight, scale, 0, -WEIGHT_LIMIT, WEIGHT_LIMIT)  # type: ignore[no-untyped-call]
    return rounded


@dataclass(frozen=True)
class LayerRounding:
    """Rounds input and weight of one convolution; a `training.networks.layers.Rounding`."""

    name: str
    """State-dict name of the weight, for errors."""
    inputs: Mapping[int, InputQuantiser]
    """Temporal length of the input → quantiser, see `Layers`."""

    def __call__(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return input [B,C,t(,H,W)] and weight [out,in,…], both rounded.

        Raises:
            InputError: there are several quantisers, but none for this length.
        """
        found = self.inputs.get(x.shape[2])
        if found is None and len(self.inputs) == 1:
            (found,) = self.inputs.values()
        if found is None:
            raise InputError(
                f"{self.name}: got an input of length {x.shape[2]}, expected one of {sorted(self.inputs)}, which have "
                "quantisers; measure ranges on clips of this length"
            )
        return found(x), round_weight(weight)


def quantise_layers(model: AFSD, layers: Layers) -> None:
    """Make a network compute as its quantised export does, in `forward`, `detect` and the contrastive path.

    Afterwards exactly the listed layers are quantised; without any, the network is float again. Parameters, buffers and
    their names do not change.

    Args:
        model: network to change in place.
        layers: quantisers, see `Layers`.

    Raises:
        InputError: a name that is not a convolution's weight, or a layer without a quantiser.
    """
    units = dict(_units(model))
    unknown = [name for name in layers if name not in units]
    if unknown:
        raise InputError(
            f"{', '.join(unknown[:LISTED])}: {len(unknown)} of {len(layers)} names are not a convolution's weight of "
            f"this network, expected names as {next(iter(units))}; are they of another network?"
        )
    empty = [name for name, inputs in layers.items() if not inputs]
    if empty:
        raise InputError(f"{', '.join(empty[:LISTED])}: no quantiser given, expected one at least; or leave it out")
    for name, unit in units.items():
        unit.rounding = LayerRounding(name, dict(layers[name])) if name in layers else None


def _units(model: AFSD) -> Iterator[tuple[str, Unit1D | Unit3D]]:
    """Yield every unit with the state-dict name of its convolution's weight."""
    for name, module in model.named_modules():
        if isinstance(module, Unit1D):
            yield f"{name}.conv1d.weight", module
        elif isinstance(module, Unit3D):
            yield f"{name}.conv3d.weight", module
