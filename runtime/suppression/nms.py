"""Suppress non-maximum segments of a whole set: Gaussian soft-NMS (AFSD) and hard NMS (A2Net).

Both take the candidate with the highest current score, multiply the score of every other candidate by a factor that
depends on their tIoU, drop candidates that fall below a floor, and repeat. Each class is suppressed on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.ranges import Number, Positive, Share, require_in_range
from runtime.common.text import quote
from runtime.errors import InputError
from runtime.segments import tiou

SCORE_FLOOR = 0.001
"""Default score below which a candidate is dropped (the published code's)."""

LEAST_SCORE = float(np.finfo(np.float32).tiny)
"""Floor of hard NMS, just above the score 0 of suppressed candidates."""

GONE = -1.0
"""Score that marks a taken, dropped or absent candidate in a score array."""


@dataclass(frozen=True)
class Gaussian:
    """Computes the factor exp(−tIoU²/σ) of soft-NMS (Bodla et al., ICCV 2017; AFSD, section 4.1)."""

    sigma: float

    def __post_init__(self) -> None:
        require_in_range("sigma", self.sigma, Positive)

    def __call__(self, overlap: NDArray[Any]) -> NDArray[Any]:
        """Return the factors for the tIoU `overlap`, in its dtype; 1 where there is no overlap."""
        exponent = overlap * overlap
        exponent /= -self.sigma
        return np.asarray(np.exp(exponent, out=exponent))


@dataclass(frozen=True)
class Hard:
    """Computes the factor of hard NMS: 0 above a tIoU threshold, else 1 (A2Net's released code)."""

    threshold: float

    def __post_init__(self) -> None:
        require_in_range("threshold", self.threshold, Share)

    def __call__(self, overlap: NDArray[Any]) -> NDArray[Any]:
        """Return the factors for the tIoU `overlap`, in its dtype."""
        return (overlap <= self.threshold).astype(overlap.dtype)


Decay = Gaussian | Hard
"""Function that lowers the scores of candidates overlapping a taken one."""


def soft_nms(
    segments: NDArray[Any],
    scores: NDArray[Any],
    sigma: float,
    floor: float = SCORE_FLOOR,
    top_k: int | None = None,
    keep_last: bool = True,
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Run Gaussian soft-NMS on one class.

    Args:
        segments: [N,2] start and end, any unit, float32 or float64; arithmetic is done in this dtype.
        scores: [N], same dtype.
        sigma: σ of the Gaussian, above 0.
        floor: drop candidates whose initial or decayed score is below this.
        top_k: keep at most this many; None for all.
        keep_last: False drops the last remaining candidate, as the published code does.

    Returns:
        Indices of the kept candidates, ascending, and their scores when taken. Of equal scores the lower index is
        taken first.

    Raises:
        InputError: shapes that do not fit, NaN, a number out of range.
    """
    taken, final = _suppress(segments, scores, Gaussian(sigma), floor, top_k, keep_last)
    order = np.argsort(taken)
    return taken[order], final[order]


def hard_nms(
    segments: NDArray[Any], scores: NDArray[Any], threshold: float, top_k: int | None = None
) -> NDArray[np.intp]:
    """Run hard NMS on one class.

    Args:
        segments, scores: as in `soft_nms`; candidates whose score is not above 0 are dropped.
        threshold: largest tIoU with a better candidate at which a candidate is kept.
        top_k: keep at most this many; None for all.

    Returns:
        Indices of the kept candidates, best first; of equal scores the lower index first.

    Raises:
        InputError: shapes that do not fit, NaN, a number out of range.
    """
    return _suppress(segments, scores, Hard(threshold), LEAST_SCORE, top_k)[0]


def _suppress(
    segments: NDArray[Any],
    scores: NDArray[Any],
    decay: Decay,
    floor: float,
    top_k: int | None,
    keep_last: bool = True,
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return the indices of kept candidates and their scores when taken, in that order; arguments as in `soft_nms`."""
    check_segments(segments, scores)
    require_in_range("floor", floor, float)
    require_in_range("top_k", top_k, Number | None)
    alive = np.flatnonzero(scores >= floor)
    segments, present = segments[alive], scores[alive]
    taken: list[int] = []
    taken_scores: list[Any] = []
    limit = len(scores) if top_k is None else top_k
    remaining = len(alive)
    while remaining > (0 if keep_last else 1) and len(taken) < limit:
        best = int(present.argmax())
        taken.append(int(alive[best]))
        taken_scores.append(present[best])
        present *= decay(tiou(segments[best], segments))
        present[best] = GONE
        present[present < floor] = GONE
        remaining = int(np.count_nonzero(present >= 0))
        if remaining < len(alive) // 2:
            keep = present >= 0
            alive, segments, present = alive[keep], segments[keep], present[keep]
    return np.array(taken, np.intp), np.array(taken_scores, scores.dtype)


def soft_nms_reference(
    segments_scores: NDArray[Any], sigma: float, top_k: int, floor: float = SCORE_FLOOR
) -> NDArray[np.float32]:
    """Run the published code's soft-NMS on one class in float32, which never outputs the last remaining candidate.

    Args:
        segments_scores: [N,3] start, end, score; segments may be empty or inverted.
        sigma, top_k, floor: as in `soft_nms`.

    Returns:
        float32 [K,3] in the input's order, with decayed scores.
    """
    rows = np.asarray(segments_scores, np.float32).reshape(-1, 3)
    kept, scores = soft_nms(rows[:, :2], rows[:, 2].copy(), sigma, floor, top_k, keep_last=False)
    return np.column_stack([rows[kept, :2], scores]).astype(np.float32)


def check_segments(segments: NDArray[Any], scores: NDArray[Any]) -> None:
    """Raise an InputError unless segments are [N,2] and scores [N], without NaN."""
    if not (isinstance(segments, np.ndarray) and isinstance(scores, np.ndarray)):
        raise InputError(f"got segments {quote(segments)} and scores {quote(scores)}, expected arrays [N,2] and [N]")
    if segments.ndim != 2 or segments.shape[1] != 2 or scores.shape != segments.shape[:1]:
        raise InputError(f"got segments {segments.shape} and scores {scores.shape}, expected [N,2] and [N]")
    if np.isnan(segments).any() or np.isnan(scores).any():
        raise InputError("segments or scores hold NaN, expected numbers")
