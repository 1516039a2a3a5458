"""A2Net (Yang et al., TIP 2020): features to raw outputs of an anchor-free and an anchor-based module.

Base layers → hierarchical feature module → both modules on every level, under the names published checkpoints use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.a2net.config import A2NetConfig, Norm
from training.networks.layers import GROUP_NORM_GROUPS, at_least_float32, standardisation

BASE_KERNELS = (1, 9)
"""Kernels of the two base convolutions."""

BASE_NAMES = {"thumos14": "base_feature_net", "activitynet": "base"}

SCALE_NUMBERS = {"thumos14": (0, 1), "activitynet": (1, 0)}
"""Number of the first scale in its name, and how many scales there are beyond the levels: the THUMOS14 network has one
that nothing uses."""


class A2NetOutput(NamedTuple):
    """Raw outputs of one forward; None from a module that the network does not have."""

    af_cls: Tensor | None
    """[B,N,K] class logits of the points, background first; levels fine to coarse."""
    af_reg: Tensor | None
    """[B,N,2] distances from the point to start and end, in units (cells of the finest level); any sign."""
    ab: Tensor | None
    """[B,M,K+3] of the anchors: class logits, overlap, r_x, r_w; or [B,M,1], the overlap alone. Levels fine to coarse,
    then cells, then ratios."""


class A2Net(nn.Module):
    """Features [B,C,T] float32 (T = `window_steps`) → `A2NetOutput`."""

    def __init__(self, config: A2NetConfig) -> None:
        super().__init__()
        self.config = config
        if config.standardise:
            self.standardise = standardisation(config.in_channels)
        self.dropout = nn.Dropout(config.dropout)
        self.features = HierarchicalFeatures(config)
        self.af = None if config.modules == "anchor-based" else AnchorFree(config)
        self.ab = None if config.modules == "anchor-free" else AnchorBased(config)
        _initialise(self)

    def forward(self, features: Tensor) -> A2NetOutput:
        """Raw outputs of a batch of windows."""
        return self.predict(self.levels(features))

    def levels(self, features: Tensor) -> list[Tensor]:
        """Levels [B,C_level,t] of the hierarchical feature module, fine to coarse."""
        if self.config.standardise:
            features = self.standardise(features)
        levels: list[Tensor] = self.features(self.dropout(features))
        return levels

    def predict(self, levels: Sequence[Tensor]) -> A2NetOutput:
        """What both modules say of the levels."""
        af_cls, af_reg = (None, None) if self.af is None else self.af(levels)
        return A2NetOutput(af_cls, af_reg, None if self.ab is None else self.ab(levels))


class Convolution(nn.Conv1d):
    """Biased, with the same padding on both sides (unlike AFSD's, whose odd zero goes to the back); with or without
    GroupNorm behind it."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, *, norm: Norm = "none"
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding=kernel // 2)
        self.norm = nn.GroupNorm(GROUP_NORM_GROUPS, out_channels) if norm == "group" else None

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.norm is None else torch.as_tensor(self.norm(x))


def _number(name: str, convolutions: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """`name`1, `name`2, … as the checkpoints call them."""
    return {f"{name}{number}": convolution for number, convolution in enumerate(convolutions, 1)}


class BaseFeatures(nn.ModuleDict):
    """Base layers: two convolutions with ReLU, then max-pooling by 2; [B,C,T] → [B,base_channels,T/2]."""

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
    """Base layers and levels; level 1 keeps their length, each further one halves the level before it."""

    def __init__(self, config: A2NetConfig) -> None:
        inputs = (config.base_channels, *config.level_channels)
        levels = [
            Convolution(c_in, c_out, stride=1 if level == 0 else 2, norm=config.norm)
            for level, (c_in, c_out) in enumerate(zip(inputs, config.level_channels, strict=False))
        ]
        super().__init__({BASE_NAMES[config.names]: BaseFeatures(config), **_number("conv", levels)})

    def forward(self, features: Tensor) -> list[Tensor]:
        """Levels [B,C_level,t], fine to coarse."""
        base, *levels = self.values()
        x, outputs = base(features), []
        for convolution in levels:
            x = F.relu(convolution(x))
            outputs.append(x)
        return outputs


class Branch(nn.ModuleDict):
    """A head shared over levels: convolutions with ReLU, then the prediction; [B,C,t] → [B,outputs,t]."""

    def __init__(self, channels: int, depth: int, outputs: int, norm: Norm) -> None:
        tower = [Convolution(channels, channels, norm=norm) for _ in range(depth)]
        super().__init__({**_number("conv", tower), "pred": Convolution(channels, outputs)})

    def forward(self, x: Tensor) -> Tensor:
        *tower, prediction = self.values()
        for convolution in tower:
            x = F.relu(convolution(x))
        return torch.as_tensor(prediction(x))


class Scale(nn.Module):
    """Distances of one level: s·x, s learnable; no exponential, so they can be negative."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return at_least_float32(x) * self.scale


class AnchorFree(nn.Module):
    """Anchor-free module: for every point its class and its distances to start and end."""

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
        """Levels [B,C_level,t] → class logits [B,N,K] and distances [B,N,2] in units."""
        seen = list(levels[: len(self._scales)])
        if self.reduce_channels is not None:
            seen = [F.relu(reduce(x)) for reduce, x in zip(self.reduce_channels.values(), seen, strict=True)]
        logits = [self.pred["cls_branch"](x) for x in seen]
        distances = [
            self.get_submodule(name)(self.pred["reg_branch"](x)) for name, x in zip(self._scales, seen, strict=True)
        ]
        return at_least_float32(torch.cat(logits, dim=2)).transpose(1, 2), torch.cat(distances, dim=2).transpose(1, 2)


class AnchorBased(nn.ModuleDict):
    """Anchor-based module: for every default anchor its classes, overlap, offset and width, level by level."""

    def __init__(self, config: A2NetConfig) -> None:
        width = config.layout.anchor_width
        predictions = [
            Convolution(channels, len(ratios) * width)
            for channels, ratios in zip(config.level_channels, config.layout.anchor_ratios, strict=True)
        ]
        super().__init__(_number("pred", predictions))
        self.width = width

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels [B,C_level,t] → [B,M,width]: cell by cell, and ratio by ratio within a cell."""
        outputs = [
            prediction(x).transpose(1, 2).reshape(x.shape[0], -1, self.width)
            for prediction, x in zip(self.values(), levels, strict=True)
        ]
        return at_least_float32(torch.cat(outputs, dim=1))


def _initialise(network: nn.Module) -> None:
    """He-uniform convolutions with zero bias, as released."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.kaiming_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
