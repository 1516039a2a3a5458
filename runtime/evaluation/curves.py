"""Compute the curve of precision over recall of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.ranges import Count, require_in_range
from runtime.evaluation.matching import (
    Rule,
    checked_thresholds,
    class_pools,
    judged_classes,
    judged_detections,
)
from runtime.results.detections import Detections


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Holds the curve of one class: a point for each of its P judged detections, best first."""

    name: str
    """Name of the class."""
    truths: int
    """Number of instances."""
    scores: NDArray[np.float64]
    """Score from which on detections are counted at the point, [P]."""
    precision: NDArray[np.float64]
    """Share of hits among the detections counted, [P] in 0..1."""
    recall: NDArray[np.float64]
    """Share of instances found by the detections counted, [P] in 0..1."""

    def at(self, threshold: float) -> tuple[float, float]:
        """Return recall and precision of the detections of at least a score; (0, 1) where there are none."""
        require_in_range("threshold", threshold, float)
        count = int((self.scores >= threshold).sum())
        return (float(self.recall[count - 1]), float(self.precision[count - 1])) if count else (0.0, 1.0)

    def thinned(self, points: int) -> list[list[float]]:
        """Return at most some `points` pairs [recall, precision] that draw the same curve: where recall rises."""
        require_in_range("points", points, Count)
        steps = np.flatnonzero(np.diff(self.recall, prepend=-1.0, append=2.0))  # first of each recall, and the end
        kept = np.unique(np.concatenate([steps[:-1], np.maximum(steps[1:] - 1, 0)])) if len(steps) > 1 else steps[:0]
        if len(kept) > points:
            kept = kept[np.unique(np.linspace(0, len(kept) - 1, points).astype(np.int64))]
        pairs: Any = np.stack([self.recall[kept], self.precision[kept]], axis=1).round(4).tolist()
        return list(pairs)


def precision_recall(
    predictions: Sequence[Detections],
    ground_truth: Sequence[VideoAnnotation],
    tiou: float = 0.5,
    rule: Rule = "activitynet",
) -> list[PrecisionRecall]:
    """Return the curve of each class of the ground truth; arguments and errors are those of `evaluate`."""
    (threshold,) = checked_thresholds([tiou])
    classes, judged = judged_classes(ground_truth), judged_detections(predictions, ground_truth, rule)
    curves = []
    for pool in class_pools(judged, ground_truth, classes, rule):
        verdict = pool.judge(threshold)
        counted = ~verdict.excused
        hits = np.cumsum(verdict.hits[counted])
        count = len(pool.instances)
        curves.append(
            PrecisionRecall(
                pool.name,
                count,
                pool.scores[counted],
                hits / np.arange(1, len(hits) + 1),
                hits / max(count, 1),
            )
        )
    return curves
