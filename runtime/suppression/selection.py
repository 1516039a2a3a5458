"""Select final detections for people: no overlaps, near ones merged, short ones left out; whole or as a stream."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.common.choices import require_choice
from runtime.common.ranges import Count, Length, Wait, require_in_range
from runtime.decoding.candidates import Candidates
from runtime.suppression.nms import LEAST_SCORE, Hard
from runtime.suppression.nms_stream import NmsStream

Exclusive = Literal["none", "class", "all"]
"""Detections that may not overlap: any may ("none"), those of one class ("class"), any two ("all")."""
EXCLUSIVE: tuple[Exclusive, ...] = ("none", "class", "all")


class Selection:
    """Takes detections in any parts and gives those that people are shown, each once, when it is final.

    Three steps, each on what the one before leaves:

    1. Of detections that may not overlap (`exclusive`), the best score wins, of equal ones the first given. What a
       winner displaces displaces nothing itself. Detections that only touch do not overlap. One without length
       counts as the shortest that there can be, so that it is not shown within another, nor keeps others apart there.
    2. Detections of a class that overlap, or lie at most `merge_gap` seconds apart, become one from the first start to
       the last end, with the best of their scores; with `exclusive` "all" not across another detection.
    3. Detections shorter than `min_length` seconds are left out.

    The result does not depend on the parts, only the moment at which a detection is given. In a source without end,
    no detection waits for longer than `horizon` seconds after it was complete: a chain that is still growing is
    settled as if it ended there, and counted.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        exclusive: Exclusive = "none",
        merge_gap: float | None = None,
        min_length: float = 0.0,
        horizon: float = math.inf,
    ) -> None:
        """Start a video.

        Args:
            num_classes: number of classes.
            exclusive, merge_gap, min_length: see the class; a gap of None merges nothing.
            horizon: longest wait in seconds; infinite: exact whatever the chains.

        Raises:
            InputError: an option out of range.
        """
        require_choice("exclusive", exclusive, EXCLUSIVE)
        require_in_range("num_classes", num_classes, Count)
        require_in_range("merge_gap", merge_gap, Length | None)
        require_in_range("min_length", min_length, Length)
        require_in_range("horizon", horizon, Wait)
        self._winners = (
            None
            if exclusive == "none"
            else NmsStream(num_classes, Hard(0.0), LEAST_SCORE, horizon, across_classes=exclusive == "all")
        )
        self._merging = None if merge_gap is None else _Merging(merge_gap, horizon, across_classes=exclusive == "all")
        self._min_length, self._frontier = min_length, -math.inf

    @property
    def settlements(self) -> int:
        """Number of chains that were settled before their end; 0: the result is that over the whole video."""
        winners = 0 if self._winners is None else self._winners.settlements
        return winners + (0 if self._merging is None else self._merging.settlements)

    def push(self, found: Candidates, frontier: float) -> Candidates:
        """Take detections; return those that are final.

        Args:
            found: detections that start at or after the frontier of the push before.
            frontier: seconds at or after which all later ones start; infinite at the end.
        """
        frontier = self._frontier = max(self._frontier, frontier)  # it may fall by the rounding of times
        if self._winners is not None:
            found = _without_tips(self._winners.push(_with_tips(found), frontier))
            frontier = self._winners.frontier
        if self._merging is not None:
            found = self._merging.push(found, frontier)
        starts, ends = found.segments.T
        return found.take(ends - starts >= self._min_length) if self._min_length else found


def select(
    segments: NDArray[np.float64],
    labels: NDArray[np.int32],
    scores: NDArray[np.float64],
    num_classes: int,
    exclusive: Exclusive = "none",
    merge_gap: float | None = None,
    min_length: float = 0.0,
) -> Candidates:
    """Select among the detections of a whole video, segments [D,2], labels [D] and scores [D]; see `Selection`."""
    whole = Selection(num_classes, exclusive=exclusive, merge_gap=merge_gap, min_length=min_length)
    return whole.push(Candidates(segments, labels, scores), math.inf)


def _with_tips(found: Candidates) -> Candidates:
    """Return detections of which those without length have the shortest that a number can give."""
    starts, ends = found.segments.T
    tips = np.where(ends == starts, np.nextafter(starts, np.inf), ends)
    return Candidates(np.column_stack([starts, tips]), found.labels, found.scores)


def _without_tips(found: Candidates) -> Candidates:
    """Return what `_with_tips` was given."""
    starts, ends = found.segments.T
    ends = np.where(ends == np.nextafter(starts, np.inf), starts, ends)
    return Candidates(np.column_stack([starts, ends]), found.labels, found.scores)


class _Merging:
    """Merges near segments of a stream."""

    def __init__(self, gap: float, horizon: float, *, across_classes: bool) -> None:
        self._gap, self._horizon, self._across_classes = gap, horizon, across_classes
        self._waiting = Candidates.empty()
        self.settlements = 0

    def push(self, found: Candidates, frontier: float) -> Candidates:
        """Take segments; return the merged ones that no later segment can lengthen, by start."""
        waiting = Candidates.concatenate([self._waiting, found])
        order = np.lexsort((waiting.labels, waiting.segments[:, 0]))  # stable
        waiting = waiting.take(order)
        runs = self._runs(waiting)
        final, kept = [], []
        for run in runs:
            start, end = waiting.segments[run, 0].min(), waiting.segments[run, 1].max()
            complete = frontier - end > self._gap
            if not complete and frontier < np.inf and frontier - start > self._horizon and end <= frontier:
                complete = True
                self.settlements += 1
            if complete:
                best = run[int(waiting.scores[run].argmax())]
                final.append((start, end, waiting.labels[best], waiting.scores[best]))
            else:
                kept.append(run)
        self._waiting = waiting.take(np.sort(np.concatenate([*kept, np.empty(0, np.intp)])).astype(np.intp))
        final.sort(key=lambda one: one[0])
        table = np.array([(start, end, score) for start, end, _, score in final], np.float64).reshape(-1, 3)
        return Candidates(table[:, :2], np.array([one[2] for one in final], np.int32), table[:, 2])

    def _runs(self, waiting: Candidates) -> list[NDArray[np.intp]]:
        """Return the indices of the segments, by start, that become one, for each such run."""
        labels = np.zeros_like(waiting.labels) if self._across_classes else waiting.labels
        runs: list[NDArray[np.intp]] = []
        for label in np.unique(labels):
            indices = np.flatnonzero(labels == label)
            starts, ends = waiting.segments[indices].T
            apart = starts[1:] - np.maximum.accumulate(ends)[:-1] > self._gap
            if self._across_classes:  # no two overlap, so neighbours in time are neighbours in the array
                apart |= np.diff(waiting.labels[indices]) != 0
            runs += np.split(indices, np.flatnonzero(apart) + 1)
        return runs
