"""Constants of A2Net's decoding, as the configuration and the ModelSpec hold them."""

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
