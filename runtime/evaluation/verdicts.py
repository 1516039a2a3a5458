"""Judge each detection of one video: hit or which kind of error, and the instance that it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation
from runtime.annotations.thumos14 import AMBIGUOUS
from runtime.errors import InputError
from runtime.evaluation.error_kinds import HIT, checked_hit, sort_kinds
from runtime.evaluation.matching import NOBODY, Rule, class_pools, instances_of
from runtime.results.detections import Detections
from runtime.segments import tiou as overlap

NOT_JUDGED = -1
"""Kind of a detection that no rule judges: of a class without instances, or excused by an Ambiguous region."""


@dataclass(frozen=True, eq=False)
class VideoVerdict:
    """Holds what each of the D detections of a video is, in their order."""

    kinds: NDArray[np.int64]
    """Index into `runtime.evaluation.error_kinds.KINDS`, [D]; NOT_JUDGED for those that are not judged."""
    found: NDArray[np.int64]
    """Index into the annotation's `instances` of the instance that each hit found, [D]; NOBODY for no hit."""
    overlaps: NDArray[np.float64]
    """tIoU with the instance found; of no hit, the highest with an instance of its class, [D]; 0 without one."""

    def counts(self, chosen: NDArray[np.bool_]) -> tuple[int, int]:
        """Return the number of hits and of false positives among the chosen detections, a bool mask [D]."""
        kinds = self.kinds[chosen]
        return int((kinds == HIT).sum()), int(((kinds != HIT) & (kinds != NOT_JUDGED)).sum())


def judge_video(
    found: Detections,
    truth: VideoAnnotation,
    tiou: float = 0.5,
    rule: Rule = "activitynet",
    classes: Sequence[str] | None = None,
) -> VideoVerdict:
    """Match the detections of one video with its instances, as `evaluate` does.

    By ActivityNet's rule the best detections choose first, so the hits above any score are those of all detections.

    Args:
        found: detections of the video.
        truth: its annotation; instances labelled Ambiguous are no instances.
        tiou: threshold of a hit, above `error_kinds.TOUCHING`.
        rule: rule of matching, see `runtime.evaluation.matching`.
        classes: classes that are judged; None: those of the detections and of the annotation.

    Raises:
        InputError: the threshold is out of range, or a detection holds NaN.
    """
    threshold = checked_hit(tiou)
    if np.isnan(found.scores).any() or np.isnan(found.segments).any():
        raise InputError(f"{found.video}: a detection holds NaN, expected numbers; was it written by hand?")
    names = {i.label for i in truth.instances} | {found.classes[k] for k in np.unique(found.labels).tolist()}
    judged = tuple(sorted((names if classes is None else set(classes)) - {AMBIGUOUS}))
    number = {name: index for index, name in enumerate(judged)}
    everything = instances_of([truth], number)
    kinds, owner = np.full((2, len(found)), NOBODY, np.int64)
    overlaps = np.zeros(len(found))
    for own, pool in enumerate(class_pools([replace(found, video=truth.name)], [truth], judged, rule)):
        name = judged[own]
        rows = np.flatnonzero(found.labels == (found.classes.index(name) if name in found.classes else NOBODY))
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]  # the order of the pool
        verdict = pool.judge(threshold)
        kinds[rows] = np.where(verdict.excused, NOT_JUDGED, sort_kinds(pool, own, verdict.hits, everything, threshold))
        places = np.array([k for k, i in enumerate(truth.instances) if i.label == name], np.int64)
        if len(places) and len(rows):
            owner[rows] = np.where(verdict.hits, places[verdict.found], NOBODY)
            each = overlap(pool.instances[None], pool.segments[:, None])
            best = each.max(axis=1)
            overlaps[rows] = np.where(verdict.hits, each[np.arange(len(rows)), verdict.found], best)
    return VideoVerdict(kinds, owner, overlaps)
