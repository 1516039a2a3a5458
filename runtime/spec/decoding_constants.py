"""Hold the constants that turn raw outputs into detections, as the configuration and the ModelSpec keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from runtime.common.ranges import Count, Range, Share, check_ranges


@dataclass(frozen=True)
class A2NetDecoding:
    """Holds the constants that turn A2Net's raw outputs into detections; defaults: the released THUMOS14 code."""

    balance: Share = 0.5
    """Balance λ (Table V): scores of points are weighted by λ, of anchors by 1 − λ, both divided by the larger of the
    two. 0.5 leaves scores as they are (released THUMOS14 code); 5/7 gives anchors 0.4 (released ActivityNet code)."""
    overlap: Literal["sigmoid", "plain"] = "sigmoid"
    """Use of the predicted overlap p_o in an anchor's score: sigmoid(p_o)·max S (released THUMOS14 code), or p_o
    itself, clamped to 0..1, as it was trained (paper; released ActivityNet code)."""
    background_limit: Annotated[float, Range(0, 2)] = 0.98
    """Background probability from which an anchor is dropped; above 1 none is."""
    labels: Literal["best", "all"] = "best"
    """Classes for which an anchor or point is a candidate: only its likeliest class (released code), or every class."""
    score_threshold: Annotated[float, Range(-1, 1)] = 0.0
    """Candidates need a score strictly above this threshold, -1 takes those of score 0 too; the released code has
    none."""
    nms_threshold: Share = 0.2
    """Largest tIoU of two detections of a class that are both kept."""
    nms_top_k: Count = 200
    """Maximum number of detections per class and video."""
    video_top_k: Count = 200
    """Maximum number of detections per video; the best are kept."""
    copied_classes: tuple[tuple[str, str], ...] = ()
    """Pairs (from, to): candidates of the first class are repeated as the second class. The released THUMOS14 code has
    (CliffDiving, Diving), since every CliffDiving of that data set is also annotated as a Diving."""

    def __post_init__(self) -> None:
        check_ranges(self)

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

    score_threshold: Share = 0.01
    """Candidates need a score strictly above this threshold."""
    nms_sigma: Annotated[float, Range(0, 1000, above=True)] = 0.5
    """Width σ of the Gaussian soft-NMS, score ← score·exp(−tIoU²/σ)."""
    nms_floor: Share = 0.001
    """Lowest decayed score of a candidate that is kept."""
    nms_top_k: Count = 5000
    """Maximum number of detections per class and video."""
    quality: bool = True
    """Whether sigmoid(center) multiplies the class scores; off in a network without a quality head (Table 2 b)."""
    fusion: Literal["mean", "geometric"] = "mean"
    """Fusion of two streams: the mean of all raw outputs (THUMOS14), or the geometric mean of the refined, clamped
    segment ends with the mean of the logits (ActivityNet)."""
    fused_threshold: Share | None = None
    """Value of `score_threshold` for two fused streams; None: `score_threshold`."""
    fused_floor: Share | None = None
    """Value of `nms_floor` for two fused streams; None: `nms_floor`."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class TwoStageDecoding:
    """Holds the constants between the two stages; those after the second stage are in `ModelSpec.decoding`."""

    proposal_nms: Annotated[float, Range(0, 1, above=True)] = 0.7
    """Largest tIoU of two proposals, of anchors or points, that are both kept (R-C3D)."""

    def __post_init__(self) -> None:
        check_ranges(self)
