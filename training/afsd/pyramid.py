"""Define the feature pyramid and its two-stage head: coarse proposals, pooling, refinement (AFSD sections 3.2–3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.afsd.config import ModelConfig
from training.afsd.heads import ProposalBranch, ScaleExp, tower
from training.afsd.projection import ProjectedFeatures
from training.afsd.region_features import RegionFeature
from training.afsd.regions import frame_regions, level_regions, location_priors
from training.networks.i3d import STRIDE_4F, STRIDE_5C, Endpoints, mixed_output
from training.networks.layers import Unit1D, Unit3D, group_norm_unit, promote_to_float32


class AfsdOutput(NamedTuple):
    """Holds the raw outputs of one forward pass; N locations over all levels, K classes, background first."""

    loc: Tensor
    """Coarse distances to start and end [B,N,2], frames, positive."""
    conf: Tensor
    """Coarse class logits [B,N,K]."""
    prop_loc: Tensor
    """Refined offsets Δ [B,N,2], in units of half the coarse width."""
    prop_conf: Tensor
    """Refined class logits [B,N,K]."""
    center: Tensor
    """Quality logits [B,N,1]."""


class BoundaryFeatures(NamedTuple):
    """Holds the features for boundary consistency learning (section 3.4); first half of the channels start, second end.

    A feature that the refinement does not pool is None.
    """

    frame: Tensor | None
    """Frame-level feature F [B,C,T]."""
    loc: Tensor | None
    """Boundary feature [B,2C,t₀] of the localisation branch at level 0."""
    conf: Tensor | None
    """Boundary feature [B,2C,t₀] of the classification branch at level 0."""


class CoarsePyramid(nn.Module):
    """Maps the backbone's endpoints or projected features to raw outputs and features for consistency learning."""

    priors: Tensor
    """Centres of the locations [N] as fractions of the clip; not part of the state dict."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, classes = config.head_channels, config.num_classes
        self.config, self.clip_length = config, config.clip_length
        self.pyramids = nn.ModuleList(group_norm_unit(conv, channels) for conv in _level_convolutions(config))
        self.loc_heads = nn.ModuleList(ScaleExp(unit) for unit in config.level_units)
        self.loc_tower, self.conf_tower = tower(channels), tower(channels)
        self.loc_head = Unit1D(channels, 2, 3)
        self.conf_head = Unit1D(channels, classes, 3)
        if config.refinement != "none":
            self.loc_proposal_branch = ProposalBranch(config)
            self.conf_proposal_branch = ProposalBranch(config)
            self.prop_loc_head = Unit1D(channels, 2, 1)
            self.prop_conf_head = Unit1D(channels, classes, 1)
        self.center_head = None if config.quality == "none" else Unit1D(channels, 1, 3)
        self.deconv, self.frame_feature = None, None
        if config.pools_frames:
            units = (group_norm_unit(Unit1D(channels, channels, kernel), channels) for kernel in (3, 3, 1))
            self.deconv = nn.Sequential(*(layer for unit in units for layer in unit))
            self.frame_feature = RegionFeature(channels, config.pooling, config.pooling_backward)
        self.register_buffer("priors", location_priors(config.level_lengths), persistent=False)
        _initialise(self, config)

    def levels(self, endpoints: Endpoints | ProjectedFeatures) -> list[Tensor]:
        """Return pyramid features [B,C,t], fine to coarse; on two endpoints level 1, repeated, is added into level
        0."""
        if isinstance(endpoints, ProjectedFeatures):
            levels = [self.pyramids[0](endpoints.steps)]
        elif self.config.endpoints == "5c":
            levels = [self.pyramids[0](endpoints.mixed_5c).flatten(2)]
        else:
            first = self.pyramids[0](endpoints.mixed_4f).flatten(2)
            second = self.pyramids[1](endpoints.mixed_5c).flatten(2)
            levels = [first + F.interpolate(second, size=first.shape[2], mode="nearest"), second]
        for layer in self.pyramids[len(levels) :]:
            levels.append(layer(levels[-1]))
        return levels

    def frame_level(self, level0: Tensor) -> Tensor | None:
        """Compute the frame-level feature F [B,C,T]: level 0 repeated to T frames, then three units (None: not
        pooled)."""
        if self.deconv is None:
            return None
        frame: Tensor = self.deconv(F.interpolate(level0, size=self.clip_length, mode="nearest"))
        return frame

    def boundary_features(self, endpoints: Endpoints | ProjectedFeatures) -> BoundaryFeatures:
        """Compute only the features for consistency learning; all that a contrastive clip needs."""
        level0 = self.levels(endpoints)[0]
        return BoundaryFeatures(
            self.frame_level(level0),
            self.loc_proposal_branch.boundary_feature(self.loc_tower(level0)),
            self.conf_proposal_branch.boundary_feature(self.conf_tower(level0)),
        )

    def forward(self, endpoints: Endpoints | ProjectedFeatures) -> tuple[AfsdOutput, BoundaryFeatures | None]:
        """Return raw outputs, and the boundary features that were computed on the way (None without refinement)."""
        levels = self.levels(endpoints)
        loc_features = [self.loc_tower(level) for level in levels]
        conf_features = [self.conf_tower(level) for level in levels]
        distances = [
            scale(self.loc_head(x)).transpose(1, 2) for scale, x in zip(self.loc_heads, loc_features, strict=True)
        ]
        loc = torch.cat(distances, dim=1)
        conf = _concatenate(self.conf_head, conf_features)
        if self.config.refinement == "none":
            return AfsdOutput(loc, conf, torch.zeros_like(loc), conf, self._quality(loc_features, loc)), None
        frame = self.frame_level(levels[0])
        regions, pooled = self._regions(distances), self._pool_frames(frame, loc)
        loc_refined, loc_boundary = zip(*map(self.loc_proposal_branch, loc_features, regions, pooled), strict=True)
        conf_refined, conf_boundary = zip(*map(self.conf_proposal_branch, conf_features, regions, pooled), strict=True)
        output = AfsdOutput(
            loc,
            conf,
            _concatenate(self.prop_loc_head, loc_refined),
            _concatenate(self.prop_conf_head, conf_refined),
            self._quality(loc_refined, loc),
        )
        return output, BoundaryFeatures(frame, loc_boundary[0], conf_boundary[0])

    @torch.no_grad()
    def _regions(self, distances: Sequence[Tensor]) -> list[Tensor]:
        """Return the level-scale regions [B,t,4] of every level."""
        return [level_regions(d, self.clip_length, self.config.region_divisors) for d in distances]

    def _pool_frames(self, frame: Tensor | None, loc: Tensor) -> Sequence[Tensor | None]:
        """Pool the frame-level feature in all frame-scale regions, level by level (None: not pooled)."""
        lengths = list(self.config.level_lengths)
        if frame is None or self.frame_feature is None:
            return [None] * len(lengths)
        with torch.no_grad():
            regions = frame_regions(loc, self.priors, self.clip_length, self.config.region_divisors)
        return torch.split(self.frame_feature(frame, regions), lengths, dim=2)

    def _quality(self, features: Sequence[Tensor], loc: Tensor) -> Tensor:
        """Return quality logits [B,N,1], or zeros without the head; decoding then leaves the quality out."""
        if self.center_head is None:
            return torch.zeros_like(loc[..., :1])
        return _concatenate(self.center_head, features)


def _level_convolutions(config: ModelConfig) -> list[nn.Module]:
    """Build a convolution per level: the first ones reduce an endpoint over space, the others halve the level before.

    On features the first is a plain 1-D convolution.
    """
    channels, size = config.head_channels, config.crop_size
    if config.stream == "features":
        return [Unit1D(channels, channels, 3, 1 if level == 0 else 2) for level in range(config.num_levels)]
    endpoints = (
        {"Mixed_4f": STRIDE_4F, "Mixed_5c": STRIDE_5C} if config.endpoints == "4f+5c" else {"Mixed_5c": STRIDE_5C}
    )
    convolutions: list[nn.Module] = []
    for name, stride in endpoints.items():
        space = -(-size // stride)
        inputs = mixed_output(name, config.backbone_multiplier)
        convolutions.append(Unit3D(inputs, channels, (1, space, space), batch_norm=False))
    return convolutions + [Unit1D(channels, channels, 3, 2) for _ in range(config.num_levels - len(convolutions))]


def _concatenate(head: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """Apply a head to every level [B,C,t] and concatenate the outputs [B,N,outputs]."""
    return promote_to_float32(torch.cat([head(x) for x in features], dim=2)).transpose(1, 2)


HEAD_DEVIATION = 0.01
"""Standard deviation of the "normal" initial weights (released ActivityNet code)."""

GLOROT_ALWAYS = ("pyramids", "deconv")
"""Parts that are initialised Glorot-uniform under either setting."""


def _initialise(pyramid: CoarsePyramid, config: ModelConfig) -> None:
    """Initialise convolutions Glorot-uniform or normal, with zero bias; the released code sets no background prior."""
    for name, module in pyramid.named_modules():
        if not isinstance(module, (nn.Conv1d, nn.Conv3d)):
            continue
        if config.head_initial == "glorot" or name.startswith(GLOROT_ALWAYS):
            nn.init.xavier_uniform_(module.weight)
        else:
            nn.init.normal_(module.weight, std=HEAD_DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
