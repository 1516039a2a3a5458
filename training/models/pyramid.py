"""The feature pyramid and the two-stage head on it: coarse proposals, pooling, refinement (AFSD sections 3.2–3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import ModelConfig
from training.models.boundary_pooling import boundary_max_pooling
from training.models.heads import ProposalBranch, ScaleExp, tower
from training.models.i3d import STRIDE_4F, STRIDE_5C, Endpoints, mixed_output
from training.models.layers import Unit1D, Unit3D, at_least_float32, normalised
from training.models.regions import frame_regions, level_regions, location_priors


class AfsdOutput(NamedTuple):
    """Raw outputs of one forward; N locations over all levels, K classes with the background first."""

    loc: Tensor
    """[B,N,2] coarse distances to start and end, frames, positive."""
    conf: Tensor
    """[B,N,K] coarse class logits."""
    prop_loc: Tensor
    """[B,N,2] refined offsets Δ in units of half the coarse width."""
    prop_conf: Tensor
    """[B,N,K] refined class logits."""
    center: Tensor
    """[B,N,1] quality logit."""


class BoundaryFeatures(NamedTuple):
    """What boundary consistency learning looks at (section 3.4); first half of the channels = start, second = end."""

    frame: Tensor
    """F [B,C,T]"""
    loc: Tensor
    """[B,2C,t₀] of the localisation branch at level 0."""
    conf: Tensor
    """[B,2C,t₀] of the classification branch at level 0."""


class CoarsePyramid(nn.Module):
    """Endpoints of the backbone → raw outputs, and on demand the features consistency learning needs."""

    priors: Tensor
    """[N] centres of the locations as fractions of the clip; not part of the state dict."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, classes = config.head_channels, config.num_classes
        self.clip_length, self.refinement = config.clip_length, config.refinement
        self.pooling_backward = config.pooling_backward
        self.pyramids = nn.ModuleList(normalised(conv, channels) for conv in _level_convolutions(config))
        self.loc_heads = nn.ModuleList(ScaleExp(unit) for unit in config.level_units)
        self.loc_tower, self.conf_tower = tower(channels), tower(channels)
        self.loc_head = Unit1D(channels, 2, 3)
        self.conf_head = Unit1D(channels, classes, 3)
        if config.refinement == "all":
            self.loc_proposal_branch = ProposalBranch(channels, config.pooling_backward)
            self.conf_proposal_branch = ProposalBranch(channels, config.pooling_backward)
            self.prop_loc_head = Unit1D(channels, 2, 1)
            self.prop_conf_head = Unit1D(channels, classes, 1)
        self.center_head = Unit1D(channels, 1, 3)
        if config.refinement == "all":
            units = (normalised(Unit1D(channels, channels, kernel), channels) for kernel in (3, 3, 1))
            self.deconv = nn.Sequential(*(layer for unit in units for layer in unit))
        self.register_buffer("priors", location_priors(config.level_lengths), persistent=False)
        self.apply(_initialise)

    def levels(self, endpoints: Endpoints) -> list[Tensor]:
        """Pyramid features [B,C,t] from fine to coarse; level 1 is added into level 0 at twice its rate."""
        first = self.pyramids[0](endpoints.mixed_4f).flatten(2)
        second = self.pyramids[1](endpoints.mixed_5c).flatten(2)
        levels = [first + F.interpolate(second, size=first.shape[2], mode="nearest"), second]
        for layer in self.pyramids[2:]:
            levels.append(layer(levels[-1]))
        return levels

    def frame_level(self, level0: Tensor) -> Tensor:
        """The frame-level feature F: level 0 repeated to T frames, then three units → [B,C,T]."""
        frame: Tensor = self.deconv(F.interpolate(level0, size=self.clip_length, mode="nearest"))
        return frame

    def boundary_features(self, endpoints: Endpoints) -> BoundaryFeatures:
        """The features of consistency learning alone; the only path the contrastive clip takes."""
        level0 = self.levels(endpoints)[0]
        return BoundaryFeatures(
            self.frame_level(level0),
            self.loc_proposal_branch.boundary_feature(self.loc_tower(level0)),
            self.conf_proposal_branch.boundary_feature(self.conf_tower(level0)),
        )

    def forward(self, endpoints: Endpoints) -> tuple[AfsdOutput, BoundaryFeatures | None]:
        """Raw outputs, and the boundary features that were computed on the way (None without refinement)."""
        levels = self.levels(endpoints)
        loc_features = [self.loc_tower(level) for level in levels]
        conf_features = [self.conf_tower(level) for level in levels]
        distances = [
            scale(self.loc_head(x)).transpose(1, 2) for scale, x in zip(self.loc_heads, loc_features, strict=True)
        ]
        loc = torch.cat(distances, dim=1)
        conf = _concatenated(self.conf_head, conf_features)
        if self.refinement == "none":
            center = _concatenated(self.center_head, loc_features)
            return AfsdOutput(loc, conf, torch.zeros_like(loc), conf, center), None
        frame = self.frame_level(levels[0])
        loc_boundary = [self.loc_proposal_branch.boundary_feature(x) for x in loc_features]
        conf_boundary = [self.conf_proposal_branch.boundary_feature(x) for x in conf_features]
        with torch.no_grad():
            regions = [level_regions(d, self.clip_length) for d in distances]
            around = frame_regions(loc, self.priors, self.clip_length)
        pooled = torch.split(
            boundary_max_pooling(frame, around, self.pooling_backward), [x.shape[2] for x in levels], dim=2
        )
        loc_refined = list(map(self.loc_proposal_branch, loc_features, loc_boundary, regions, pooled))
        conf_refined = list(map(self.conf_proposal_branch, conf_features, conf_boundary, regions, pooled))
        output = AfsdOutput(
            loc,
            conf,
            _concatenated(self.prop_loc_head, loc_refined),
            _concatenated(self.prop_conf_head, conf_refined),
            _concatenated(self.center_head, loc_refined),
        )
        return output, BoundaryFeatures(frame, loc_boundary[0], conf_boundary[0])


def _level_convolutions(config: ModelConfig) -> list[nn.Module]:
    """Levels 0 and 1 squeeze the endpoints' space away; each further one halves the level before it."""
    channels, multiplier = config.head_channels, config.backbone_multiplier
    space_4f, space_5c = -(-config.crop_size // STRIDE_4F), -(-config.crop_size // STRIDE_5C)
    first = Unit3D(mixed_output("Mixed_4f", multiplier), channels, (1, space_4f, space_4f), batch_norm=False)
    second = Unit3D(mixed_output("Mixed_5c", multiplier), channels, (1, space_5c, space_5c), batch_norm=False)
    return [first, second, *(Unit1D(channels, channels, 3, 2) for _ in range(config.num_levels - 2))]


def _concatenated(head: nn.Module, features: list[Tensor]) -> Tensor:
    """A head on every level [B,C,t] → [B,N,outputs]."""
    return at_least_float32(torch.cat([head(x) for x in features], dim=2)).transpose(1, 2)


def _initialise(module: nn.Module) -> None:
    """Glorot-uniform convolutions with zero bias; the released code sets no prior on the background."""
    if isinstance(module, (nn.Conv1d, nn.Conv3d)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
