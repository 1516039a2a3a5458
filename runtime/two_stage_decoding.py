"""Constants of the two-stage detector's decoding, as the configuration and the ModelSpec hold them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TwoStageDecoding:
    """Constants between the stages and behind the second one."""

    proposal_nms: float = 0.7
    """Of two proposals with a tIoU above this the lower one is dropped, those of anchors and points alike (R-C3D)."""
    proposal_weight: float = 0.5
    """γ: a class scores its probability times the proposal's score to the power of γ; 0 is the probability alone, as in
    R-C3D."""

    def __post_init__(self) -> None:
        if not 0 < self.proposal_nms <= 1:
            raise ValueError(f"proposal_nms is {self.proposal_nms}, expected a tIoU above 0, up to 1")
        if not self.proposal_weight >= 0:
            raise ValueError(f"proposal_weight is {self.proposal_weight}, expected 0 or more")
