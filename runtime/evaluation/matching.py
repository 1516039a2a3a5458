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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation, class_names
from runtime.annotations.thumos14 import AMBIGUOUS
from runtime.common.choices import require_choice
from runtime.common.ranges import Overlap, require_numbers
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
"""Index in place of an instance for a detection that found none, and of a video or class that is not annotated."""
PAIRS_AT_ONCE = 1 << 21
"""Pairs of detections and instances whose tIoU is computed at once, some 100 MB."""


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


@dataclass(frozen=True, eq=False)
class Instances:
    """Holds instances of one or of all classes, in the order of the videos and of the file."""

    segments: NDArray[np.float64]
    """Start and end in seconds, [G,2]."""
    videos: NDArray[np.int64]
    """Index of each instance's video among the annotated videos, ascending, [G]."""
    labels: NDArray[np.int64]
    """Index of each instance's class, [G]."""

    def take(self, chosen: NDArray[Any]) -> Instances:
        """Return the instances chosen by an index or bool array."""
        return Instances(self.segments[chosen], self.videos[chosen], self.labels[chosen])


@dataclass(frozen=True, eq=False)
class Pairs:
    """Holds the detections and instances of the same videos that overlap."""

    rows: NDArray[np.int64]
    """Index of the detection, ascending."""
    columns: NDArray[np.int64]
    """Index of the instance."""
    overlaps: NDArray[np.float64]
    """Their tIoU, above 0."""


class ClassPool:
    """Holds the detections of one class in all videos, best first, and the instances that they may find."""

    def __init__(
        self,
        name: str,
        rule: Rule,
        scores: NDArray[np.float64],
        segments: NDArray[np.float64],
        videos: NDArray[np.int64],
        truth: Instances,
        regions: Instances | None,
    ) -> None:
        """Take the P detections, with the index of each one's annotated video (NOBODY: it is not annotated)."""
        self.name, self.rule = name, rule
        self.scores, self.segments, self.videos = scores, segments, videos
        self.instances = truth.segments
        self._pairs = overlapping_pairs(videos, segments, truth)
        self._ambiguous = np.zeros(len(scores), bool)
        if regions is not None:
            self._ambiguous[overlapping_pairs(videos, segments, regions).rows] = True

    @property
    def inverted(self) -> int:
        """Number of detections that end before they start."""
        return int(np.count_nonzero(self.segments[:, 1] < self.segments[:, 0]))

    def judge(self, threshold: float) -> Verdict:
        """Match detections with instances at one tIoU threshold."""
        found = np.full(len(self.scores), NOBODY, np.int64)
        matched = _match_by_score if self.rule == "activitynet" else _match_by_truth
        for row, column in matched(self._pairs, threshold):
            found[row] = column
        return Verdict(found, self._ambiguous & (found == NOBODY))

    def average_precision(self, verdict: Verdict) -> float:
        """Compute the average precision by the pool's rule; 0 without instances."""
        return average_precision(verdict.hits[~verdict.excused], len(self.instances), self.rule)


def class_pools(
    judged: Sequence[Detections],
    truth: Sequence[VideoAnnotation],
    classes: Sequence[str],
    rule: Rule,
    tie_order: TieOrder = "stable",
) -> Iterator[ClassPool]:
    """Yield the pools of the classes, in their order.

    Args:
        judged: detections as `judged_detections` returns them.
        truth: annotations of the videos.
        classes: classes of the ground truth.
        rule: rule of matching.
        tie_order: see `TieOrder`.

    Raises:
        InputError: an unknown rule or order.
    """
    require_choice("rule", rule, get_args(Rule))
    require_choice("tie_order", tie_order, get_args(TieOrder))
    if rule == "thumos14":  # the kit goes through the videos by name, which decides between equal scores
        judged = sorted(judged, key=lambda detections: detections.video)
    number = {name: index for index, name in enumerate(classes)}
    place = {video.name: index for index, video in enumerate(truth)}
    videos = np.repeat([place.get(part.video, NOBODY) for part in judged], [len(part) for part in judged])
    labels = np.concatenate([np.empty(0, np.int64), *_renumber(judged, number)])
    scores = np.concatenate([np.empty(0), *(part.scores for part in judged)])
    segments = np.concatenate([np.empty((0, 2)), *(part.segments for part in judged)])
    instances = instances_of(truth, number)
    regions = instances_of(truth, {AMBIGUOUS: 0}) if rule == "thumos14" else None
    there = zip(classes, _rows_of(labels, len(classes)), _rows_of(instances.labels, len(classes)), strict=True)
    for name, rows, own in there:
        of_class = scores[rows]
        order = np.argsort(-of_class, kind="stable") if tie_order == "stable" else np.argsort(of_class)[::-1]
        rows = rows[order]
        yield ClassPool(
            name, rule, of_class[order], segments[rows], videos[rows].astype(np.int64), instances.take(own), regions
        )


def instances_of(truth: Sequence[VideoAnnotation], number: Mapping[str, int]) -> Instances:
    """Return the instances whose labels are among `number`, which gives the index of each class."""
    found = [
        (i.start_s, i.end_s, index, number[i.label])
        for index, video in enumerate(truth)
        for i in video.instances
        if i.label in number
    ]
    table = np.array(found, np.float64).reshape(-1, 4)
    return Instances(table[:, :2], table[:, 2].astype(np.int64), table[:, 3].astype(np.int64))


def overlapping_pairs(videos: NDArray[np.int64], segments: NDArray[np.float64], instances: Instances) -> Pairs:
    """Find the pairs of detections and instances of the same video whose tIoU is above 0.

    Memory grows with the number of these pairs, not with all pairs of a video.

    Args:
        videos: index of each detection's video, [P].
        segments: detections in seconds, [P,2].
        instances: instances, in the order of their videos.
    """
    first, after = (np.searchsorted(instances.videos, videos, side=side) for side in ("left", "right"))
    counts, blocks = after - first, []
    start = 0
    for stop in (*_cut(counts), len(counts)):
        part = slice(start, stop)
        rows = np.repeat(np.arange(start, stop), counts[part])
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts[part]) - counts[part], counts[part])
        columns = np.repeat(first[part], counts[part]) + within
        overlaps = tiou(instances.segments[columns], segments[rows])
        kept = overlaps > 0
        blocks.append((rows[kept], columns[kept], overlaps[kept]))
        start = stop
    rows, columns, overlaps = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return Pairs(rows, columns, overlaps)


def _cut(counts: NDArray[np.int64]) -> list[int]:
    """Return where to cut detections, [P] with `counts` pairs each, into parts of some PAIRS_AT_ONCE pairs."""
    part = np.cumsum(counts) // PAIRS_AT_ONCE
    return (np.flatnonzero(np.diff(part)) + 1).tolist()


def _renumber(judged: Sequence[Detections], number: Mapping[str, int]) -> Iterator[NDArray[np.int64]]:
    """Yield the index of each detection's class in `number`, NOBODY for other classes, [D], of each video."""
    known: dict[tuple[str, ...], NDArray[np.int64]] = {}
    for part in judged:
        if part.classes not in known:
            known[part.classes] = np.array([number.get(name, NOBODY) for name in part.classes], np.int64)
        yield known[part.classes][part.labels]


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
    return require_numbers("tIoU thresholds", tious, Overlap)


def match_by_score(overlaps: NDArray[np.float64], threshold: float) -> list[tuple[int, int]]:
    """Match by ActivityNet's rule: return (row, column) pairs of `overlaps` [P,G], the tIoU of detections, best first.

    Each detection takes the free instance of the highest tIoU, if the tIoU is not below the threshold; of equal ones
    the last, as in the published evaluator.
    """
    return _match_by_score(_all_pairs(overlaps), threshold)


def match_by_truth(overlaps: NDArray[np.float64], threshold: float) -> list[tuple[int, int]]:
    """Match by THUMOS'14's rule; arguments and result are those of `match_by_score`.

    Each instance in turn takes the free detection of the highest tIoU, if the tIoU is above the threshold; of equal
    ones the better scored. So a detection of lower score that fits better is the hit.
    """
    return _match_by_truth(_all_pairs(overlaps), threshold)


def _all_pairs(overlaps: NDArray[np.float64]) -> Pairs:
    rows, columns = np.indices(overlaps.shape)
    return Pairs(rows.ravel(), columns.ravel(), overlaps.ravel())


def _match_by_score(pairs: Pairs, threshold: float) -> list[tuple[int, int]]:
    near = pairs.overlaps >= threshold
    rows, columns, overlaps = pairs.rows[near], pairs.columns[near], pairs.overlaps[near]
    order = np.lexsort((-columns, -overlaps, rows))
    return _take_turns(rows[order], columns[order])


def _match_by_truth(pairs: Pairs, threshold: float) -> list[tuple[int, int]]:
    near = pairs.overlaps > threshold
    rows, columns, overlaps = pairs.rows[near], pairs.columns[near], pairs.overlaps[near]
    order = np.lexsort((rows, -overlaps, columns))
    return _take_turns(rows[order], columns[order])


def _take_turns(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the pairs whose row and column are both free when their turn comes."""
    pairs: list[tuple[int, int]] = []
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            pairs.append((row, column))
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


def _rows_of(labels: NDArray[np.int64], count: int) -> list[NDArray[np.intp]]:
    """Return the positions of each label 0 … count − 1 in `labels` [P], ascending."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.searchsorted(labels[order], np.arange(count + 1)))[1:-1]
