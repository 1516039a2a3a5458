"""Pool a boundary region to one feature: boundary max pooling (AFSD section 3.3) and the alternatives of Table 2 e.

The paper says of the alternatives only that mean pooling takes the mean, and that "conv" and "stack" sample three
positions of each region. Here these are the region's first, middle and last cell; "conv" mixes them by a kernel-3
convolution that keeps the start's and the end's channels apart, "stack" concatenates them as channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from training.afsd.boundary_pooling import Backward, boundary_max_pooling, region_cells

Pooling = Literal["max", "mean", "conv", "stack"]

SAMPLES = 3
"""Number of positions of a region that "conv" and "stack" read."""


class RegionFeature(nn.Module):
    """Pools features [B,C,T] in regions [B,N,4] → [B,out_channels,N]; the first half of C reads starts, the second
    ends."""

    def __init__(self, channels: int, pooling: Pooling, backward: Backward) -> None:
        super().__init__()
        self.pooling, self.backward = pooling, backward
        self.out_channels = channels * SAMPLES if pooling == "stack" else channels
        self.mix = nn.Conv1d(channels, channels, SAMPLES, groups=2) if pooling == "conv" else None

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        if self.pooling == "max":
            return boundary_max_pooling(features, regions, self.backward)
        low, high = region_cells(regions, features.shape[2])
        if self.pooling == "mean":
            return _read(features, _membership(low, high, features.shape[2]))
        samples = torch.stack(
            [_read(features, _membership(at, at, features.shape[2])) for at in (low, (low + high) // 2, high)], dim=-1
        )
        batch, channels, count = samples.shape[:3]
        if self.mix is None:
            return samples.permute(0, 3, 1, 2).reshape(batch, SAMPLES * channels, count)
        rows = samples.transpose(1, 2).reshape(batch * count, channels, SAMPLES)
        mixed: Tensor = self.mix(rows)
        return mixed.reshape(batch, count, channels).transpose(1, 2)


def _membership(low: Tensor, high: Tensor, length: int) -> Tensor:
    """Return weights [B,2,T,N]: 1 / (cells of the region) in low..high [B,2,N], ends included, and 0 elsewhere."""
    cell = torch.arange(length, device=low.device)[:, None]
    inside = (cell >= low[:, :, None]) & (cell <= high[:, :, None])
    return inside / (high - low + 1)[:, :, None]


def _read(features: Tensor, weights: Tensor) -> Tensor:
    """Sum features [B,C,T] over time, each half of the channels with its own weights [B,2,T,N] → [B,C,N].

    The sum is a matrix product, which has a gradient and runs in every engine.
    """
    batch, channels, length = features.shape
    halves = features.reshape(batch, 2, channels // 2, length)
    return (halves @ weights.to(features.dtype)).reshape(batch, channels, weights.shape[3])
