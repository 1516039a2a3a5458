"""Hold the constants that turn raw outputs into detections, as the configuration and the ModelSpec keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class A2NetDecoding:
    """Constants that turn raw outputs into detections; the defaults are the released THUMOS14 ones."""

    balance: float = 0.5
    """λ (Table V): scores of points are weighed by λ, of anchors by 1 − λ, both divided by the larger of the two. So
    0.5 leaves all as they are (released THUMOS14 code), 5/7 gives anchors 0.4 (released ActivityNet code)."""
    overlap: Literal["sigmoid", "plain"] = "sigmoid"
    """How the predicted overlap p_o enters an anchor's score: sigmoid(p_o)·max S (released THUMOS14 code), or p_o
    itself, clamped to 0..1, as it was trained (paper; released ActivityNet code)."""
    background_limit: float = 0.98
    """An anchor whose background probability is this or above is dropped."""
    labels: Literal["best", "all"] = "best"
    """An anchor or point is a candidate of its likeliest class alone (released code), or of every class."""
    score_threshold: float = 0.0
    """A candidate needs a score strictly above this; the released code has no such limit."""
    nms_threshold: float = 0.2
    """Of two detections of a class with a tIoU above this the lower one is dropped."""
    nms_top_k: int = 200
    """At most this many detections per class and video."""
    video_top_k: int = 200
    """At most this many detections per video, the best."""
    copied_classes: tuple[tuple[str, str], ...] = ()
    """(from, to): candidates of the first class stand as ones of the second too. The released THUMOS14 code has
    (CliffDiving, Diving), since every CliffDiving of that data set is annotated as a Diving as well."""

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
"""`copied_classes` of the released THUMOS14 code."""


@dataclass(frozen=True)
class Decoding:
    """Constants that turn raw outputs into detections (AFSD, section 4.1)."""

    score_threshold: float = 0.01
    """A candidate needs a score strictly above this."""
    nms_sigma: float = 0.5
    """σ of the Gaussian soft-NMS, score ← score·exp(−tIoU²/σ)."""
    nms_floor: float = 0.001
    """Candidates whose decayed score falls below this are dropped."""
    nms_top_k: int = 5000
    """At most this many detections per class and video."""
    quality: bool = True
    """Whether sigmoid(center) multiplies the class scores; off in a network without a quality head (Table 2 b)."""
    fusion: Literal["mean", "geometric"] = "mean"
    """How two streams become one: the mean of all raw outputs (THUMOS14), or the geometric mean of the refined,
    clamped segment ends beside the mean of the logits (ActivityNet)."""
    fused_threshold: float | None = None
    """`score_threshold` of two streams together; None: the same."""
    fused_floor: float | None = None
    """`nms_floor` of two streams together; None: the same."""


@dataclass(frozen=True)
class TwoStageDecoding:
    """Constants between the stages; those behind the second one are AFSD's (`ModelSpec.decoding`)."""

    proposal_nms: float = 0.7
    """Of two proposals with a tIoU above this the lower one is dropped, those of anchors and points alike (R-C3D)."""

    def __post_init__(self) -> None:
        if not 0 < self.proposal_nms <= 1:
            raise ValueError(f"proposal_nms is {self.proposal_nms}, expected a tIoU above 0, up to 1")
