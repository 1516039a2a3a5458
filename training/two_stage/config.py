"""Settings of the two-stage detector (A2Net, section III-G). The paper leaves the head and the weights of its losses
open; these are ours, after R-C3D where nothing else is said."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.spec.constants import TwoStageDecoding
from training.a2net.config import A2NetConfig


@dataclass(frozen=True)
class TwoStageConfig:
    """Shape of what stands behind the proposal network, which is a class-agnostic A2Net: `a2net.modules` "both" has the
    anchor-free module in it, "anchor-based" is the detector without."""

    num_classes: int = 0
    """K, the background included; 0: as many as the annotations name, and one."""
    candidates: int = 1024
    """The best so many detections of the first stage go into the NMS of a window. Points and anchors of one action are
    many: on GTEA a tenth of them stay."""
    proposals: int = 128
    """N: at most so many come out of it."""
    levels: tuple[int, ...] = (0, 2)
    """Levels of the hierarchical feature module that are pooled, counted from 0, the finest."""
    bins: int = 16
    """Bins of a pooled proposal."""
    context: float = 0.5
    """So many widths of the proposal are pooled on either side of it as well."""
    hidden: int = 256
    """Width of the two fully connected layers."""
    dropout: float = 0.5
    """Share of their values left out in training."""
    decoding: TwoStageDecoding = field(default_factory=TwoStageDecoding)

    def __post_init__(self) -> None:
        if min(self.proposals, self.bins, self.hidden) <= 0 or self.context < 0:
            raise ValueError("proposals, bins and hidden must be positive, context not negative")
        if self.proposals > self.candidates:
            raise ValueError(f"proposals is {self.proposals}, expected at most candidates, {self.candidates}")
        if not self.levels or len(set(self.levels)) < len(self.levels) or min(self.levels) < 0:
            raise ValueError(f"levels is {self.levels}, expected numbers from 0, each once")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected 0 or more, below 1")
        if self.num_classes == 1 or self.num_classes < 0:
            raise ValueError(f"num_classes is {self.num_classes}, expected 0, or at least 2 (the background is one)")

    def check_first_stage(self, first: A2NetConfig | None) -> None:
        """Raise a ValueError unless the first stage is class-agnostic and has the levels and detections asked for."""
        if first is None or first.num_classes != 2:
            raise ValueError("two_stage needs a first stage: expected a2net, with num_classes 2 (action or not)")
        if max(self.levels) >= first.num_levels:
            raise ValueError(f"two_stage.levels is {self.levels}, the first stage has {first.num_levels} levels")
        there = first.layout.num_points + first.layout.num_anchors
        if self.candidates > there:
            raise ValueError(f"two_stage.candidates is {self.candidates}, the first stage has {there} detections")


@dataclass(frozen=True)
class TwoStageLossConfig:
    """Weights and samples of the losses."""

    proposals: float = 1.0
    """Weight of the first stage's losses together, which `a2net_loss` weighs among each other."""
    classification: float = 1.0
    """Weight of the cross-entropy of the classes, over chosen proposals."""
    location: float = 1.0
    """Weight of the smooth L1 of (Δc, Δw), over positive ones."""
    positive_iou: float = 0.5
    """A proposal stands for the instance of its largest tIoU if that is this or more; for background otherwise."""
    negative_ratio: float = 3.0
    """Background proposals drawn for each positive one."""

    def __post_init__(self) -> None:
        if not 0 < self.positive_iou <= 1 or self.negative_ratio <= 0:
            raise ValueError("expected positive_iou above 0, up to 1, and negative_ratio above 0")
        if min(self.proposals, self.classification, self.location) < 0:
            raise ValueError("proposals, classification and location are weights, expected 0 or more")
