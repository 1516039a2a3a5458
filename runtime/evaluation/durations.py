"""Compute mean average precision by the duration of the instances (A2Net, Table I)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.ranges import Seconds, require_numbers
from runtime.common.tables import align, percent
from runtime.errors import InputError
from runtime.evaluation.matching import (
    NOBODY,
    ClassPool,
    Rule,
    average_precision,
    checked_thresholds,
    class_pools,
    judged_classes,
    judged_detections,
)
from runtime.evaluation.mean_ap import THUMOS_TIOUS
from runtime.results.detections import Detections

A2NET_EDGES = (1.5, 2.5, 4.2, 6.9)
"""Edges in seconds of A2Net's five bins: below 1.5, [1.5, 2.5), [2.5, 4.2), [4.2, 6.9), 6.9 and more."""


@dataclass(frozen=True, eq=False)
class DurationResult:
    """Holds average precisions of B bins at K thresholds."""

    edges: tuple[float, ...]
    """Edges of the bins in seconds, [B−1]; a bin includes its lower edge."""
    tious: tuple[float, ...]
    map: NDArray[np.float64]
    """Mean AP [B,K] over the classes that have instances in the bin, 0..1; NaN for an empty bin."""
    truths: NDArray[np.int64]
    """Number of instances in each bin, [B]."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bins, such as "1.5 – 2.5 s"."""
        return bin_names(self.edges)

    def to_mapping(self) -> dict[str, Any]:
        """Return {"edges_s", "tiou", "bins": [{"bin", "truths", "mAP"}]}, with null for NaN."""
        return {
            "edges_s": list(self.edges),
            "tiou": list(self.tious),
            "bins": [
                {"bin": name, "truths": int(count), "mAP": [None if np.isnan(v) else float(v) for v in values]}
                for name, count, values in zip(self.names, self.truths, self.map, strict=True)
            ],
        }

    def table(self) -> str:
        """Return a text table in percent."""
        rows = [["mAP % by duration", *(f"{t:.2f}" for t in self.tious), "average", "truths"]]
        for name, count, values in zip(self.names, self.truths.tolist(), self.map, strict=True):
            cells = ["–" if np.isnan(value) else percent(float(value)) for value in (*values, values.mean())]
            rows.append([name, *cells, str(count)])
        return align(rows)


def bin_names(edges: Sequence[float]) -> tuple[str, ...]:
    """Return the names of the bins, such as "1.5 – 2.5 s"."""
    inner = (f"{low:g} – {high:g} s" for low, high in pairwise(edges))
    return (f"< {edges[0]:g} s", *inner, f"≥ {edges[-1]:g} s")


def evaluate_durations(
    predictions: Sequence[Detections],
    ground_truth: Sequence[VideoAnnotation],
    tious: Sequence[float] = THUMOS_TIOUS,
    edges: Sequence[float] = A2NET_EDGES,
    rule: Rule = "activitynet",
) -> DurationResult:
    """Compute the average precision on the instances of each bin of durations.

    Detections are first matched with all instances. For each bin, detections that found an instance of another bin are
    left out; detections that found none are false positives in every bin, since they have no true duration. (DETAD's
    sensitivity analysis does the same.)

    Raises:
        InputError: thresholds out of range, or edges that do not rise from above 0.
        AnnotationError: the ground truth holds no instance.
    """
    thresholds = checked_thresholds(tious)
    bounds = np.array(require_numbers("edges of durations", edges, Seconds))
    if (np.diff(bounds) <= 0).any():
        raise InputError(f"edges of durations: got {tuple(edges)}, expected rising seconds, such as 1.5, 2.5")
    judged, classes = judged_detections(predictions, ground_truth, rule), judged_classes(ground_truth)
    sums = np.zeros((len(bounds) + 1, len(thresholds)))
    present, truths = np.zeros(len(bounds) + 1, np.int64), np.zeros(len(bounds) + 1, np.int64)
    for pool in class_pools(judged, ground_truth, classes, rule):
        bins = np.searchsorted(bounds, pool.instances[:, 1] - pool.instances[:, 0], side="right")
        counts = np.bincount(bins, minlength=len(truths))
        truths += counts
        present += counts > 0
        for k, threshold in enumerate(thresholds):
            sums[:, k] += _by_bin(pool, threshold, bins, counts)
    with np.errstate(invalid="ignore"):
        return DurationResult(tuple(bounds.tolist()), thresholds, sums / present[:, None], truths)


def _by_bin(
    pool: ClassPool, threshold: float, bins: NDArray[np.intp], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the average precision [B] of one class on the instances of each bin."""
    verdict = pool.judge(threshold)
    bin_found = np.where(verdict.hits, bins[verdict.found], NOBODY) if len(bins) else verdict.found
    result = np.zeros(len(counts))
    for b in np.flatnonzero(counts):
        counted = (bin_found == b) | ((bin_found == NOBODY) & ~verdict.excused)
        result[b] = average_precision((bin_found == b)[counted], int(counts[b]), pool.rule)
    return result
