"""Define coarse heads and saliency-based refinement branches, shared over pyramid levels (AFSD sections 3.2, 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.afsd.config import ModelConfig
from training.afsd.region_features import SAMPLES, RegionFeature
from training.networks.layers import Unit1D, group_norm_unit, promote_to_float32


class ScaleExp(nn.Module):
    """Computes the distances of one level: exp(s·x), s learnable, times the level's unit in frames."""

    def __init__(self, unit: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.unit = unit

    def forward(self, x: Tensor) -> Tensor:
        distances = torch.exp(promote_to_float32(x) * self.scale)
        return distances if self.unit == 1.0 else distances * self.unit


def tower(channels: int) -> nn.Sequential:
    """Build two kernel-3 units on a level's feature [B,channels,t]; localisation and classification have a tower
    each."""
    return nn.Sequential(*(group_norm_unit(Unit1D(channels, channels, 3), channels) for _ in range(2)))


class ProposalBranch(nn.Module):
    """Refines proposals: mixes boundary-pooled features and the location's own by a 1×1 unit (Eq. 5).

    They are concatenated in the order [frame-level pooled, level pooled, own feature]; the ablations of Table 2 d leave
    out the first, the second or both.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, pooled = config.head_channels, 0
        self.cur_point_conv = group_norm_unit(Unit1D(channels, channels, 1), channels)
        self.lr_conv, self.roi_conv, self.level_feature = None, None, None
        if config.pools_levels:
            self.lr_conv = group_norm_unit(Unit1D(channels, 2 * channels, 1), 2 * channels)
            self.level_feature = RegionFeature(2 * channels, config.pooling, config.pooling_backward)
            pooled += self.level_feature.out_channels
        if config.pools_frames:
            frame_channels = channels * (SAMPLES if config.pooling == "stack" else 1)
            self.roi_conv = group_norm_unit(Unit1D(frame_channels, channels, 1), channels)
            pooled += channels
        self.proposal_conv = group_norm_unit(Unit1D(pooled + channels, channels, 1), channels)

    def boundary_feature(self, x: Tensor) -> Tensor | None:
        """Map the tower feature [B,C,t] to [B,2C,t]: first half for starts, second for ends (None: not pooled)."""
        return None if self.lr_conv is None else self.lr_conv(x)

    def forward(self, x: Tensor, regions: Tensor, frame_pooled: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the refined feature of one level, and its boundary feature.

        Args:
            x: tower feature [B,C,t].
            regions: level-scale regions [B,t,4].
            frame_pooled: the frame-level feature pooled in frame-scale regions [B,C,t] (3C of stacked samples), shared
                by both branches. None without frame-level pooling.

        Returns:
            [B,C,t] and `boundary_feature(x)`.
        """
        boundary = self.boundary_feature(x)
        parts = []
        if self.roi_conv is not None:
            parts.append(self.roi_conv(frame_pooled))
        if self.level_feature is not None:
            parts.append(self.level_feature(boundary, regions))
        parts.append(self.cur_point_conv(x))
        refined: Tensor = self.proposal_conv(torch.cat(parts, dim=1))
        return refined, boundary
