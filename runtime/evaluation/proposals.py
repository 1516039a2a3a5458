"""Compute the average recall by average number of proposals, and the area under its curve (ActivityNet's task)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation
from runtime.annotations.thumos14 import AMBIGUOUS
from runtime.common.ranges import Positive, require_in_range
from runtime.common.tables import align, percent
from runtime.evaluation.matching import checked_thresholds, judged_classes, judged_detections
from runtime.results.detections import Detections
from runtime.segments import tiou

ACTIVITYNET_TIOUS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
"""Thresholds 0.5, 0.55 … 0.95 of ActivityNet's recalls at up to 100 proposals per video."""
THUMOS_RECALL_TIOUS = (*ACTIVITYNET_TIOUS, 1.0)
"""Thresholds of the recalls in THUMOS14 tables, at up to 1,000 proposals per video."""

POINTS = 100
"""Number of points of the curve."""


@dataclass(frozen=True, eq=False)
class ProposalResult:
    """Holds the recall of class-agnostic proposals."""

    tious: tuple[float, ...]
    numbers: NDArray[np.float64]
    """Average number of proposals per video (AN), [100]."""
    recall: NDArray[np.float64]
    """Recall averaged over the thresholds (AR), [100] in 0..1; constant once all proposals are taken."""
    available: float = 0.0
    """Average number of existing proposals per video, beyond which the curve is constant."""

    @property
    def auc(self) -> float:
        """Area under AR over AN, divided by the largest AN, 0..1 (ActivityNet's ranking)."""
        if not len(self.numbers):
            return 0.0
        area = np.diff(self.numbers) @ (self.recall[1:] + self.recall[:-1]) / 2
        return float(area / self.numbers[-1])

    def at(self, number: float) -> float:
        """Return the AR at an average number of proposals, linearly interpolated; NaN beyond the end of the curve."""
        require_in_range("number of proposals", number, float)
        if not len(self.numbers) or number > self.numbers[-1] + 1e-9:
            return float("nan")
        return float(np.interp(number, np.append(0.0, self.numbers), np.append(0.0, self.recall)))

    def to_mapping(self) -> dict[str, Any]:
        """Return {"tiou", "average_number", "average_recall", "auc", "available"}."""
        return {
            "tiou": list(self.tious),
            "average_number": self.numbers.tolist(),
            "average_recall": self.recall.tolist(),
            "auc": self.auc,
            "available": self.available,
        }

    def table(self, numbers: Sequence[float] = (1, 5, 10, 50, 100, 200, 500, 1000)) -> str:
        """Return a text table in percent: AR at the numbers on the curve, and the area under the curve."""
        first = self.numbers[0] - 1e-9 if len(self.numbers) else 0.0
        reached = [n for n in numbers if n >= first and not np.isnan(self.at(n))]
        header = ["recall % of proposals", *(f"AR@{n:g}" for n in reached), "AUC", "up to AN", "there are"]
        last = f"{self.numbers[-1]:g}" if len(self.numbers) else "0"
        return align(
            [header, ["", *(percent(self.at(n)) for n in reached), percent(self.auc), last, f"{self.available:.1f}"]]
        )


def evaluate_proposals(
    predictions: Sequence[Detections],
    ground_truth: Sequence[VideoAnnotation],
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    largest: float = 100.0,
) -> ProposalResult:
    """Compute the average recall of all detections taken as proposals, whatever their label.

    Every video keeps the same share of its proposals, best first: as many as give `largest` per video on average,
    then 1 %, 2 % … 100 % of those (ActivityNet's rule). An instance is recalled at a threshold if any kept proposal
    reaches that tIoU with the instance.

    Args:
        predictions: detections, per video.
        ground_truth: annotations of the videos of one subset; instances labelled Ambiguous are left out.
        tious: thresholds over which recall is averaged.
        largest: AN at the end of the curve. As in ActivityNet's evaluator, the curve reaches this AN even if there are
            fewer proposals, and is constant from `available` on.

    Raises:
        InputError: thresholds or `largest` out of range.
        AnnotationError: the ground truth holds no instance.
    """
    thresholds = checked_thresholds(tious)
    judged_classes(ground_truth)
    require_in_range("largest number of proposals", largest, Positive)
    ranked = {d.video: d.sorted("score") for d in judged_detections(predictions, ground_truth)}
    total = sum(map(len, ranked.values()))
    if not total:
        return ProposalResult(thresholds, np.empty(0), np.empty(0))
    kept = {
        name: ranked[name].take(np.arange(_share(len(ranked[name]), largest * len(ground_truth) / total)))
        for name in ranked
    }
    total_kept = sum(map(len, kept.values()))
    shares = np.arange(1, POINTS + 1) / POINTS * (largest * len(ground_truth) / max(total_kept, 1))
    recalled, instances = np.zeros(POINTS), 0
    for video in ground_truth:
        truth = np.array([(i.start_s, i.end_s) for i in video.instances if i.label != AMBIGUOUS]).reshape(-1, 2)
        instances += len(truth)
        if video.name in kept and len(kept[video.name]) and len(truth):
            recalled += _recalled(truth, kept[video.name].segments, np.array(thresholds), shares)
    return ProposalResult(
        thresholds, shares * total_kept / len(ground_truth), recalled / instances, total / len(ground_truth)
    )


def _share(count: int, share: float) -> int:
    return min(int(count * share), count)


def _recalled(
    truth: NDArray[np.float64], proposals: NDArray[np.float64], tious: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the instances of a video recalled by each share of its proposals, averaged over the thresholds, [100]."""
    best = np.maximum.accumulate(tiou(truth[:, None], proposals), axis=1)  # [G,P]: of the first p proposals
    counts = np.minimum((len(proposals) * shares).astype(np.int64), len(proposals))
    reached = np.concatenate([np.full((len(truth), 1), -1.0), best], axis=1)[:, counts]
    return np.asarray((reached[..., None] >= tious).sum(axis=0).mean(axis=1), np.float64)
