"""Hold the constants that turn raw outputs into detections, as the configuration and the ModelSpec keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class A2NetDecoding:
    """Holds the constants that turn A2Net's raw outputs into detections; defaults: the released THUMOS14 code."""

    balance: float = 0.5
    """Balance λ (Table V): scores of points are weighted by λ, of anchors by 1 − λ, both divided by the larger of the
    two. 0.5 leaves scores as they are (released THUMOS14 code); 5/7 gives anchors 0.4 (released ActivityNet code)."""
    overlap: Literal["sigmoid", "plain"] = "sigmoid"
    """Use of the predicted overlap p_o in an anchor's score: sigmoid(p_o)·max S (released THUMOS14 code), or p_o
    itself, clamped to 0..1, as it was trained (paper; released ActivityNet code)."""
    background_limit: float = 0.98
    """Background probability from which an anchor is dropped."""
    labels: Literal["best", "all"] = "best"
    """Classes for which an anchor or point is a candidate: only its likeliest class (released code), or every class."""
    score_threshold: float = 0.0
    """Candidates need a score strictly above this threshold; the released code has none."""
    nms_threshold: float = 0.2
    """Largest tIoU of two detections of a class that are both kept."""
    nms_top_k: int = 200
    """Maximum number of detections per class and video."""
    video_top_k: int = 200
    """Maximum number of detections per video; the best are kept."""
    copied_classes: tuple[tuple[str, str], ...] = ()
    """Pairs (from, to): candidates of the first class are repeated as the second class. The released THUMOS14 code has
    (CliffDiving, Diving), since every CliffDiving of that data set is also annotated as a Diving."""

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance is {self.balance}, expected a number in 0..1")
        if not 0 <= self.nms_threshold <= 1 or min(self.nms_top_k, self.video_top_k) < 1:
            raise ValueError("expected nms_threshold in 0..1, nms_top_k and video_top_k at least 1")

    @property
    def weights(self) -> tuple[float, float]:
        """Factors of the scores of points and anchors; the larger one is 1."""
        larger = max(self.balance, 1 - self.balance)
        return self.balance / larger, (1 - self.balance) / larger


ACTIVITYNET = A2NetDecoding(balance=5 / 7, overlap="plain", nms_threshold=0.6, nms_top_k=100, video_top_k=100)
"""Released ActivityNet constants: class-agnostic proposals, labelled afterwards."""

THUMOS14_COPIES = (("CliffDiving", "Diving"),)
"""Value of `copied_classes` in the released THUMOS14 code."""


@dataclass(frozen=True)
class Decoding:
    """Holds the constants that turn AFSD's raw outputs into detections (section 4.1)."""

    score_threshold: float = 0.01
    """Candidates need a score strictly above this threshold."""
    nms_sigma: float = 0.5
    """Width σ of the Gaussian soft-NMS, score ← score·exp(−tIoU²/σ)."""
    nms_floor: float = 0.001
    """Lowest decayed score of a candidate that is kept."""
    nms_top_k: int = 5000
    """Maximum number of detections per class and video."""
    quality: bool = True
    """Whether sigmoid(center) multiplies the class scores; off in a network without a quality head (Table 2 b)."""
    fusion: Literal["mean", "geometric"] = "mean"
    """Fusion of two streams: the mean of all raw outputs (THUMOS14), or the geometric mean of the refined, clamped
    segment ends with the mean of the logits (ActivityNet)."""
    fused_threshold: float | None = None
    """Value of `score_threshold` for two fused streams; None: `score_threshold`."""
    fused_floor: float | None = None
    """Value of `nms_floor` for two fused streams; None: `nms_floor`."""


@dataclass(frozen=True)
class TwoStageDecoding:
    """Holds the constants between the two stages; those after the second stage are in `ModelSpec.decoding`."""

    proposal_nms: float = 0.7
    """Largest tIoU of two proposals, of anchors or points, that are both kept (R-C3D)."""

    def __post_init__(self) -> None:
        if not 0 < self.proposal_nms <= 1:
            raise ValueError(f"proposal_nms is {self.proposal_nms}, expected a tIoU above 0, up to 1")
