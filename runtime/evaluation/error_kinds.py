"""Sort the errors of detections by kind, and compute what each kind costs (as DETAD, Alwassel et al., ECCV 2018).

For a class of G instances, the best G, 2G … 10G detections are examined. A detection that is no hit is classified by
the instance, of any class, that it overlaps most:

    double detection   its own class, tIoU ≥ threshold: another detection found the instance
    wrong label        another class, tIoU ≥ threshold
    localization       its own class, 0.1 ≤ tIoU < threshold
    confusion          another class, 0.1 ≤ tIoU < threshold
    background         the rest

Two differences from DETAD's code: of equally overlapped instances the own class counts (in THUMOS'14 every CliffDiving
is also a Diving), where DETAD takes the first in the file; and DETAD computes gains on the best 10·G detections, this
module on all, so that a gain adds to the mAP of `evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.ranges import Range, require_in_range
from runtime.common.tables import align, percent
from runtime.evaluation.matching import (
    ClassPool,
    Instances,
    Rule,
    average_precision,
    class_pools,
    instances_of,
    judged_classes,
    judged_detections,
    overlapping_pairs,
)
from runtime.results.detections import Detections

KINDS = ("true positive", "double detection", "wrong label", "localization", "confusion", "background")
"""Kinds of detections by number."""
HIT, DOUBLE, WRONG_LABEL, LOCALIZATION, CONFUSION, BACKGROUND = range(len(KINDS))

TOUCHING = 0.1
"""Lowest tIoU at which a detection counts as badly localized instead of background."""

MULTIPLES = 10
"""Largest multiple of G detections that is examined."""


@dataclass(frozen=True, eq=False)
class FalsePositiveResult:
    """Holds the profile of errors and the gain from removing each kind."""

    tiou: float
    rule: Rule
    shares: NDArray[np.float64]
    """Share of each kind (KINDS) among the detections ranked (m−1)·G … m·G of their class, [10,6] in 0..1."""
    counts: NDArray[np.int64]
    """Number of detections of each kind among the best 10·G, [6]."""
    map: float
    """Mean average precision of all detections."""
    gains: NDArray[np.float64]
    """Gain of mAP without the detections of each kind, [6]; 0 for true positives."""

    def to_mapping(self) -> dict[str, Any]:
        """Return {"tiou", "mAP", "kinds": {name: {"count", "gain", "shares"}}}, with null for NaN."""
        kinds = {
            name: {
                "count": int(self.counts[k]),
                "gain": float(self.gains[k]),
                "shares": [None if np.isnan(share) else float(share) for share in self.shares[:, k]],
            }
            for k, name in enumerate(KINDS)
        }
        return {"tiou": self.tiou, "mAP": self.map, "kinds": kinds}

    def table(self) -> str:
        """Return a text table: a row per kind with its share in each multiple of G, and the gain in points of mAP."""
        header = [f"% at tIoU {self.tiou:g}", *(f"{m}G" for m in range(1, len(self.shares) + 1)), "number", "mAP gain"]
        rows = [
            [
                name,
                *("–" if np.isnan(share) else f"{100 * share:.1f}" for share in self.shares[:, k]),
                str(int(self.counts[k])),
                "" if k == HIT else f"+{percent(float(self.gains[k]))}",
            ]
            for k, name in enumerate(KINDS)
        ]
        return align([header, *rows])


def checked_hit(tiou: float) -> float:
    """Return the tIoU of a hit as a float (InputError: none above `TOUCHING`, where localization errors begin)."""
    require_in_range("tIoU threshold of a hit", tiou, Annotated[float, Range(TOUCHING, 1, above=True)])
    return float(tiou)


def analyse_false_positives(
    predictions: Sequence[Detections],
    ground_truth: Sequence[VideoAnnotation],
    tiou: float = 0.5,
    rule: Rule = "activitynet",
) -> FalsePositiveResult:
    """Analyse the kinds of errors among the best detections, and what each kind costs.

    Under the THUMOS'14 rule, detections that touch an Ambiguous region are left out, as in its average precision.

    Args:
        predictions: detections, per video.
        ground_truth: annotations of the videos of one subset.
        tiou: threshold of a hit, above TOUCHING.
        rule: rule of matching, see `runtime.evaluation.matching`.

    Raises:
        InputError: the threshold is out of range.
        AnnotationError: the ground truth holds no instance.
    """
    threshold = checked_hit(tiou)
    judged, classes = judged_detections(predictions, ground_truth, rule), judged_classes(ground_truth)
    instances = instances_of(ground_truth, {name: index for index, name in enumerate(classes)})
    table = np.zeros((MULTIPLES, len(KINDS)), np.int64)
    precision = np.zeros(len(KINDS))  # of each class, summed: as it is (HIT), and without each other kind
    for own, pool in enumerate(class_pools(judged, ground_truth, classes, rule)):
        verdict = pool.judge(threshold)
        kinds = sort_kinds(pool, own, verdict.hits, instances, threshold)[~verdict.excused]
        count = len(pool.instances)
        for m in range(MULTIPLES):
            table[m] += np.bincount(kinds[m * count : (m + 1) * count], minlength=len(KINDS))
        for k in range(len(KINDS)):
            counted = kinds[(kinds != k) | (kinds == HIT)]
            precision[k] += average_precision(counted == HIT, count, rule)
    means = precision / len(classes)
    with np.errstate(invalid="ignore"):
        shares = table / table.sum(axis=1, keepdims=True)
    return FalsePositiveResult(threshold, rule, shares, table.sum(axis=0), float(means[HIT]), means - means[HIT])


def sort_kinds(
    pool: ClassPool, number: int, hits: NDArray[np.bool_], instances: Instances, threshold: float
) -> NDArray[np.int64]:
    """Return the kind [P], an index into KINDS, of every detection of a class, judged by instances of all classes.

    Args:
        pool: detections of the class.
        number: number of the class among `instances.labels`.
        hits: whether each detection is a true positive, [P].
        instances: instances of all classes.
        threshold: tIoU of a hit.
    """
    own, other = np.zeros(len(hits)), np.zeros(len(hits))
    pairs = overlapping_pairs(pool.videos, pool.segments, instances)
    same = instances.labels[pairs.columns] == number
    for best, chosen in ((own, same), (other, ~same)):
        np.maximum.at(best, pairs.rows[chosen], pairs.overlaps[chosen])
    mine, most = own >= other, np.maximum(own, other)
    conditions = {
        HIT: hits,
        DOUBLE: mine & (most >= threshold),
        WRONG_LABEL: most >= threshold,
        LOCALIZATION: mine & (most >= TOUCHING),
        CONFUSION: most >= TOUCHING,
    }
    return np.select(list(conditions.values()), list(conditions), BACKGROUND)
