"""Coarse heads and the saliency-based refinement branches (AFSD sections 3.2 and 3.3), shared over pyramid levels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.models.boundary_pooling import Backward, boundary_max_pooling
from training.models.layers import Unit1D, at_least_float32, normalised


class ScaleExp(nn.Module):
    """Distances of one level: exp(s·x), s learnable, times the level's unit in frames."""

    def __init__(self, unit: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.unit = unit

    def forward(self, x: Tensor) -> Tensor:
        distances = torch.exp(at_least_float32(x) * self.scale)
        return distances if self.unit == 1.0 else distances * self.unit


def tower(channels: int) -> nn.Sequential:
    """Two kernel-3 units on a level's feature [B,channels,t]; one tower serves localisation, one classification."""
    return nn.Sequential(*(normalised(Unit1D(channels, channels, 3), channels) for _ in range(2)))


class ProposalBranch(nn.Module):
    """One refinement branch: boundary-pooled features beside the location's own, mixed by a 1×1 unit (Eq. 5).

    Concatenated in the order [frame-level pooled, level pooled, own feature].
    """

    def __init__(self, channels: int, backward: Backward) -> None:
        super().__init__()
        self.backward = backward
        self.cur_point_conv = normalised(Unit1D(channels, channels, 1), channels)
        self.lr_conv = normalised(Unit1D(channels, 2 * channels, 1), 2 * channels)
        self.roi_conv = normalised(Unit1D(channels, channels, 1), channels)
        self.proposal_conv = normalised(Unit1D(4 * channels, channels, 1), channels)

    def boundary_feature(self, x: Tensor) -> Tensor:
        """Tower feature [B,C,t] → [B,2C,t]: the first half stands for starts, the second for ends."""
        feature: Tensor = self.lr_conv(x)
        return feature

    def forward(self, x: Tensor, boundary: Tensor, regions: Tensor, frame_pooled: Tensor) -> Tensor:
        """Refined feature of one level.

        Args:
            x: tower feature [B,C,t].
            boundary: `boundary_feature(x)`, [B,2C,t].
            regions: level-scale regions [B,t,4].
            frame_pooled: the frame-level feature pooled over frame-scale regions [B,C,t]; the same for both branches.

        Returns:
            [B,C,t].
        """
        level_pooled = boundary_max_pooling(boundary, regions, self.backward)
        parts = (self.roi_conv(frame_pooled), level_pooled, self.cur_point_conv(x))
        refined: Tensor = self.proposal_conv(torch.cat(parts, dim=1))
        return refined
