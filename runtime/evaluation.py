"""Mean average precision of detections by the ActivityNet rule, as the published AFSD evaluator computes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.annotations import VideoAnnotation, class_names
from runtime.detections import Detections
from runtime.errors import AnnotationError, InputError
from runtime.segments import tiou

THUMOS_TIOUS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""tIoU thresholds of the THUMOS14 tables (AFSD, section 4.1)."""

TieOrder = Literal["stable", "reference"]
"""Which of equally scored detections comes first: the one read first, or the one that numpy's unstable sort happens
to put last, as in the published evaluator; the latter depends on the processor."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Average precisions."""

    tious: tuple[float, ...]
    """K thresholds."""
    classes: tuple[str, ...]
    """C classes of the ground truth."""
    ap: NDArray[np.float64]
    """[C,K] average precision, 0..1."""
    truths: NDArray[np.int64]
    """[C] number of ground-truth instances."""
    detections: NDArray[np.int64]
    """[C] number of detections that were judged."""
    ignored: int
    """Detections left out: their video or label is not in the ground truth."""
    inverted: int
    """Judged detections that end before they start; each is a false positive."""

    @property
    def map(self) -> NDArray[np.float64]:
        """[K] mean average precision over the classes."""
        return np.asarray(self.ap.mean(axis=0))

    @property
    def average(self) -> float:
        """Mean of `map` over the thresholds."""
        return float(self.map.mean())

    def to_json(self) -> str:
        """{"tiou", "mAP", "average_mAP", "classes": {name: {"ap", "truths", "detections"}}, "ignored", "inverted"}."""
        classes = {
            name: {"ap": self.ap[c].tolist(), "truths": int(self.truths[c]), "detections": int(self.detections[c])}
            for c, name in enumerate(self.classes)
        }
        return json.dumps(
            {
                "tiou": list(self.tious),
                "mAP": self.map.tolist(),
                "average_mAP": self.average,
                "classes": classes,
                "ignored": self.ignored,
                "inverted": self.inverted,
            }
        )


def evaluate(
    predictions: Sequence[Detections],
    ground_truth: Sequence[VideoAnnotation],
    tious: Sequence[float] = THUMOS_TIOUS,
    tie_order: TieOrder = "stable",
) -> EvaluationResult:
    """Average precision per class and tIoU threshold.

    Detections of videos or labels that the ground truth lacks are ignored. The others of a class, best first, claim
    ground truth of their video: each takes the free instance with the highest tIoU not below the threshold, and is
    a false positive when there is none.

    Args:
        predictions: per video; the classes may be in any order, labels are matched by name.
        ground_truth: the videos of one subset, from `runtime.annotations.load_annotations`.
        tious: thresholds, each above 0 and at most 1.
        tie_order: see `TieOrder`.

    Raises:
        InputError: a threshold out of range.
        AnnotationError: the ground truth holds no instance.
    """
    thresholds = np.array(tious, np.float64)
    if not len(thresholds) or not np.all((thresholds > 0) & (thresholds <= 1)):
        raise InputError(f"tIoU thresholds {tuple(tious)}: expected at least one, each above 0 and at most 1")
    classes = class_names(ground_truth)
    if not classes:
        raise AnnotationError("the ground truth holds no instance, expected at least one to judge detections by")
    known = {video.name for video in ground_truth}
    judged = [detections for detections in predictions if detections.video in known]
    results = [_ClassJudge(name, judged, ground_truth, tie_order) for name in classes]
    counts = np.array([len(result.scores) for result in results])
    return EvaluationResult(
        tious=tuple(float(t) for t in tious),
        classes=classes,
        ap=np.stack([result.average_precision(thresholds) for result in results]),
        truths=np.array([result.num_truths for result in results]),
        detections=counts,
        ignored=sum(map(len, predictions)) - int(counts.sum()),
        inverted=sum(result.inverted for result in results),
    )


class _ClassJudge:
    """The detections of one class over all videos, best first, and the instances they compete for."""

    def __init__(
        self, name: str, predictions: Sequence[Detections], truth: Sequence[VideoAnnotation], tie_order: TieOrder
    ) -> None:
        parts = [detections.of_class(name) for detections in predictions]
        segments = np.concatenate([np.empty((0, 2)), *(part.segments for part in parts)])
        videos = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        scores = np.concatenate([np.empty(0), *(part.scores for part in parts)])
        order = np.argsort(-scores, kind="stable") if tie_order == "stable" else np.argsort(scores)[::-1]
        self.scores = scores[order]
        self.inverted = int(np.count_nonzero(segments[:, 1] < segments[:, 0]))
        instances = {
            video.name: np.array([(i.start_s, i.end_s) for i in video.instances if i.label == name]).reshape(-1, 2)
            for video in truth
        }
        self.num_truths = sum(map(len, instances.values()))
        self._overlaps: list[tuple[NDArray[np.intp], NDArray[np.float64]]] = []
        """Per video: ranks of its detections [P], ascending, and their tIoU with its instances [P,G]."""
        segments, videos = segments[order], videos[order]
        for index, detections in enumerate(predictions):
            ranks = np.flatnonzero(videos == index)
            overlaps = tiou(instances[detections.video], segments[ranks, None])
            if overlaps.size:
                self._overlaps.append((ranks, overlaps))

    def average_precision(self, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        """[K] average precision at the thresholds [K]."""
        result = np.zeros(len(thresholds))
        for k, threshold in enumerate(thresholds):
            hits = np.zeros(len(self.scores), bool)
            for ranks, overlaps in self._overlaps:
                hits[ranks[match(overlaps, threshold)]] = True
            result[k] = interpolated_average_precision(hits, self.num_truths)
        return result


def match(overlaps: NDArray[np.float64], threshold: float) -> list[int]:
    """Rows of `overlaps` [P,G] (tIoU of detections, best first, with instances) that claim an instance, in order.

    Each detection takes the free instance of the highest tIoU, if that is not below the threshold; of equal ones the
    last, as the published evaluator does. Every turn finds the next detection with a claim, so there are at most
    G + 1 of them.
    """
    free = np.where(overlaps >= threshold, overlaps, -1.0)
    claimants: list[int] = []
    row = 0
    while True:
        claims = np.flatnonzero((free[row:] >= 0).any(axis=1))
        if not len(claims):
            return claimants
        row += int(claims[0])
        claimants.append(row)
        free[:, free.shape[1] - 1 - int(free[row, ::-1].argmax())] = -1.0
        row += 1


def interpolated_average_precision(hits: NDArray[np.bool_], num_truths: int) -> float:
    """Area under the precision-recall curve made non-increasing (PASCAL VOC 2011).

    Args:
        hits: bool [P], true positives among the detections, best first.
        num_truths: number of instances, above 0.
    """
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / num_truths)


def format_table(result: EvaluationResult, per_class: bool = False) -> str:
    """The result as an aligned text table in percent: a line for the mean and, if wanted, one for every class."""
    header = ["", *(f"{t:.2f}" for t in result.tious), "average", "truths", "detections"]
    rows = [
        [name, *(f"{100 * ap:.2f}" for ap in (*result.ap[c], result.ap[c].mean())), str(truths), str(detections)]
        for c, (name, truths, detections) in enumerate(
            zip(result.classes, result.truths.tolist(), result.detections.tolist(), strict=True)
        )
    ]
    totals = [str(int(result.truths.sum())), str(int(result.detections.sum()))]
    mean = ["mAP % at tIoU", *(f"{100 * value:.2f}" for value in (*result.map, result.average)), *totals]
    table = [header, *(rows if per_class else []), mean]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    ]
    notes = [
        f"{count} of the detections {why}"
        for count, why in (
            (result.ignored, "are left out: their video or label is not in the ground truth"),
            (result.inverted, "end before they start: each counts as a false positive"),
        )
        if count
    ]
    return "\n".join(line.rstrip() for line in lines + notes)
