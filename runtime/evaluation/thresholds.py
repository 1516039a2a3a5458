"""Compute precision, recall and F1 by score, and the score from which on detections are worth showing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.ranges import require_in_range
from runtime.common.tables import align
from runtime.evaluation.matching import checked_thresholds, class_pools, judged_classes, judged_detections
from runtime.results.detections import Detections


@dataclass(frozen=True)
class Quality:
    """Holds what the detections from a score on are worth."""

    threshold: float
    """Lowest score of the detections."""
    shown: int
    """Number of detections."""
    hits: int
    """Number of them that found an instance."""
    instances: int

    @property
    def precision(self) -> float:
        """Share of the detections that found an instance; 0 without detections."""
        return self.hits / self.shown if self.shown else 0.0

    @property
    def recall(self) -> float:
        """Share of the instances that were found; 0 without instances."""
        return self.hits / self.instances if self.instances else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall: 2·hits / (detections + instances)."""
        return 2 * self.hits / (self.shown + self.instances) if self.shown + self.instances else 0.0

    def to_mapping(self) -> dict[str, float]:
        """Return all numbers by name."""
        return {
            "threshold": self.threshold, "precision": self.precision, "recall": self.recall, "f1": self.f1,
            "shown": self.shown, "hits": self.hits, "instances": self.instances,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class ScoredHits:
    """Holds the scores of detections, falling, and whether each found an instance."""

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    instances: int

    def at(self, threshold: float) -> Quality:
        """Return the quality of the detections from a score on (InputError: it is no finite number)."""
        require_in_range("threshold", threshold, float)
        shown = int(np.searchsorted(-self.scores, -threshold, side="right"))
        return Quality(threshold, shown, int(np.count_nonzero(self.hits[:shown])), self.instances)

    def best(self) -> Quality | None:
        """Return the quality at the score of the largest F1, of equal ones the highest; None without a hit.

        The threshold is the roundest number that shows the same detections.
        """
        if not self.hits.any():
            return None
        last = np.flatnonzero(np.append(np.diff(self.scores) < 0, True))  # of equal scores all or none are shown
        f1 = 2 * np.cumsum(self.hits)[last] / (last + 1 + self.instances)
        place = int(last[f1.argmax()])
        below = float(self.scores[place + 1]) if place + 1 < len(self.scores) else 0.0
        return self.at(_roundest(below, float(self.scores[place])))


@dataclass(frozen=True, eq=False)
class ThresholdResult:
    """Holds the quality of detections by score, for all classes together and for each."""

    tiou: float
    """tIoU from which on a detection finds an instance."""
    chosen: Quality
    """Quality of all classes together at the score that was asked for, or at that of the largest F1."""
    best: Quality | None
    """Quality at the score of the largest F1; None: no detection found an instance."""
    classes: dict[str, tuple[Quality, Quality | None]]
    """Name of a class → its quality at the chosen score, and at its own best one."""

    def to_mapping(self) -> dict[str, object]:
        """Return {"tiou", "chosen", "best", "classes": {name: {"chosen", "best"}}}."""
        return {
            "tiou": self.tiou,
            "chosen": self.chosen.to_mapping(),
            "best": self.best and self.best.to_mapping(),
            "classes": {
                name: {"chosen": chosen.to_mapping(), "best": best and best.to_mapping()}
                for name, (chosen, best) in self.classes.items()
            },
        }

    def table(self) -> str:
        """Return a table: a row for each class, then all together."""
        header = ["class", "instances", "shown", "precision", "recall", "F1", "its best score", "F1 there"]
        rows = [
            [name, *_cells(chosen), "–" if best is None else f"{best.threshold:g}", f"{best.f1:.3f}" if best else "–"]
            for name, (chosen, best) in self.classes.items()
        ]
        best = ["–", "–"] if self.best is None else [f"{self.best.threshold:g}", f"{self.best.f1:.3f}"]
        total = ["all", *_cells(self.chosen), *best]
        title = f"from score {self.chosen.threshold:g} on, right from tIoU {self.tiou:g} on"
        return f"{title}\n{align([header, *rows, total], 'lrrrrrrr')}"


def evaluate_thresholds(
    predictions: Sequence[Detections],
    ground_truth: Sequence[VideoAnnotation],
    tiou: float = 0.5,
    threshold: float | None = None,
) -> ThresholdResult:
    """Compute precision, recall and F1 by score.

    Detections are matched by ActivityNet's rule: best first, each takes the free instance that it overlaps most. What
    lies below a score then changes nothing above it, which does not hold for the rule of THUMOS'14.

    Args:
        predictions: detections of the videos; videos that are not annotated are not judged.
        ground_truth: annotations.
        tiou: tIoU from which on a detection finds an instance.
        threshold: score whose quality is wanted; None: that of the largest F1 over all classes together.

    Raises:
        InputError: NaN, a tIoU out of range, or a threshold that is no finite number.
        AnnotationError: the ground truth holds no instance.
    """
    (tiou,) = checked_thresholds([tiou])
    classes = judged_classes(ground_truth)
    judged = judged_detections(predictions, ground_truth)
    parts = {
        pool.name: ScoredHits(pool.scores, pool.judge(tiou).hits, len(pool.instances))
        for pool in class_pools(judged, ground_truth, classes, "activitynet")
    }
    scores = np.concatenate([part.scores for part in parts.values()])
    order = np.argsort(-scores, kind="stable")
    hits = np.concatenate([part.hits for part in parts.values()])
    whole = ScoredHits(scores[order], hits[order], sum(part.instances for part in parts.values()))
    best = whole.best()
    if threshold is None:
        threshold = 0.0 if best is None else best.threshold
    each = {name: (part.at(threshold), part.best()) for name, part in parts.items()}
    return ThresholdResult(tiou, whole.at(threshold), best, each)


def _cells(quality: Quality) -> list[str]:
    shares = (quality.precision, quality.recall, quality.f1)
    return [str(quality.instances), str(quality.shown), *(f"{share:.3f}" for share in shares)]


def _roundest(below: float, score: float) -> float:
    """Return the number with the fewest decimals, two at least, that is above `below` and not above `score`."""
    for decimals in range(2, 16):
        rounded = math.floor(score * 10**decimals) / 10**decimals
        if below < rounded <= score:
            return float(rounded)
    return score
