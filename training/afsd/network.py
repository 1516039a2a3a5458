"""Assemble AFSD: I3D backbone or projection of features, pyramid and heads, under the published names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.afsd.config import ModelConfig
from training.afsd.projection import FeatureProjection, ProjectedFeatures
from training.afsd.pyramid import AfsdOutput, BoundaryFeatures, CoarsePyramid
from training.afsd.stem import set_motion_energy_filters
from training.networks.i3d import ENDPOINT_RATES, Backbone, Endpoints


class AFSD(nn.Module):
    """Detects actions anchor-free in frames [B,C,T,H,W] in [−1,1], or features [B,C,T] (Lin et al., CVPR 2021)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.coarse_pyramid_detection: CoarsePyramid = CoarsePyramid(config)
        self.backbone: Backbone | FeatureProjection = _backbone(config)

    def forward(self, frames: Tensor) -> AfsdOutput:
        """Return the raw outputs, as inference and export need them."""
        output: AfsdOutput = self.coarse_pyramid_detection(self._features(frames))[0]
        return output

    def _features(self, frames: Tensor) -> Endpoints | ProjectedFeatures:
        """Return the backbone's features of clips; of longer ones those of the clip in the middle, which then saw its
        neighbours in place of zeros, as in a streaming network."""
        features: Endpoints | ProjectedFeatures = self.backbone(frames)
        border = (frames.shape[2] - self.config.clip_length) // 2
        if not border or not isinstance(features, Endpoints):
            return features
        parts = (
            part.narrow(2, border // rate, self.config.clip_length // rate)
            for part, rate in zip(features, ENDPOINT_RATES, strict=True)
        )
        return Endpoints(*parts)

    def detect(
        self, frames: Tensor, contrastive: Tensor | None = None
    ) -> tuple[AfsdOutput, BoundaryFeatures | None, BoundaryFeatures | None]:
        """Return what the losses need, with all clips in one pass through the backbone.

        Args:
            frames: [B,C,T,H,W] in [−1,1], with borders of equal length (`ClipDataset`) or none; or features [B,C,T].
            contrastive: [M,C,T,H,W] or [M,C,T], rearranged clips for boundary consistency learning (section 3.4).

        Returns:
            Raw outputs and boundary features of `frames` (None without refinement), and the boundary features alone of
            `contrastive` (None without any).
        """
        head = self.coarse_pyramid_detection
        if contrastive is None or not len(contrastive):
            return *head(self._features(frames)), None
        endpoints = self._features(torch.cat((frames, contrastive)))
        lengths = [len(frames), len(contrastive)]
        clips, rearranged = (
            type(endpoints)(*parts) for parts in zip(*(torch.split(e, lengths) for e in endpoints), strict=True)
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
