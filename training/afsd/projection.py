"""Project features to the width and rate of the first pyramid level, in place of the I3D."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.afsd.config import ModelConfig
from training.networks.layers import Unit1D, build_standardiser, group_norm_unit

HALVING_KERNEL = 3
"""Kernel of the units that halve the steps, as in the pyramid."""


class ProjectedFeatures(NamedTuple):
    """Holds the features on which the pyramid is built, in place of the I3D's endpoints."""

    steps: Tensor
    """Features [B,channels,T/stride]."""


class DilatedUnit(nn.Module):
    """Adds conv1(ReLU(norm(dilated conv3(x)))) to x: a wider view at an unchanged rate; [B,C,T] → [B,C,T]."""

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilated = group_norm_unit(Unit1D(channels, channels, 3, dilation=dilation), channels)
        self.dropout = nn.Dropout(dropout)
        self.mix = Unit1D(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.as_tensor(self.mix(self.dropout(self.dilated(x))))


class FeatureProjection(nn.Module):
    """Maps features [B,C,T] to `ProjectedFeatures`.

    Layers: each channel standardised over the training data; a unit (convolution, GroupNorm, ReLU) per kernel; a
    residual dilated unit per dilation; a unit per halving.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, kernels = config.head_channels, config.projection_kernels
        self.standardise = build_standardiser(config.in_features) if config.standardise else None
        inputs = (config.in_features, *(channels for _ in kernels))
        units = [Unit1D(c, channels, kernel) for c, kernel in zip(inputs, kernels, strict=False)]
        halvings = [
            Unit1D(channels, channels, HALVING_KERNEL, 2) for _ in range(config.feature_stride.bit_length() - 1)
        ]
        self.units = nn.Sequential(*(layer for unit in units for layer in group_norm_unit(unit, channels)))
        self.dilated = nn.Sequential(*(DilatedUnit(channels, d, config.dropout) for d in config.projection_dilations))
        self.halvings = nn.Sequential(*(layer for unit in halvings for layer in group_norm_unit(unit, channels)))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, features: Tensor) -> ProjectedFeatures:
        x = features if self.standardise is None else self.standardise(features)
        return ProjectedFeatures(self.halvings(self.dilated(self.units(self.dropout(x)))))
