"""Assemble AFSD: I3D backbone or projection of features, pyramid and heads, under the published names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.afsd.config import ModelConfig
from training.afsd.projection import FeatureProjection
from training.afsd.pyramid import AfsdOutput, BoundaryFeatures, CoarsePyramid
from training.afsd.stem import set_motion_energy_filters
from training.networks.i3d import Backbone


class AFSD(nn.Module):
    """Detects actions anchor-free in frames [B,C,T,H,W] in [−1,1], or features [B,C,T] (Lin et al., CVPR 2021)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.coarse_pyramid_detection: CoarsePyramid = CoarsePyramid(config)
        self.backbone: Backbone | FeatureProjection = _backbone(config)

    def forward(self, frames: Tensor) -> AfsdOutput:
        """Return the raw outputs, as inference and export need them."""
        output: AfsdOutput = self.coarse_pyramid_detection(self.backbone(frames))[0]
        return output

    def detect(
        self, frames: Tensor, contrastive: Tensor | None = None
    ) -> tuple[AfsdOutput, BoundaryFeatures | None, BoundaryFeatures | None]:
        """Return what the losses need, with all clips in one pass through the backbone.

        Args:
            frames: [B,C,T,H,W] in [−1,1], or features [B,C,T].
            contrastive: [M,C,T,H,W] or [M,C,T], rearranged clips for boundary consistency learning (section 3.4).

        Returns:
            Raw outputs and boundary features of `frames` (None without refinement), and the boundary features alone of
            `contrastive` (None without any).
        """
        head = self.coarse_pyramid_detection
        if contrastive is None or not len(contrastive):
            return *head(self.backbone(frames)), None
        endpoints = self.backbone(torch.cat((frames, contrastive)))
        clips, rearranged = (
            type(endpoints)(*parts)
            for parts in zip(*(e.split([len(frames), len(contrastive)]) for e in endpoints), strict=True)
        )
        return *head(clips), head.boundary_features(rearranged)


def _backbone(config: ModelConfig) -> Backbone | FeatureProjection:
    if config.stream == "features":
        return FeatureProjection(config)
    backbone = Backbone(
        config.in_channels,
        config.backbone_multiplier,
        freeze_batch_norm=config.freeze_batch_norm,
        frozen=config.freeze_backbone,
    )
    if config.stem == "motion":
        set_motion_energy_filters(backbone._model.Conv3d_1a_7x7.conv3d)
    return backbone
