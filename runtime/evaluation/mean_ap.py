"""Compute the mean average precision of detections, per class and per tIoU, by either rule."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.tables import align, percent
from runtime.errors import InputError
from runtime.evaluation.matching import (
    Rule,
    TieOrder,
    checked_thresholds,
    class_pools,
    judged_classes,
    judged_detections,
)
from runtime.results.detections import Detections

THUMOS_TIOUS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""tIoU thresholds of the THUMOS14 tables (AFSD, section 4.1)."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Holds average precisions of C classes at K thresholds."""

    tious: tuple[float, ...]
    """Thresholds of the tIoU, K."""
    classes: tuple[str, ...]
    """Classes of the ground truth, C."""
    ap: NDArray[np.float64]
    """Average precision, [C,K] in 0..1."""
    truths: NDArray[np.int64]
    """Number of ground-truth instances, [C]."""
    detections: NDArray[np.int64]
    """Number of judged detections, [C]."""
    ignored: int
    """Number of detections left out: label or, by ActivityNet's rule, video not in the ground truth."""
    inverted: int
    """Number of judged detections that end before they start; each is a false positive."""
    rule: Rule = "activitynet"
    """Rule of the evaluation."""
    unannotated: int = 0
    """Number of judged detections in videos without annotations (THUMOS'14 rule); each is a false positive."""

    @property
    def map(self) -> NDArray[np.float64]:
        """Mean average precision over the classes, [K]."""
        return np.asarray(self.ap.mean(axis=0))

    @property
    def average(self) -> float:
        """Mean of `map` over the thresholds."""
        return float(self.map.mean())

    def of_classes(self, names: Iterable[str]) -> EvaluationResult:
        """Return the result for some of the classes, in their order; classes without instances are not in the mean.

        The counts over all detections (`ignored`, `inverted`, `unannotated`) are unchanged.

        Raises:
            InputError: none of the classes has an instance.
        """
        wanted = set(names)
        rows = [row for row, name in enumerate(self.classes) if name in wanted]
        if not rows:
            raise InputError(
                f"no instance of {', '.join(sorted(wanted)) or 'no class'} in the ground truth to judge by"
            )
        return replace(
            self,
            classes=tuple(self.classes[row] for row in rows),
            ap=self.ap[rows],
            truths=self.truths[rows],
            detections=self.detections[rows],
        )

    def to_mapping(self) -> dict[str, object]:
        """Return {"rule", "tiou", "mAP", "average_mAP", "classes": {name: {"ap", "truths", "detections"}}, …}."""
        classes = {
            name: {"ap": self.ap[c].tolist(), "truths": int(self.truths[c]), "detections": int(self.detections[c])}
            for c, name in enumerate(self.classes)
        }
        return {
            "rule": self.rule,
            "tiou": list(self.tious),
            "mAP": self.map.tolist(),
            "average_mAP": self.average,
            "classes": classes,
            "ignored": self.ignored,
            "inverted": self.inverted,
            "unannotated": self.unannotated,
        }

    def to_json(self) -> str:
        """Return `to_mapping` as JSON."""
        return json.dumps(self.to_mapping())


def evaluate(
    predictions: Sequence[Detections],
    ground_truth: Sequence[VideoAnnotation],
    tious: Sequence[float] = THUMOS_TIOUS,
    tie_order: TieOrder = "stable",
    rule: Rule = "activitynet",
) -> EvaluationResult:
    """Compute the average precision per class and tIoU threshold.

    Detections of labels that the ground truth lacks are ignored. Detections in videos that the ground truth lacks are
    ignored by ActivityNet's rule, and false positives by the THUMOS'14 rule. Ambiguous is not a class.

    Args:
        predictions: detections, per video; classes may be in any order, labels are matched by name.
        ground_truth: annotations of the videos of one subset.
        tious: thresholds, each above 0 and at most 1.
        tie_order: see `TieOrder`.
        rule: see `runtime.evaluation.matching`.

    Raises:
        InputError: a threshold out of range, or NaN in a detection.
        AnnotationError: the ground truth holds no instance.
    """
    thresholds, classes = checked_thresholds(tious), judged_classes(ground_truth)
    judged = judged_detections(predictions, ground_truth, rule)
    known = {video.name for video in ground_truth}
    counts, truths = np.zeros((2, len(classes)), np.int64)
    precision, inverted = np.zeros((len(classes), len(thresholds))), 0
    for c, pool in enumerate(class_pools(judged, ground_truth, classes, rule, tie_order)):
        counts[c], truths[c] = len(pool.scores), len(pool.instances)
        precision[c] = [pool.average_precision(pool.judge(tiou)) for tiou in thresholds]
        inverted += pool.inverted
    return EvaluationResult(
        tious=thresholds,
        classes=classes,
        ap=precision,
        truths=truths,
        detections=counts,
        ignored=sum(map(len, predictions)) - int(counts.sum()),
        inverted=inverted,
        rule=rule,
        unannotated=sum(_count_of(d, set(classes)) for d in judged if d.video not in known),
    )


def _count_of(found: Detections, classes: Collection[str]) -> int:
    """Return the number of detections of some classes."""
    chosen = [index for index, name in enumerate(found.classes) if name in classes]
    return int(np.isin(found.labels, chosen).sum())


def format_table(result: EvaluationResult, per_class: bool = False) -> str:
    """Format the result as a text table in percent: a line for the mean and, if wanted, one for every class."""
    header = ["", *(f"{t:.2f}" for t in result.tious), "average", "truths", "detections"]
    rows = [
        [name, *map(percent, (*result.ap[c], result.ap[c].mean())), str(truths), str(detections)]
        for c, (name, truths, detections) in enumerate(
            zip(result.classes, result.truths.tolist(), result.detections.tolist(), strict=True)
        )
    ]
    totals = [str(int(result.truths.sum())), str(int(result.detections.sum()))]
    mean = ["mAP % at tIoU", *map(percent, (*result.map, result.average)), *totals]
    notes = [
        f"{count} of the detections {why}"
        for count, why in (
            (result.ignored, "are left out: their video or label is not in the ground truth"),
            (result.inverted, "end before they start: each counts as a false positive"),
            (result.unannotated, "are in videos without annotations: false positives by the THUMOS'14 rule"),
        )
        if count
    ]
    return "\n".join([align([header, *(rows if per_class else []), mean]), *notes])
