"""Define A2Net (Yang et al., TIP 2020): raw outputs of an anchor-free and an anchor-based module from features.

Base layers → hierarchical feature module → both modules on every level, under the names of published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.a2net.config import A2NetConfig, Norm
from training.networks.layers import GROUP_NORM_GROUPS, build_standardiser, promote_to_float32

BASE_KERNELS = (1, 9)
"""Kernels of the two base convolutions."""

BASE_NAMES = {"thumos14": "base_feature_net", "activitynet": "base"}

SCALE_NUMBERS = {"thumos14": (0, 1), "activitynet": (1, 0)}
"""Number in the first scale's name, and number of scales beyond the levels (the THUMOS14 network has one unused
scale)."""


class A2NetOutput(NamedTuple):
    """Holds the raw outputs of one forward pass; None for a module that the network does not have."""

    af_cls: Tensor | None
    """Class logits [B,N,K] of the points, background first; levels fine to coarse."""
    af_reg: Tensor | None
    """Distances [B,N,2] from the point to start and end, in units (cells of the finest level); any sign."""
    ab: Tensor | None
    """Anchor outputs [B,M,K+3]: class logits, overlap, r_x, r_w; or [B,M,1], the overlap alone. Ordered by level, fine
    to coarse, then cell, then ratio."""


class A2Net(nn.Module):
    """Maps features [B,C,T] float32 (T = `window_steps`) to `A2NetOutput`."""

    def __init__(self, config: A2NetConfig) -> None:
        super().__init__()
        self.config = config
        if config.standardise:
            self.standardise = build_standardiser(config.in_channels)
        self.dropout = nn.Dropout(config.dropout)
        self.features = HierarchicalFeatures(config)
        self.af = None if config.modules == "anchor-based" else AnchorFree(config)
        self.ab = None if config.modules == "anchor-free" else AnchorBased(config)
        _initialise(self)

    def forward(self, features: Tensor) -> A2NetOutput:
        """Return the raw outputs of a batch of windows."""
        return self.predict(self.levels(features))

    def levels(self, features: Tensor) -> list[Tensor]:
        """Return the levels [B,C_level,t] of the hierarchical feature module, fine to coarse."""
        if self.config.standardise:
            features = self.standardise(features)
        levels: list[Tensor] = self.features(self.dropout(features))
        return levels

    def predict(self, levels: Sequence[Tensor]) -> A2NetOutput:
        """Return the raw outputs of both modules on the levels."""
        af_cls, af_reg = (None, None) if self.af is None else self.af(levels)
        return A2NetOutput(af_cls, af_reg, None if self.ab is None else self.ab(levels))


class Convolution(nn.Conv1d):
    """Convolves with bias and equal padding on both sides (AFSD pads an odd zero at the back), then optional
    GroupNorm."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, *, norm: Norm = "none"
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding=kernel // 2)
        self.norm = nn.GroupNorm(GROUP_NORM_GROUPS, out_channels) if norm == "group" else None

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.norm is None else torch.as_tensor(self.norm(x))


def _number(name: str, convolutions: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Number convolutions `name`1, `name`2, … as in published checkpoints."""
    return {f"{name}{number}": convolution for number, convolution in enumerate(convolutions, 1)}


class BaseFeatures(nn.ModuleDict):
    """Applies the base layers, two convolutions with ReLU and max-pooling by 2; [B,C,T] → [B,base_channels,T/2]."""

    def __init__(self, config: A2NetConfig) -> None:
        inputs = (config.in_channels, config.base_channels)
        convolutions = [
            Convolution(c, config.base_channels, k, norm=config.norm) for c, k in zip(inputs, BASE_KERNELS, strict=True)
        ]
        super().__init__(_number("conv", convolutions))
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.values():
            x = F.dropout(F.relu(convolution(x)), self.dropout, self.training)
        return F.max_pool1d(x, 2)


class HierarchicalFeatures(nn.ModuleDict):
    """Applies base layers and levels; level 1 keeps the base layers' length, each further one halves the level before
    it."""

    def __init__(self, config: A2NetConfig) -> None:
        inputs = (config.base_channels, *config.level_channels)
        levels = [
            Convolution(c_in, c_out, stride=1 if level == 0 else 2, norm=config.norm)
            for level, (c_in, c_out) in enumerate(zip(inputs, config.level_channels, strict=False))
        ]
        super().__init__({BASE_NAMES[config.names]: BaseFeatures(config), **_number("conv", levels)})

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return the levels [B,C_level,t], fine to coarse."""
        base, *levels = self.values()
        x, outputs = base(features), []
        for convolution in levels:
            x = F.relu(convolution(x))
            outputs.append(x)
        return outputs


class Branch(nn.ModuleDict):
    """Predicts on every level with shared weights: convolutions with ReLU, then the prediction; [B,C,t] →
    [B,outputs,t]."""

    def __init__(self, channels: int, depth: int, outputs: int, norm: Norm) -> None:
        tower = [Convolution(channels, channels, norm=norm) for _ in range(depth)]
        super().__init__({**_number("conv", tower), "pred": Convolution(channels, outputs)})

    def forward(self, x: Tensor) -> Tensor:
        *tower, prediction = self.values()
        for convolution in tower:
            x = F.relu(convolution(x))
        return torch.as_tensor(prediction(x))


class Scale(nn.Module):
    """Scales the distances of one level: s·x, s learnable; without an exponential, so they can be negative."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return promote_to_float32(x) * self.scale


class AnchorFree(nn.Module):
    """Predicts for every point its class and its distances to start and end (anchor-free module)."""

    def __init__(self, config: A2NetConfig) -> None:
        super().__init__()
        levels, channels = config.layout.point_levels, config.head_channels
        self.reduce_channels = None
        if config.reduced_channels:
            reductions = [Convolution(c, channels, 1, norm=config.norm) for c in config.level_channels[:levels]]
            self.reduce_channels = nn.ModuleDict(_number("conv", reductions))
        heads = {"cls_branch": config.num_classes, "reg_branch": 2}
        self.pred = nn.ModuleDict(
            {name: Branch(channels, config.tower_depth, n, config.norm) for name, n in heads.items()}
        )
        first, spare = SCALE_NUMBERS[config.names]
        scales = [Scale() for _ in range(levels + spare)]
        for number, scale in enumerate(scales, first):
            self.add_module(f"scale{number}", scale)
        self._scales = [f"scale{number}" for number in range(first, first + levels)]

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map levels [B,C_level,t] to class logits [B,N,K] and distances [B,N,2] in units."""
        seen = list(levels[: len(self._scales)])
        if self.reduce_channels is not None:
            seen = [F.relu(reduce(x)) for reduce, x in zip(self.reduce_channels.values(), seen, strict=True)]
        logits = [self.pred["cls_branch"](x) for x in seen]
        distances = [
            self.get_submodule(name)(self.pred["reg_branch"](x)) for name, x in zip(self._scales, seen, strict=True)
        ]
        return promote_to_float32(torch.cat(logits, dim=2)).transpose(1, 2), torch.cat(distances, dim=2).transpose(1, 2)


class AnchorBased(nn.ModuleDict):
    """Predicts for every default anchor its classes, overlap, offset and width (anchor-based module)."""

    def __init__(self, config: A2NetConfig) -> None:
        width = config.layout.anchor_width
        predictions = [
            Convolution(channels, len(ratios) * width)
            for channels, ratios in zip(config.level_channels, config.layout.anchor_ratios, strict=True)
        ]
        super().__init__(_number("pred", predictions))
        self.width = width

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map levels [B,C_level,t] to [B,M,width], ordered by cell, then by ratio within a cell."""
        outputs = [
            prediction(x).transpose(1, 2).reshape(x.shape[0], -1, self.width)
            for prediction, x in zip(self.values(), levels, strict=True)
        ]
        return promote_to_float32(torch.cat(outputs, dim=1))


def _initialise(network: nn.Module) -> None:
    """Initialise convolutions He-uniform with zero bias, as released."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.kaiming_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
