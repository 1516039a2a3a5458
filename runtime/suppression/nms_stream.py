"""Suppress non-maxima over an unbounded stream of candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.common.ranges import Count, Wait, require_in_range
from runtime.decoding.candidates import Candidates
from runtime.errors import InputError
from runtime.segments import tiou
from runtime.suppression.nms import GONE, Decay, check_segments

_ROUNDING = 1e-6
"""Seconds by which a candidate may start before the frontier (floating-point rounding)."""


class NmsStream:
    """Suppresses a stream of candidates exactly, in bounded memory; every candidate that it returns is final.

    Each push adds candidates and a frontier: every later candidate starts at or after the frontier. A candidate is
    *closed* once it ends at or before the frontier: no later candidate overlaps it. A closed candidate M whose score is
    the highest among the waiting candidates that it can lower (of equal scores the earlier) is final: NMS over the
    whole stream takes M before any of them, since until one of them is taken M keeps its score and theirs can only
    fall. So M is returned with its current score and decays its neighbours now; by induction every score equals the
    one that NMS over the whole stream assigns (up to the rounding of a product taken in another order).

    Only a chain of overlapping candidates with ever higher scores can delay a closed candidate for long. A finite
    `horizon` bounds the delay and the memory, at the price of exactness: if a candidate has been closed for more than
    `horizon` seconds, all closed candidates of its class are settled, finished as if the input ended there, regardless
    of open candidates. So no candidate that ends before frontier − horizon is ever held back.
    """

    def __init__(
        self, num_classes: int, decay: Decay, floor: float, horizon: float, *, across_classes: bool = False
    ) -> None:
        """Start an empty stream.

        Args:
            num_classes: number of classes; labels lie in 0 … num_classes − 1.
            decay: factor of soft or hard NMS.
            floor: drop candidates whose initial or decayed score is below this; `LEAST_SCORE` for hard NMS.
            horizon: longest wait of a closed candidate in seconds; infinite: exact whatever the chains.
            across_classes: whether candidates lower those of other classes too.
        """
        require_in_range("num_classes", num_classes, Count)
        require_in_range("horizon", horizon, Wait)
        require_in_range("floor", floor, float)
        self._num_classes, self._decay, self._floor, self._horizon = num_classes, decay, floor, horizon
        self._across_classes = across_classes
        self._reset()

    def _reset(self) -> None:
        self._classes: dict[int, _ClassStream] = {}
        """Waiting candidates by class; all under 0 if classes lower each other."""
        self._frontier = -np.inf
        self.settlements = 0
        """Number of times that a class was settled before its chain ended; scores may then differ from exact ones."""

    def __len__(self) -> int:
        """Number of candidates held back so far."""
        return sum(len(stream) for stream in self._classes.values())

    @property
    def frontier(self) -> float:
        """Seconds at or after which every candidate that is still to be returned starts; −∞ before the first push."""
        return min((self._frontier, *(stream.earliest for stream in self._classes.values())))

    def push(self, candidates: Candidates, frontier: float) -> Candidates:
        """Add candidates and return those that are final, ordered by class, then start, then arrival.

        Args:
            candidates: candidates that start at or after the frontier of the previous push.
            frontier: seconds at or after which every candidate of later pushes starts; never decreases.

        Raises:
            InputError: a label out of range, NaN, a decreasing frontier, or a candidate that starts before it.
        """
        self._check_push(candidates, frontier)
        self._frontier = frontier
        present = candidates.take(candidates.scores >= self._floor)
        groups = np.zeros_like(present.labels) if self._across_classes else present.labels
        for group in np.unique(groups).tolist():
            stream = self._classes.setdefault(group, _ClassStream(self._decay, self._floor))
            stream.append(present.take(groups == group))
        given = []
        for _, stream in sorted(self._classes.items()):
            final, settled = stream.take_final(frontier, self._horizon)
            self.settlements += settled
            given.append(final)
        self._classes = {group: stream for group, stream in self._classes.items() if len(stream)}
        return Candidates.concatenate(given)

    def finish(self) -> Candidates:
        """End the input, return all remaining candidates, and reset for another stream."""
        rest = self.push(Candidates.empty(), np.inf)
        self._reset()
        return rest

    def _check_push(self, candidates: Candidates, frontier: float) -> None:
        if not frontier >= self._frontier:
            raise InputError(f"frontier went from {self._frontier} s to {frontier} s, expected it never to decrease")
        if not len(candidates):
            return
        low, high = int(candidates.labels.min()), int(candidates.labels.max())
        if low < 0 or high >= self._num_classes:
            raise InputError(f"labels lie in {low}..{high}, expected 0..{self._num_classes - 1}")
        check_segments(candidates.segments, candidates.scores)
        earliest = float(candidates.segments[:, 0].min())
        if earliest < self._frontier - _ROUNDING:
            raise InputError(
                f"a candidate starts at {earliest} s, before the frontier {self._frontier} s given by the push before; "
                "push windows in the order of their starts"
            )


class _ClassStream:
    """Holds the waiting candidates that lower each other, those of one class, as arrays in the order of arrival.

    Every closed candidate that still waits has a blocker: a candidate of higher score that holds it back. The waiting
    candidate is examined again only when its blocker falls, so a few times in all instead of once per push.
    """

    def __init__(self, decay: Decay, floor: float) -> None:
        self._decay, self._floor = decay, floor
        self._segments = np.empty((0, 2))
        self._labels = np.empty(0, np.int32)
        self._scores = np.empty(0)
        """Current scores; GONE for taken or dropped candidates."""
        self._blockers = np.empty(0, np.intp)
        """Index of each candidate's blocker; −1 for candidates that are open or about to be examined."""
        self._neighbours: dict[int, tuple[NDArray[np.intp], NDArray[np.float64]]] = {}
        """All candidates that each closed candidate lowers, and their factors; no later candidate can be one."""

    def __len__(self) -> int:
        return int(np.count_nonzero(self._scores >= 0))

    @property
    def earliest(self) -> float:
        """Earliest start of a waiting candidate, seconds; infinite if none waits."""
        return float(self._segments[self._scores >= 0, 0].min(initial=np.inf))

    def append(self, candidates: Candidates) -> None:
        """Add candidates."""
        self._segments = np.concatenate([self._segments, candidates.segments])
        self._labels = np.concatenate([self._labels, candidates.labels])
        self._scores = np.concatenate([self._scores, candidates.scores])
        self._blockers = np.concatenate([self._blockers, np.full(len(candidates), -1, np.intp)])

    def take_final(self, frontier: float, horizon: float) -> tuple[Candidates, bool]:
        """Remove and return the candidates final at this frontier, by start, then arrival.

        The bool says whether a chain was settled before its end.
        """
        ends = self._segments[:, 1]
        closed = ends <= frontier
        taken = self._take(self._close(closed))
        settled = frontier < np.inf and bool(np.any((ends < frontier - horizon) & (self._scores >= 0)))
        if settled:
            taken |= self._take(closed & (self._scores >= 0), closed)
        indices, scores = np.array(list(taken), np.intp), np.array(list(taken.values()), np.float64)
        final = Candidates(self._segments[indices], self._labels[indices], scores)
        self._compact()
        return final.take(np.lexsort((indices, final.segments[:, 0]))), settled

    def _close(self, closed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Find the neighbours of the newly closed candidates; return a mask [N] of these candidates."""
        waiting = np.flatnonzero(self._scores >= 0)
        new = np.array([i for i in waiting[closed[waiting]].tolist() if i not in self._neighbours], np.intp)
        result = np.zeros(len(closed), bool)
        result[new] = True
        if not len(new):
            return result
        factors = self._decay(tiou(self._segments[new, None], self._segments[waiting]))
        factors[np.arange(len(new)), np.searchsorted(waiting, new)] = 1  # not a neighbour of itself
        rows, columns = np.nonzero(factors < 1)
        near, factors = waiting[columns], factors[rows, columns]
        bounds = np.searchsorted(rows, np.arange(len(new) + 1)).tolist()
        for i, first, last in zip(new.tolist(), bounds, bounds[1:], strict=False):
            self._neighbours[i] = near[first:last], factors[first:last]
        return result

    def _take(self, pending: NDArray[np.bool_], rivals: NDArray[np.bool_] | None = None) -> dict[int, float]:
        """Take the pending closed candidates, and candidates thereby unblocked, that no rival holds back.

        Args:
            pending: mask [N] of candidates, changed in place.
            rivals: mask [N] of candidates that may hold others back; None for all.

        Returns:
            Scores at the moment of taking, by index.
        """
        taken: dict[int, float] = {}
        scores, blockers = self._scores, self._blockers
        blockers[pending] = -1  # blockers found among other rivals do not apply
        touched = np.zeros(len(scores) + 1, bool)  # the last cell stands for the blocker −1, "none"
        while pending.any():
            i = int(np.where(pending, scores, -np.inf).argmax())  # the highest first: it frees the others
            score = float(scores[i])
            if score < 0:
                break  # all pending candidates have been dropped
            pending[i] = False
            near, factors = self._neighbours[i]
            present = scores[near]
            blockers[i] = _find_blocker(
                present if rivals is None else np.where(rivals[near], present, GONE), near, score, i
            )
            if blockers[i] >= 0:
                continue
            taken[i] = score
            present *= factors
            present[present < self._floor] = GONE
            scores[near], scores[i] = present, GONE
            touched[near] = touched[i] = True
            woken = np.flatnonzero(touched[blockers])
            touched[near] = touched[i] = False
            pending[woken] = scores[blockers[woken]] <= scores[woken]
        return taken

    def _compact(self) -> None:
        """Shrink the arrays if at least half of their candidates are gone."""
        keep = self._scores >= 0
        if 2 * np.count_nonzero(keep) > len(keep):
            return
        place = np.cumsum(keep) - 1
        self._segments, self._labels, self._scores = self._segments[keep], self._labels[keep], self._scores[keep]
        self._blockers = np.where(self._blockers >= 0, place[self._blockers], -1)[keep]
        old, self._neighbours = self._neighbours, {}
        for i, (near, factors) in old.items():
            if keep[i]:
                kept = keep[near]
                self._neighbours[int(place[i])] = place[near[kept]], factors[kept]


def _find_blocker(rivals: NDArray[np.float64], indices: NDArray[np.intp], score: float, index: int) -> int:
    """Return the index of the best rival if it precedes (score, index), else −1; ties go to the lower index."""
    if not len(rivals):
        return -1
    best = int(rivals.argmax())
    rival, at = float(rivals[best]), int(indices[best])
    return at if rival > score or (rival == score and at < index) else -1
