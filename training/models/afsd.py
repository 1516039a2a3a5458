"""AFSD assembled: I3D backbone, pyramid and heads, under the names published checkpoints use."""

from __future__ import annotations

from torch import Tensor, nn

from training.config import ModelConfig
from training.models.i3d import Backbone
from training.models.pyramid import AfsdOutput, BoundaryFeatures, CoarsePyramid
from training.models.stem import motion_energy_filters


class AFSD(nn.Module):
    """Anchor-free saliency-based detector (Lin et al., CVPR 2021). Frames [B,C,T,H,W] float in [−1,1]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.coarse_pyramid_detection: CoarsePyramid = CoarsePyramid(config)
        self.backbone = Backbone(
            config.in_channels, config.backbone_multiplier, freeze_batch_norm=config.freeze_batch_norm
        )

        if config.stem == "motion":
            motion_energy_filters(self.backbone._model.Conv3d_1a_7x7.conv3d)

    def forward(self, frames: Tensor) -> AfsdOutput:
        """Raw outputs, as inference and export need them."""
        output, _ = self.detect(frames)
        return output

    def detect(self, frames: Tensor) -> tuple[AfsdOutput, BoundaryFeatures | None]:
        """Raw outputs and the boundary features training supervises (None without refinement)."""
        output: tuple[AfsdOutput, BoundaryFeatures | None] = self.coarse_pyramid_detection(self.backbone(frames))
        return output

    def boundary_features(self, frames: Tensor) -> BoundaryFeatures:
        """The boundary features alone, for the contrastive clip of boundary consistency learning (section 3.4)."""
        return self.coarse_pyramid_detection.boundary_features(self.backbone(frames))
