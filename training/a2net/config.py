"""Hold the settings of A2Net and its losses.

The defaults are the released THUMOS14 network and recipe with the faults of the released code corrected; each option
that restores a fault says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from runtime.common.ranges import (
    Channels,
    Classes,
    Dropout,
    Frames,
    Positive,
    Range,
    Share,
    Weight,
    Width,
    check_ranges,
)
from runtime.spec.anchors import RATIOS, A2NetLayout
from training.networks.layers import GROUP_NORM_GROUPS

MOST_LEVELS = 16
Norm = Literal["none", "group"]


@dataclass(frozen=True)
class A2NetConfig:
    """Describes the shape of the network; the defaults are the released THUMOS14 network (A2Net, Table II)."""

    in_channels: Width = 2048
    """Width of the features: 1024 of I3D on RGB, then 1024 on flow; 0: the width of the data."""
    num_classes: Classes = 21
    """Number of classes K, including background; 0: the annotations' classes plus background."""
    window_steps: Frames = 128
    """Window length in feature steps; a multiple of 2^levels."""
    base_channels: Channels = 512
    level_channels: tuple[Channels, ...] = (512, 1024, 1024, 2048, 2048, 4096)
    """Channels of each level of the hierarchical feature module, fine to coarse; only the first 3, 4 or 5 give the
    shallower networks of Table VI."""
    modules: Literal["both", "anchor-free", "anchor-based"] = "both"
    """Modules that predict (Table III)."""
    point_levels: Annotated[int, Range(0, 16, what="levels")] = 0
    """Number of levels, from the finest, that the anchor-free module predicts on; 0: all."""
    reduced_channels: Width = 512
    """Channels to which a 1×1 convolution reduces every level before the anchor-free heads; 0: no reduction, and all
    levels must have one width (ActivityNet)."""
    tower_depth: Annotated[int, Range(1, 100, what="layers")] = 2
    """Convolutions before the prediction in each anchor-free head."""
    anchor_ratios: tuple[tuple[Positive, ...], ...] = (RATIOS,)
    """Widths of the default anchors of each level, in cells of the level; a single entry applies to all levels."""
    anchor_outputs: Literal["all", "overlap"] = "all"
    """Outputs of each anchor: classes, overlap and box, or the overlap alone (see `A2NetLayout`)."""
    offset_scale: Positive = 0.1
    """Factor α on the centre offset in the decoding of anchors."""
    width_scale: Positive = 0.1
    """Factor β on the log width in the decoding of anchors."""
    names: Literal["thumos14", "activitynet"] = "thumos14"
    """Released network whose entry names the state dict uses; they differ in base layers and anchor-free scales."""
    standardise: bool = False
    """Give the features' channels mean 0 and deviation 1, over the training data, before the base layers."""
    norm: Norm = "none"
    """GroupNorm after every convolution except the predictions, for training from scratch on little data; the released
    network has none."""
    dropout: Dropout = 0.0
    """Dropout in training, on the features and in the base layers."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not 1 <= len(self.level_channels) <= MOST_LEVELS:
            raise ValueError(f"level_channels has {len(self.level_channels)} levels, expected 1 to {MOST_LEVELS}")
        if self.window_steps % 2**self.num_levels:
            raise ValueError(
                f"window_steps is {self.window_steps}, expected a positive multiple of {2**self.num_levels} "
                f"for {self.num_levels} levels"
            )
        if not self.anchor_ratios or len(self.anchor_ratios) not in (1, self.num_levels):
            raise ValueError(f"anchor_ratios has {len(self.anchor_ratios)} entries, expected 1 or {self.num_levels}")
        widths = {self.base_channels, *self.level_channels, self.reduced_channels}
        if self.norm == "group" and any(width % GROUP_NORM_GROUPS for width in widths):
            raise ValueError(f"norm is 'group': expected channels that are multiples of {GROUP_NORM_GROUPS}")
        if self.num_classes:
            _ = self.layout  # raises a ValueError if the layout is invalid
        if not self.reduced_channels and len(set(self.level_channels[: self._point_levels])) > 1:
            raise ValueError(f"level_channels {self.level_channels} differ: expected reduced_channels above 0")

    @property
    def num_levels(self) -> int:
        """Number of levels of the hierarchical feature module."""
        return len(self.level_channels)

    @cached_property
    def layout(self) -> A2NetLayout:
        """Layout of points and anchors, the places of the outputs in a window; made once, since networks read the
        layout while they are traced."""
        ratios = self.anchor_ratios if len(self.anchor_ratios) > 1 else self.anchor_ratios * self.num_levels
        return A2NetLayout(
            level_lengths=tuple(self.window_steps // 2 ** (level + 1) for level in range(self.num_levels)),
            anchor_ratios=() if self.modules == "anchor-free" else ratios,
            point_levels=self._point_levels,
            anchor_outputs=self.anchor_outputs,
            num_classes=self.num_classes,
            offset_scale=self.offset_scale,
            width_scale=self.width_scale,
        )

    @property
    def _point_levels(self) -> int:
        return 0 if self.modules == "anchor-based" else self.point_levels or self.num_levels

    @property
    def head_channels(self) -> int:
        """Number of channels of the anchor-free heads."""
        return self.reduced_channels or self.level_channels[0]


@dataclass(frozen=True)
class A2NetLossConfig:
    """Holds weights and variants of the losses; the defaults are the released THUMOS14 recipe, its faults corrected."""

    point_classification: Weight = 30.0
    """Weight of the anchor-free classification loss."""
    point_regression: Weight = 1.0
    """Weight of the anchor-free regression loss."""
    anchor_classification: Weight = 1.0
    anchor_overlap: Weight = 10.0
    anchor_location: Weight = 10.0
    match_iou: Share = 0.5
    """tIoU with an instance above which an anchor is positive; a negative whose predicted overlap is above this
    threshold is a hard negative."""
    matching: Literal["predicted", "default"] = "predicted"
    """Boxes that are matched with the instances: the decoded ones (released THUMOS14 code), or the default anchors (the
    paper's text and figure, released ActivityNet code)."""
    force_match: bool = False
    """Match an instance that no anchor reaches with its best anchor, whatever the tIoU (released ActivityNet code)."""
    forced_positives: Literal["kept", "reference"] = "kept"
    """Keep forced positives; or count them as hard negatives too where their predicted overlap is high, and leave
    anchors that count twice out of the loss ("reference", released ActivityNet code)."""
    match_score: Literal["detached", "reference"] = "detached"
    """Whether the overlap's target passes gradient into the boxes ("reference", released THUMOS14 code) or not."""
    hard_negatives: Literal["all", "balanced"] = "all"
    """Use all hard negatives (released code), or only as many as bring negatives : positives to about `negative_ratio`
    : 1 (paper: 1 : 1)."""
    negative_ratio: Weight = 1.0
    """Number of easy negatives drawn for each positive."""
    share_without_positives: Share = 0.5
    """Share of the easy negatives drawn in a batch without positives: 0.5 on THUMOS14, 0.8 on ActivityNet."""
    overlap_loss: Literal["smooth-l1", "mse"] = "smooth-l1"
    """Loss of the overlap: smooth L1 over positives and drawn negatives (released code), or MSE over positives
    (paper)."""
    location_loss: Literal["boundaries", "centre-width"] = "boundaries"
    """Smooth L1 of the boxes on decoded start and end (released code), or on encoded centre and width (paper)."""
    point_ranges: Literal["half-open", "reference"] = "half-open"
    """Lengths of instances, in units, that level i ≥ 1 is trained for: [2^(i−1), 2^i) as in the paper, the first level
    from 0, the last without end; or both ends inclusive on every level ("reference", released code), so that two levels
    take a length of exactly 2^i, and none a length beyond the last level's."""
    empty_batch: Literal["zero", "reference"] = "zero"
    """Regression loss of a batch without positives: 0, or NaN as the mean over nothing ("reference", released code)."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.match_iou in (0, 1):
            raise ValueError(f"match_iou is {self.match_iou}, expected a number between 0 and 1")
        if self.force_match and self.matching == "predicted":
            raise ValueError("force_match takes an instance's best default anchor: expected matching 'default'")
