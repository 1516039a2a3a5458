"""Settings of the network of AFSD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network; the defaults are the published THUMOS14 network."""

    stream: Literal["rgb", "flow", "features"] = "rgb"
    """What the network sees; with features a projection takes the place of the I3D, and frames below are steps."""
    in_features: int = 0
    """Width of the features; 0: as wide as the data."""
    standardise: bool = False
    """Give the features' channels mean 0 and deviation 1, over the training data, before the projection."""
    dropout: float = 0.0
    """Share of the features, and of the values in the projection's residual units, left out in training."""
    projection_kernels: tuple[int, ...] = (3, 3)
    """Kernels of the projection's units at the rate of the features."""
    projection_dilations: tuple[int, ...] = ()
    """Dilations of the residual units behind them, which give the finest level a view as wide as the I3D gave it."""
    feature_stride: int = 2
    """Feature steps between the locations of level 0; a power of 2."""
    num_classes: int = 21
    """K, the background included; 0: as many as the annotations name, and one."""
    clip_length: int = 256
    """T, frames of one clip; a multiple of the coarsest level's stride, 2^(levels + 1) on Mixed_4f and Mixed_5c."""
    crop_size: int = 96
    """Pixels of the square crop the network sees."""
    backbone_multiplier: float = 1.0
    """Scales every channel count of the I3D (rounded to multiples of 8)."""
    head_channels: int = 512
    """Channels of the pyramid and all heads; a multiple of 64 (GroupNorm's 32 groups on each half)."""
    num_levels: int = 6
    endpoints: Literal["4f+5c", "5c"] = "4f+5c"
    """What the pyramid stands on: Mixed_4f and Mixed_5c, the second added into the first (paper Fig. 2, THUMOS14), or
    Mixed_5c alone, whose first level has T/8 locations (released ActivityNet code)."""
    level_units: tuple[float, ...] = (1.0,) * 6
    """Frames per unit of exp(s·x) at each level: 1 on THUMOS14, 4·2^level on ActivityNet."""
    quality: Literal["quality", "centerness", "none"] = "quality"
    """What the extra confidence is taught (Table 2 b): the tIoU of the refined proposal (Eq. 14), how central the
    location lies in its instance (FCOS), or nothing: no head, and scores are class probabilities alone."""
    refinement: Literal["all", "frame", "self", "naive", "none"] = "all"
    """What the second stage sees beside the location's own feature (Table 2 d): pooled boundary features of frame level
    and pyramid level (all), of one of them (frame, self), neither (naive); none has no second stage."""
    pooling: Literal["max", "mean", "conv", "stack"] = "max"
    """How a boundary region becomes one feature (Table 2 e; see models/region_features.py)."""
    region_divisors: tuple[float, float] = (4.0, 10.0)
    """The proposal's width divided by these is a region's reach inside and outside the boundary (Eq. 3, Table 2 c)."""
    pooling_backward: Literal["correct", "reference"] = "correct"
    """Gradient of the boundary pooling: correct, or the released kernel's."""
    stem: Literal["random", "motion"] = "random"
    """First layer before training: random as published (Kinetics weights replace it), or filters that answer to motion,
    for training from scratch."""
    head_initial: Literal["glorot", "normal"] = "glorot"
    """Weights of towers, branches and heads before training: Glorot-uniform (THUMOS14) or N(0, 0.01) (ActivityNet)."""
    freeze_batch_norm: bool = True
    """Keep the backbone's batch norms at their Kinetics statistics; must be off when training from scratch."""
    freeze_backbone: bool = False
    """Train pyramid and heads alone, on the backbone that `run.init` gives: a fraction of the time and memory."""

    def __post_init__(self) -> None:
        if self.num_classes < 2 and self.num_classes != 0:
            raise ValueError(f"num_classes is {self.num_classes}, expected at least 2, or 0: as the data says")
        if self.stream == "features":
            self._check_features()
        elif self.standardise or self.dropout or self.projection_dilations:
            raise ValueError("standardise, dropout and projection_dilations are of networks on features")
        coarsest = self.finest_stride * 2 ** (self.num_levels - 1)
        if self.num_levels < 2 or self.clip_length % coarsest or self.clip_length <= 0:
            raise ValueError(
                f"clip_length is {self.clip_length}, expected a positive multiple of {coarsest} "
                f"for {self.num_levels} levels"
            )
        if self.head_channels % 64 or self.head_channels <= 0:
            raise ValueError(f"head_channels is {self.head_channels}, expected a positive multiple of 64")
        if len(self.level_units) != self.num_levels:
            raise ValueError(f"level_units has {len(self.level_units)} values, expected one per level")
        if self.crop_size <= 0 or self.backbone_multiplier <= 0 or min(self.region_divisors) <= 0:
            raise ValueError("crop_size, backbone_multiplier and region_divisors must be positive")

    def _check_features(self) -> None:
        if self.in_features < 0 or self.feature_stride < 1 or self.feature_stride.bit_count() != 1:
            raise ValueError(
                f"in_features {self.in_features}, feature_stride {self.feature_stride}: expected a width, or 0 for the "
                "data's, and a power of 2"
            )
        if not self.projection_kernels or min(*self.projection_kernels, *self.projection_dilations, 1) < 1:
            raise ValueError(
                f"projection_kernels is {self.projection_kernels}, projection_dilations {self.projection_dilations}: "
                "expected numbers of 1 or more, and at least one kernel"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected 0 or more, below 1")
        if self.stem != "random" or self.freeze_backbone:
            raise ValueError("stem 'motion' and freeze_backbone are the I3D's: leave them out where stream is features")

    @property
    def in_channels(self) -> int:
        """3 for RGB, 2 for flow (x, y), or the width of the features."""
        return {"rgb": 3, "flow": 2, "features": self.in_features}[self.stream]

    @property
    def finest_stride(self) -> int:
        """Frames between the locations of level 0, the temporal stride of the endpoint it stands on."""
        if self.stream == "features":
            return self.feature_stride
        return 4 if self.endpoints == "4f+5c" else 8

    @property
    def level_lengths(self) -> tuple[int, ...]:
        """Locations of each level: T/4, T/8, … on Mixed_4f and Mixed_5c; T/8, T/16, … on Mixed_5c alone; T/stride, …
        on features."""
        return tuple(self.clip_length // (self.finest_stride * 2**level) for level in range(self.num_levels))

    @property
    def pools_frames(self) -> bool:
        """Whether the second stage pools the frame-level feature."""
        return self.refinement in ("all", "frame")

    @property
    def pools_levels(self) -> bool:
        """Whether the second stage pools the features of the pyramid levels."""
        return self.refinement in ("all", "self")


@dataclass(frozen=True)
class LossConfig:
    """Weights and variants of the losses (Eq. 9, 10, 13–15); names of the released command line in brackets."""

    location: float = 10.0
    """Weight of loss_l + loss_prop_l (lw)."""
    classification: float = 1.0
    """Weight of loss_c + loss_prop_c + loss_ct (cw)."""
    triplet: float = 0.1
    """Weight of the triplet part of consistency learning (ssl)."""
    consistency: Literal["none", "activation", "triplet", "both"] = "both"
    """Which parts of boundary consistency learning are trained (Table 2 f)."""
    activation: Literal["tanh", "clip", "min-max"] = "tanh"
    """What brings features into 0..1 before they are compared with the boundary maps (Table 2 a)."""
    triplet_divisors: Literal["stride", "reference"] = "stride"
    """Frames per cell of the level-0 features in the triplet loss: their stride, or always 4 (the released ActivityNet
    code, where the stride is 8)."""
    location_ranges: tuple[tuple[float, float], ...] = ()
    """Per level (low, high]: the longer distance, in frames, of the instances it answers for (released ActivityNet
    code); empty: every level answers for all."""
    refined_iou: float = 0.5
    """Coarse proposals below this tIoU are background to the refined heads (piou)."""
    keep_best_refined: bool = False
    """Lower `refined_iou` to a clip's best coarse proposal, so that one at least stays positive (ActivityNet code)."""
    offset_loss: Literal["l1", "smooth-l1"] = "l1"
    """Loss of the refined offsets: L1 (Eq. 15) or smooth L1 with β = 1 (ActivityNet code)."""
    average_over: Literal["batch", "clips"] = "batch"
    """Detection losses are divided by the positives of the batch, or clip by clip and averaged (ActivityNet code)."""
    quality_target: Literal["detached", "reference"] = "detached"
    """Whether the quality target passes gradient into the boxes, as the released code lets it."""
    refined_normaliser: Literal["refined", "coarse"] = "refined"
    """What divides loss_prop_c: refined positives (released code) or coarse ones (steadier from scratch)."""

    def check_network(self, network: ModelConfig) -> None:
        """Raise a ValueError unless the network has what these losses teach."""
        if network.refinement in ("naive", "none") and self.consistency != "none":
            raise ValueError(
                f"loss.consistency is {self.consistency!r}, but model.refinement {network.refinement!r} has no "
                "boundary features to teach: set it to 'none'"
            )
        if self.location_ranges and len(self.location_ranges) != network.num_levels:
            raise ValueError(
                f"loss.location_ranges has {len(self.location_ranges)} ranges, expected one per level "
                f"({network.num_levels}) or none"
            )
