"""Hold the settings of AFSD's network and losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from runtime.common.ranges import (
    Channels,
    Classes,
    Dropout,
    Frames,
    Pixels,
    Positive,
    Range,
    Share,
    Weight,
    Width,
    check_ranges,
)


@dataclass(frozen=True)
class ModelConfig:
    """Describes the shape of the network; the defaults are the published THUMOS14 network."""

    stream: Literal["rgb", "flow", "features"] = "rgb"
    """Input of the network; for features a projection replaces the I3D, and lengths in frames are in feature steps."""
    in_features: Width = 0
    """Width of the features; 0: the width of the data."""
    standardise: bool = False
    """Give the features' channels mean 0 and deviation 1, over the training data, before the projection."""
    dropout: Dropout = 0.0
    """Dropout in training, on the features and inside the projection's residual units."""
    projection_kernels: tuple[Annotated[int, Range(1, 1001)], ...] = (3, 3)
    """Kernels of the projection's units at the rate of the features."""
    projection_dilations: tuple[Annotated[int, Range(1, 1001)], ...] = ()
    """Dilations of the residual units after the kernels; they widen the finest level's view to that of the I3D."""
    feature_stride: Frames = 2
    """Feature steps between the locations of level 0; a power of 2."""
    num_classes: Classes = 21
    """Number of classes K, including background; 0: the annotations' classes plus background."""
    clip_length: Frames = 256
    """Frames T of one clip; a multiple of the coarsest level's stride, 2^(levels + 1) on Mixed_4f and Mixed_5c."""
    crop_size: Pixels = 96
    """Side of the square crop the network sees, pixels."""
    backbone_multiplier: Annotated[float, Range(0, 16, above=True)] = 1.0
    """Factor on every channel count of the I3D (rounded to multiples of 8)."""
    head_channels: Channels = 512
    """Channels of the pyramid and all heads; a multiple of 64 (GroupNorm's 32 groups on each half)."""
    num_levels: Annotated[int, Range(2, 16, what="levels")] = 6
    endpoints: Literal["4f+5c", "5c"] = "4f+5c"
    """Backbone layers below the pyramid: Mixed_4f and Mixed_5c, the second added into the first (paper Fig. 2,
    THUMOS14), or Mixed_5c alone, whose first level has T/8 locations (released ActivityNet code)."""
    level_units: tuple[Positive, ...] = (1.0,) * 6
    """Frames per unit of exp(s·x) at each level: 1 on THUMOS14, 4·2^level on ActivityNet."""
    quality: Literal["quality", "centerness", "none"] = "quality"
    """Target of the extra confidence head (Table 2 b): the tIoU of the refined proposal (Eq. 14), or how central the
    location lies in its instance (FCOS); "none": no such head, and scores are class probabilities alone."""
    refinement: Literal["all", "frame", "self", "naive", "none"] = "all"
    """Input of the second stage beside the location's own feature (Table 2 d): pooled boundary features of frame level
    and pyramid level (all), of one of them (frame, self), or neither (naive); none: no second stage."""
    pooling: Literal["max", "mean", "conv", "stack"] = "max"
    """How a boundary region becomes one feature (Table 2 e; see `training.afsd.region_features`)."""
    region_divisors: tuple[Positive, Positive] = (4.0, 10.0)
    """Divisors of the proposal's width that give a region's reach inside and outside the boundary (Eq. 3, Table 2
    c)."""
    pooling_backward: Literal["correct", "reference"] = "correct"
    """Gradient of the boundary pooling: correct, or the released kernel's ("reference")."""
    stem: Literal["random", "motion"] = "random"
    """Initial weights of the first layer: random as published (Kinetics weights replace them), or filters that respond
    to motion, for training from scratch."""
    head_initial: Literal["glorot", "normal"] = "glorot"
    """Initial weights of towers, branches and heads: Glorot-uniform (THUMOS14) or N(0, 0.01) (ActivityNet)."""
    freeze_batch_norm: bool = True
    """Keep the backbone's batch norms at their Kinetics statistics; must be off when training from scratch."""
    freeze_backbone: bool = False
    """Train only pyramid and heads, on the backbone from `run.init`, in a fraction of the time and memory."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.num_classes == 1:
            raise ValueError(f"num_classes is {self.num_classes}, expected at least 2, or 0 to take the data's")
        if self.stream == "features":
            self._check_features()
        elif self.standardise or self.dropout or self.projection_dilations:
            raise ValueError("standardise, dropout and projection_dilations are for networks on features")
        coarsest = self.finest_stride * 2 ** (self.num_levels - 1)
        if self.clip_length % coarsest:
            raise ValueError(
                f"clip_length is {self.clip_length}, expected a positive multiple of {coarsest} "
                f"for {self.num_levels} levels"
            )
        if self.head_channels % 64:
            raise ValueError(f"head_channels is {self.head_channels}, expected a positive multiple of 64")
        if len(self.level_units) != self.num_levels:
            raise ValueError(f"level_units has {len(self.level_units)} values, expected one per level")

    def _check_features(self) -> None:
        if self.feature_stride.bit_count() != 1:
            raise ValueError(f"feature_stride is {self.feature_stride}, expected a power of 2")
        if not self.projection_kernels:
            raise ValueError("projection_kernels is empty, expected at least one kernel")
        if self.stem != "random" or self.freeze_backbone:
            raise ValueError("stem 'motion' and freeze_backbone are the I3D's: leave them out where stream is features")

    @property
    def in_channels(self) -> int:
        """Channels of the input: 3 for RGB, 2 for flow (x, y), or the width of the features."""
        return {"rgb": 3, "flow": 2, "features": self.in_features}[self.stream]

    @property
    def finest_stride(self) -> int:
        """Frames between the locations of level 0: the temporal stride of its endpoint."""
        if self.stream == "features":
            return self.feature_stride
        return 4 if self.endpoints == "4f+5c" else 8

    @property
    def level_lengths(self) -> tuple[int, ...]:
        """Number of locations of each level: T/4, T/8, … on Mixed_4f and Mixed_5c; T/8, T/16, … on Mixed_5c alone;
        T/stride, … on features."""
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
    """Holds weights and variants of the losses (Eq. 9, 10, 13–15); names of the released command line in brackets."""

    location: Weight = 10.0
    """Weight of loss_l + loss_prop_l (lw)."""
    classification: Weight = 1.0
    """Weight of loss_c + loss_prop_c + loss_ct (cw)."""
    triplet: Weight = 0.1
    """Weight of the triplet part of consistency learning (ssl)."""
    consistency: Literal["none", "activation", "triplet", "both"] = "both"
    """Which parts of boundary consistency learning are trained (Table 2 f)."""
    activation: Literal["tanh", "clip", "min-max"] = "tanh"
    """Function that scales features to 0..1 before they are compared with the boundary maps (Table 2 a)."""
    triplet_divisors: Literal["stride", "reference"] = "stride"
    """Frames per cell of the level-0 features in the triplet loss: their stride, or always 4 (the released ActivityNet
    code, where the stride is 8)."""
    location_ranges: tuple[tuple[Weight, Weight], ...] = ()
    """Range (low, high] per level of an instance's longer distance, frames, for which the level's locations are trained
    (released ActivityNet code); empty: all instances on every level."""
    refined_iou: Share = 0.5
    """tIoU below which a coarse proposal is background for the refined heads (piou)."""
    keep_best_refined: bool = False
    """Lower `refined_iou` to the tIoU of a clip's best coarse proposal, so that it stays positive (ActivityNet
    code)."""
    offset_loss: Literal["l1", "smooth-l1"] = "l1"
    """Loss of the refined offsets: L1 (Eq. 15) or smooth L1 with β = 1 (ActivityNet code)."""
    average_over: Literal["batch", "clips"] = "batch"
    """Divide detection losses by the positives of the batch, or of each clip and then average (ActivityNet code)."""
    quality_target: Literal["detached", "reference"] = "detached"
    """Whether the quality target passes gradient into the boxes ("reference", released code) or not."""
    refined_normaliser: Literal["refined", "coarse"] = "refined"
    """Divisor of loss_prop_c: the number of refined positives (released code) or of coarse ones (steadier from
    scratch)."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def check_network(self, network: ModelConfig) -> None:
        """Raise a ValueError unless the network has the outputs that these losses train."""
        if network.refinement in ("naive", "none") and self.consistency != "none":
            raise ValueError(
                f"loss.consistency is {self.consistency!r}, but model.refinement {network.refinement!r} has no "
                "boundary features to train: set it to 'none'"
            )
        if self.location_ranges and len(self.location_ranges) != network.num_levels:
            raise ValueError(
                f"loss.location_ranges has {len(self.location_ranges)} ranges, expected one per level "
                f"({network.num_levels}) or none"
            )
