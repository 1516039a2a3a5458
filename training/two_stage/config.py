"""Hold the settings of the two-stage detector (A2Net, section III-G).

The paper leaves the head and the weights of its losses open; the values here are ours, after R-C3D unless noted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from runtime.common.ranges import Channels, Classes, Count, Dropout, Frames, Positive, Range, Weight, check_ranges
from runtime.spec.decoding_constants import TwoStageDecoding
from training.a2net.config import A2NetConfig


@dataclass(frozen=True)
class TwoStageConfig:
    """Describes the second stage, which follows a class-agnostic A2Net as proposal network.

    `a2net.modules` "both" includes the anchor-free module, "anchor-based" is the detector without it.
    """

    num_classes: Classes = 0
    """Number of classes K, including background; 0: the annotations' classes plus background."""
    candidates: Count = 1024
    """Number of top-scoring first-stage detections per window that enter NMS. Neighbouring points and anchors fire on
    the same action; on GTEA NMS keeps about a tenth."""
    proposals: Count = 128
    """Number N of proposals per window that NMS keeps at most."""
    levels: tuple[Annotated[int, Range(0, 16, what="levels")], ...] = (0, 2)
    """Levels of the hierarchical feature module that are pooled, counted from 0 (finest)."""
    bins: Frames = 16
    """Number of bins of a pooled proposal."""
    context: Weight = 0.5
    """Context pooled on either side of a proposal, as a multiple of its width."""
    hidden: Channels = 256
    """Width of the two fully connected layers."""
    dropout: Dropout = 0.5
    """Dropout after each fully connected layer in training."""
    decoding: TwoStageDecoding = field(default_factory=TwoStageDecoding)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.proposals > self.candidates:
            raise ValueError(f"proposals is {self.proposals}, expected at most candidates, {self.candidates}")
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels is {self.levels}, expected numbers from 0, each once")
        if self.num_classes == 1:
            raise ValueError(f"num_classes is {self.num_classes}, expected 0, or at least 2 (the background is one)")

    def check_first_stage(self, first: A2NetConfig | None) -> None:
        """Raise a ValueError unless the first stage is class-agnostic and has enough levels and detections."""
        if first is None or first.num_classes != 2:
            raise ValueError("two_stage needs a first stage: expected a2net with num_classes 2 (action or background)")
        if max(self.levels) >= first.num_levels:
            raise ValueError(f"two_stage.levels is {self.levels}, the first stage has {first.num_levels} levels")
        there = first.layout.num_points + first.layout.num_anchors
        if self.candidates > there:
            raise ValueError(f"two_stage.candidates is {self.candidates}, the first stage has {there} detections")


@dataclass(frozen=True)
class TwoStageLossConfig:
    """Holds weights and sampling of the losses."""

    proposals: Weight = 1.0
    """Weight of the sum of the first stage's losses; `a2net_loss` weights them against each other."""
    classification: Weight = 1.0
    """Weight of the classes' cross-entropy over chosen proposals."""
    location: Weight = 1.0
    """Weight of the smooth L1 of (Δc, Δw) over positive proposals."""
    positive_iou: Annotated[float, Range(0, 1, above=True)] = 0.5
    """Smallest tIoU with which a proposal is matched with its best instance; below it the proposal is background."""
    negative_ratio: Positive = 3.0
    """Number of background proposals drawn for each positive one."""

    def __post_init__(self) -> None:
        check_ranges(self)
