"""Constants of the two-stage detector's decoding, as the configuration and the ModelSpec hold them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TwoStageDecoding:
    """Constants between the stages; those behind the second one are AFSD's (`ModelSpec.decoding`)."""

    proposal_nms: float = 0.7
    """Of two proposals with a tIoU above this the lower one is dropped, those of anchors and points alike (R-C3D)."""

    def __post_init__(self) -> None:
        if not 0 < self.proposal_nms <= 1:
            raise ValueError(f"proposal_nms is {self.proposal_nms}, expected a tIoU above 0, up to 1")
