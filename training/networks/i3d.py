"""Define I3D (Inception-v1 inflated to 3-D; Carreira and Zisserman, CVPR 2017) up to Mixed_5c, AFSD's backbone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.networks.layers import SamePool3d, Unit3D

CHANNEL_QUANTUM = 8
"""Multiple to which scaled channel counts are rounded; every published count is such a multiple."""

MIXED_CHANNELS: dict[str, tuple[int, int, int, int, int, int]] = {
    # Outputs of the units b0, b1a, b1b, b2a, b2b, b3b.
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}

FIRST_LAYER = "Conv3d_1a_7x7.conv3d.weight"
"""Name of the first convolution's weights in a state dict."""

STRIDE_4F, STRIDE_5C = 16, 32
"""Spatial strides of the endpoints Mixed_4f and Mixed_5c; their temporal strides are 4 and 8."""


ENDPOINT_RATES = (4, 8)
"""Frames per position of Mixed_4f and Mixed_5c."""

STREAM_BORDER = 56
"""Frames beyond either end of a clip on which its endpoints depend, rounded up to a multiple of 8."""


class Endpoints(NamedTuple):
    """Holds the two feature maps the pyramid is built on."""

    mixed_4f: Tensor
    """Feature map [B, 832·m, T/4, H/16, W/16], m the channel multiplier."""
    mixed_5c: Tensor
    """Feature map [B, 1024·m, T/8, H/32, W/32]."""


def scale_channels(channels: int, multiplier: float) -> int:
    """Multiply a published channel count and round it to a multiple of 8 (at least 8)."""
    return max(CHANNEL_QUANTUM, round(channels * multiplier / CHANNEL_QUANTUM) * CHANNEL_QUANTUM)


def mixed_output(name: str, multiplier: float) -> int:
    """Return the output channels of a Mixed block."""
    b0, _, b1b, _, b2b, b3b = (scale_channels(c, multiplier) for c in MIXED_CHANNELS[name])
    return b0 + b1b + b2b + b3b


class Mixed(nn.Module):
    """Concatenates the four branches of an Inception block on one input [B,C,T,H,W], in the order b0, b1, b2, b3."""

    def __init__(self, in_channels: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = channels
        self.b0 = Unit3D(in_channels, b0, (1, 1, 1))
        self.b1a = Unit3D(in_channels, b1a, (1, 1, 1))
        self.b1b = Unit3D(b1a, b1b, (3, 3, 3))
        self.b2a = Unit3D(in_channels, b2a, (1, 1, 1))
        self.b2b = Unit3D(b2a, b2b, (3, 3, 3))
        self.b3a = SamePool3d((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(in_channels, b3b, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))), dim=1)


class I3D(nn.Module):
    """Maps frames [B,C,T,H,W] in [−1,1] to the endpoints Mixed_4f and Mixed_5c; `multiplier` 1 is the published
    network."""

    def __init__(self, in_channels: int = 3, multiplier: float = 1.0) -> None:
        super().__init__()
        stem, wide = scale_channels(64, multiplier), scale_channels(192, multiplier)
        self.Conv3d_1a_7x7 = Unit3D(in_channels, stem, (7, 7, 7), (2, 2, 2))
        self.MaxPool3d_2a_3x3 = SamePool3d((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(stem, stem, (1, 1, 1))
        self.Conv3d_2c_3x3 = Unit3D(stem, wide, (3, 3, 3))
        self.MaxPool3d_3a_3x3 = SamePool3d((1, 3, 3), (1, 2, 2))
        before = wide
        for name, channels in MIXED_CHANNELS.items():
            if name == "Mixed_4b":
                self.MaxPool3d_4a_3x3 = SamePool3d((3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                self.MaxPool3d_5a_2x2 = SamePool3d((2, 2, 2), (2, 2, 2))
            self.add_module(name, Mixed(before, tuple(scale_channels(c, multiplier) for c in channels)))
            before = mixed_output(name, multiplier)

    def endpoints(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield name and output of every layer in order, for parity tests and calibration."""
        for name, layer in self.named_children():
            x = layer(x)
            yield name, x

    def forward(self, x: Tensor) -> Endpoints:
        wanted = {name: value for name, value in self.endpoints(x) if name in ("Mixed_4f", "Mixed_5c")}
        return Endpoints(wanted["Mixed_4f"], wanted["Mixed_5c"])


class Backbone(nn.Module):
    """Wraps the I3D under the name of published AFSD checkpoints; trained, frozen, or with frozen batch norms.

    The published training starts from Kinetics weights and keeps every BatchNorm in eval mode (`freeze_batch_norm`)
    with its affine parameters fixed; a network trained from scratch needs both free.
    """

    def __init__(self, in_channels: int, multiplier: float, *, freeze_batch_norm: bool, frozen: bool = False) -> None:
        super().__init__()
        self._model = I3D(in_channels, multiplier)
        self.freeze_batch_norm = freeze_batch_norm or frozen
        if frozen:
            self.requires_grad_(False)
        for norm in self._frozen_norms():
            norm.requires_grad_(False)

    def _frozen_norms(self) -> list[nn.BatchNorm3d]:
        if not self.freeze_batch_norm:
            return []
        return [module for module in self._model.modules() if isinstance(module, nn.BatchNorm3d)]

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for norm in self._frozen_norms():
            norm.eval()
        return self

    def forward(self, frames: Tensor) -> Endpoints:
        """Map frames [B,C,T,H,W] in [−1,1] to the endpoints."""
        endpoints: Endpoints = self._model(frames)
        return endpoints
