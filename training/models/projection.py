"""What stands in place of the I3D where AFSD sees features: a projection to the width and rate of the first level."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from training.models.layers import Unit1D, normalised

HALVING_KERNEL = 3
"""Kernel of the units that halve the steps, as in the pyramid."""


class Projected(NamedTuple):
    """What the pyramid is built on in place of the I3D's endpoints."""

    steps: Tensor
    """[B,channels,T/stride]"""


class FeatureProjection(nn.Module):
    """Features [B,C,T] → `Projected`: a unit (convolution, GroupNorm, ReLU) per kernel, then one per halving."""

    def __init__(self, in_features: int, channels: int, kernels: tuple[int, ...], stride: int) -> None:
        """
        Args:
            in_features: C.
            channels: of the pyramid.
            kernels: one per unit at the rate of the features.
            stride: feature steps from one location of the finest level to the next, a power of 2.
        """
        super().__init__()
        inputs = (in_features, *(channels for _ in kernels))
        units = [Unit1D(c, channels, kernel) for c, kernel in zip(inputs, kernels, strict=False)]
        units += [Unit1D(channels, channels, HALVING_KERNEL, 2) for _ in range(stride.bit_length() - 1)]
        self.units = nn.Sequential(*(layer for unit in units for layer in normalised(unit, channels)))

    def forward(self, features: Tensor) -> Projected:
        return Projected(self.units(features))
