"""Match detections with instances by the rules of ActivityNet and THUMOS'14, and compute their average precisions.

                    ActivityNet                           THUMOS'14
who chooses         each detection, best first,           each instance, in the order of the file,
                    the free instance it overlaps most    the free detection that overlaps it most
threshold           tIoU not below it                     tIoU above it
Ambiguous           –                                     a detection that touches one is no false positive
other videos        not judged                            judged: each detection there is a false positive
average precision   interpolated                          plain: Σ precision at each hit / instances
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation, class_names
from runtime.annotations.thumos14 import AMBIGUOUS
from runtime.errors import AnnotationError, InputError
from runtime.results.detections import Detections
from runtime.segments import tiou
from runtime.video.names import find_name

Rule = Literal["activitynet", "thumos14"]
"""Rule by which detections are judged; see the table of the module docstring."""

TieOrder = Literal["stable", "reference"]
"""Order of equally scored detections: as they were read, or as numpy's unstable sort leaves them, reversed, as in the
published evaluator; the latter depends on the processor."""

NOBODY = -1
"""Index in place of an instance for a detection that found none."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """Holds the matching of the P detections of one class, best first, at one threshold."""

    found: NDArray[np.int64]
    """Index of the instance that each detection found, among the class's instances, [P]; NOBODY for none."""
    excused: NDArray[np.bool_]
    """Whether each detection found none but touches an Ambiguous region, so that it is not judged, [P]."""

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether each detection is a true positive, [P]."""
        return np.asarray(self.found != NOBODY)


class ClassPool:
    """Holds the detections of one class in all videos, best first, and the instances that they may find."""

    def __init__(
        self,
        name: str,
        predictions: Sequence[Detections],
        truth: Sequence[VideoAnnotation],
        rule: Rule,
        tie_order: TieOrder = "stable",
    ) -> None:
        self.name, self.rule = name, rule
        if rule == "thumos14":  # the kit goes through the videos by name, which decides between equal scores
            predictions = sorted(predictions, key=lambda detections: detections.video)
        parts = [detections.of_class(name) for detections in predictions]
        scores = np.concatenate([np.empty(0), *(part.scores for part in parts)])
        order = np.argsort(-scores, kind="stable") if tie_order == "stable" else np.argsort(scores)[::-1]
        self.scores = scores[order]
        self.segments = np.concatenate([np.empty((0, 2)), *(part.segments for part in parts)])[order]
        self.videos = np.repeat(np.arange(len(parts)), [len(part) for part in parts]).astype(np.int64)[order]
        self.video_names = tuple(detections.video for detections in predictions)
        by_video = {video.name: segments_of(video, name) for video in truth}
        offsets = np.cumsum([0, *map(len, by_video.values())])
        self.instances = np.concatenate([np.empty((0, 2)), *by_video.values()])
        self._blocks: list[tuple[NDArray[np.intp], int, NDArray[np.float64]]] = []
        """Ranks of the detections [P], ascending, index of the first instance, and tIoU [P,G], for each video."""
        self._ambiguous = np.zeros(len(scores), bool)
        first_of = dict(zip(by_video, offsets.tolist(), strict=False))
        regions = {video.name: segments_of(video, AMBIGUOUS) for video in truth} if rule == "thumos14" else {}
        for index, ranks in enumerate(_rows_of(self.videos, len(parts))):
            video = self.video_names[index]
            overlaps = tiou(by_video.get(video, np.empty((0, 2))), self.segments[ranks, None])
            if overlaps.size:
                self._blocks.append((ranks, first_of[video], overlaps))
            if len(ranks) and len(regions.get(video, ())):
                self._ambiguous[ranks] = (tiou(regions[video], self.segments[ranks, None]) > 0).any(axis=1)

    @property
    def inverted(self) -> int:
        """Number of detections that end before they start."""
        return int(np.count_nonzero(self.segments[:, 1] < self.segments[:, 0]))

    def judge(self, threshold: float) -> Verdict:
        """Match detections with instances at one tIoU threshold."""
        found = np.full(len(self.scores), NOBODY, np.int64)
        matched = match_by_score if self.rule == "activitynet" else match_by_truth
        for ranks, first, overlaps in self._blocks:
            for row, column in matched(overlaps, threshold):
                found[ranks[row]] = first + column
        return Verdict(found, self._ambiguous & (found == NOBODY))

    def average_precision(self, verdict: Verdict) -> float:
        """Compute the average precision by the pool's rule; 0 without instances."""
        return average_precision(verdict.hits[~verdict.excused], len(self.instances), self.rule)


def average_precision(hits: NDArray[np.bool_], num_truths: int, rule: Rule) -> float:
    """Compute the average precision of hits [P], best first, by a rule; 0 without instances."""
    if not num_truths:
        return 0.0
    by_rule = interpolated_average_precision if rule == "activitynet" else plain_average_precision
    return by_rule(hits, num_truths)


def judged_classes(ground_truth: Sequence[VideoAnnotation]) -> tuple[str, ...]:
    """Return the sorted classes of the ground truth without Ambiguous (AnnotationError: none is left)."""
    classes = tuple(name for name in class_names(ground_truth) if name != AMBIGUOUS)
    if not classes:
        raise AnnotationError("the ground truth holds no instance, expected at least one to judge detections by")
    return classes


def judged_detections(
    predictions: Sequence[Detections], ground_truth: Sequence[VideoAnnotation], rule: Rule = "activitynet"
) -> list[Detections]:
    """Return the detections that a rule judges, joined by video (InputError: NaN, or one video under two names).

    ActivityNet's rule judges only the videos of the ground truth. The THUMOS'14 kit judges every video: a video without
    annotations holds no action. Videos are identified by any spelling of their names (see `spell_name`).
    """
    known = {video.name for video in ground_truth}
    judged: dict[str, list[Detections]] = {}
    names: dict[str, str] = {}
    for detections in predictions:
        if np.isnan(detections.scores).any() or np.isnan(detections.segments).any():
            raise InputError(f"{detections.video}: a detection holds NaN, expected numbers; was it written by hand?")
        video = find_name(detections.video, known)
        if video is None and rule == "thumos14":
            video = detections.video
        if video is not None and names.setdefault(video, detections.video) != detections.video:
            raise InputError(
                f"{video}: has detections under the names {names[video]!r} and {detections.video!r}, expected one; "
                "leave one of the two out"
            )
        if video is not None:
            judged.setdefault(video, []).append(replace(detections, video=video))
    return [Detections.concatenate(parts) for parts in judged.values()]


def checked_thresholds(tious: Sequence[float]) -> tuple[float, ...]:
    """Return the thresholds as floats (InputError: none given, or one is out of range)."""
    if not len(tious) or not all(0 < tiou <= 1 for tiou in tious):
        raise InputError(f"tIoU thresholds {tuple(tious)}: expected at least one, each above 0 and at most 1")
    return tuple(float(t) for t in tious)


def segments_of(video: VideoAnnotation, label: str) -> NDArray[np.float64]:
    """Return the segments [G,2] in seconds of one label, in the order of the file."""
    return np.array([(i.start_s, i.end_s) for i in video.instances if i.label == label], np.float64).reshape(-1, 2)


def match_by_score(overlaps: NDArray[np.float64], threshold: float) -> list[tuple[int, int]]:
    """Match by ActivityNet's rule: return (row, column) pairs of `overlaps` [P,G], the tIoU of detections, best first.

    Each detection takes the free instance of the highest tIoU, if the tIoU is not below the threshold; of equal ones
    the last, as in the published evaluator. Every iteration finds the next detection with a match, so there are at most
    G + 1 iterations.
    """
    free = np.where(overlaps >= threshold, overlaps, -1.0)
    pairs: list[tuple[int, int]] = []
    row = 0
    while True:
        claims = np.flatnonzero((free[row:] >= 0).any(axis=1))
        if not len(claims):
            return pairs
        row += int(claims[0])
        column = free.shape[1] - 1 - int(free[row, ::-1].argmax())
        pairs.append((row, column))
        free[:, column] = -1.0
        row += 1


def match_by_truth(overlaps: NDArray[np.float64], threshold: float) -> list[tuple[int, int]]:
    """Match by THUMOS'14's rule; arguments and result are those of `match_by_score`.

    Each instance in turn takes the free detection of the highest tIoU, if the tIoU is above the threshold; of equal
    ones the better scored. So a detection of lower score that fits better is the hit.
    """
    free = np.where(overlaps > threshold, overlaps, -1.0)
    pairs: list[tuple[int, int]] = []
    for column in range(free.shape[1]):
        row = int(free[:, column].argmax())
        if free[row, column] > 0:
            pairs.append((row, column))
            free[row] = -1.0
    return pairs


def interpolated_average_precision(hits: NDArray[np.bool_], num_truths: int) -> float:
    """Compute the area under the precision-recall curve made non-increasing (PASCAL VOC 2011).

    Args:
        hits: bool [P], true positives among the detections, best first.
        num_truths: number of instances, above 0.
    """
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / num_truths)


def plain_average_precision(hits: NDArray[np.bool_], num_truths: int) -> float:
    """Compute the sum of the precision at every hit, divided by the instances; see `interpolated_average_precision`."""
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].sum() / num_truths)


def _rows_of(videos: NDArray[np.int64], count: int) -> list[NDArray[np.intp]]:
    """Return the positions of each video's detections in `videos` [P], ascending, for the videos 0 … count − 1."""
    order = np.argsort(videos, kind="stable")
    return np.split(order, np.searchsorted(videos[order], np.arange(1, count)))[:count] if count else []
