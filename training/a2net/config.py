"""Settings of A2Net and its losses. The defaults are the released THUMOS14 network and recipe, with the faults of the
released code mended; each option that brings one back says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime.spec.anchors import RATIOS, A2NetLayout
from training.networks.layers import GROUP_NORM_GROUPS

Norm = Literal["none", "group"]


@dataclass(frozen=True)
class A2NetConfig:
    """Shape of the network; the defaults are the released THUMOS14 network (A2Net, Table II)."""

    in_channels: int = 2048
    """Width of the features: I3D's 1024 of RGB, then 1024 of flow; 0: as wide as the data."""
    num_classes: int = 21
    """K, the background included; 0: as many as the annotations name, and one."""
    window_steps: int = 128
    """Feature steps of a window; a multiple of 2^levels."""
    base_channels: int = 512
    level_channels: tuple[int, ...] = (512, 1024, 1024, 2048, 2048, 4096)
    """Channels of each level of the hierarchical feature module, fine to coarse; the first 3, 4 or 5 alone are the
    shallower networks of Table VI."""
    modules: Literal["both", "anchor-free", "anchor-based"] = "both"
    """What predicts (Table III)."""
    point_levels: int = 0
    """The finest so many levels are those of the anchor-free module; 0: all."""
    reduced_channels: int = 512
    """Channels to which a 1×1 convolution brings every level before the anchor-free heads; 0: levels are taken as they
    are, and need to be of one width (ActivityNet)."""
    tower_depth: int = 2
    """Convolutions before the prediction in each anchor-free head."""
    anchor_ratios: tuple[tuple[float, ...], ...] = (RATIOS,)
    """Widths of the default anchors of each level, in its cells; a single entry holds for all levels."""
    anchor_outputs: Literal["all", "overlap"] = "all"
    """See `A2NetLayout`."""
    offset_scale: float = 0.1
    """α of the anchors' decoding."""
    width_scale: float = 0.1
    """β of the anchors' decoding."""
    names: Literal["thumos14", "activitynet"] = "thumos14"
    """Whose entry names the state dict has: they differ in the base layers and the anchor-free scales."""
    standardise: bool = False
    """Give the features' channels mean 0 and deviation 1, over the training data, before the base layers."""
    norm: Norm = "none"
    """GroupNorm behind every convolution but the predictions, for training from nothing on little data; the released
    network has none."""
    dropout: float = 0.0
    """Share of the features and of the base layers' values left out in training."""

    def __post_init__(self) -> None:
        if not self.level_channels or min(self.level_channels) <= 0:
            raise ValueError(f"level_channels is {self.level_channels}, expected a positive number per level")
        if self.window_steps <= 0 or self.window_steps % 2**self.num_levels:
            raise ValueError(
                f"window_steps is {self.window_steps}, expected a positive multiple of {2**self.num_levels} "
                f"for {self.num_levels} levels"
            )
        if min(self.base_channels, self.tower_depth) <= 0 or min(self.in_channels, self.reduced_channels) < 0:
            raise ValueError(
                "base_channels and tower_depth must be positive, in_channels and reduced_channels not negative"
            )
        if not self.anchor_ratios or len(self.anchor_ratios) not in (1, self.num_levels):
            raise ValueError(f"anchor_ratios has {len(self.anchor_ratios)} entries, expected 1 or {self.num_levels}")
        widths = {self.base_channels, *self.level_channels, self.reduced_channels}
        if self.norm == "group" and any(width % GROUP_NORM_GROUPS for width in widths):
            raise ValueError(f"norm is 'group': expected channels that are multiples of {GROUP_NORM_GROUPS}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected 0 or more, below 1")
        if self.num_classes:
            _ = self.layout  # raises what it finds wrong
        if not self.reduced_channels and len(set(self.level_channels[: self._point_levels])) > 1:
            raise ValueError(f"level_channels {self.level_channels} differ: expected reduced_channels above 0")

    @property
    def num_levels(self) -> int:
        """Levels of the hierarchical feature module."""
        return len(self.level_channels)

    @property
    def layout(self) -> A2NetLayout:
        """Where the outputs lie in a window."""
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
        """Channels of the anchor-free heads."""
        return self.reduced_channels or self.level_channels[0]


@dataclass(frozen=True)
class A2NetLossConfig:
    """Weights and variants of the losses; the defaults are the released THUMOS14 recipe, mended."""

    point_classification: float = 30.0
    """Weight of the anchor-free classes."""
    point_regression: float = 1.0
    """Weight of the anchor-free distances."""
    anchor_classification: float = 1.0
    anchor_overlap: float = 10.0
    anchor_location: float = 10.0
    match_iou: float = 0.5
    """An anchor is positive if its tIoU with an instance is above this; a negative whose predicted overlap is above it
    is a hard one."""
    matching: Literal["predicted", "default"] = "predicted"
    """Which boxes are matched with the instances: the decoded ones (released THUMOS14 code), or the default anchors
    (the paper's text and figure, released ActivityNet code)."""
    force_match: bool = False
    """An instance that no anchor reaches takes its best one, whatever the tIoU (released ActivityNet code)."""
    forced_positives: Literal["kept", "reference"] = "kept"
    """A forced positive stays one; or it counts as a hard negative too where its predicted overlap is high, and what
    counts twice is left out of the loss (released ActivityNet code)."""
    match_score: Literal["detached", "reference"] = "detached"
    """Whether the target of the overlap passes gradient into the boxes, as the released THUMOS14 code lets it."""
    hard_negatives: Literal["all", "balanced"] = "all"
    """All hard negatives (released code), or so many that negatives and positives are about `negative_ratio` : 1
    (paper: 1 : 1)."""
    negative_ratio: float = 1.0
    """Easy negatives drawn for each positive."""
    share_without_positives: float = 0.5
    """Share of the easy negatives drawn in a batch without positives: 0.5 on THUMOS14, 0.8 on ActivityNet."""
    overlap_loss: Literal["smooth-l1", "mse"] = "smooth-l1"
    """Smooth L1 over positives and drawn negatives (released code), or the mean square over positives (paper)."""
    location_loss: Literal["boundaries", "centre-width"] = "boundaries"
    """Smooth L1 on decoded start and end (released code), or on the encoded centre and width (paper)."""
    point_ranges: Literal["half-open", "reference"] = "half-open"
    """Lengths of instances, in units, that level i ≥ 1 answers for: [2^(i−1), 2^i) as in the paper, the first level
    from 0, the last without end; or with both ends inclusive on every level, so that a length of exactly 2^i is taken
    by two levels, and one longer than the last level's by none (released code)."""
    empty_batch: Literal["zero", "reference"] = "zero"
    """Regression of a batch without positives: 0, or the mean over nothing, NaN (released code)."""

    def __post_init__(self) -> None:
        if not 0 < self.match_iou < 1:
            raise ValueError(f"match_iou is {self.match_iou}, expected a number between 0 and 1")
        if not 0 <= self.share_without_positives <= 1 or self.negative_ratio < 0:
            raise ValueError("expected share_without_positives in 0..1 and negative_ratio not negative")
        if self.force_match and self.matching == "predicted":
            raise ValueError("force_match takes an instance's best default anchor: expected matching 'default'")
