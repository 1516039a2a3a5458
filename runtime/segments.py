"""Arithmetic on segments [start, end] in any unit: overlap and temporal IoU (tIoU), written here and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_LENGTH = 1e-5
"""A segment, or the union of two, counts as at least this long, so that empty segments have a finite tIoU."""


def tiou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Temporal intersection over union of segments `a` [..., 2] and `b` [..., 2]; the leading axes broadcast.

    The dtype is theirs (float32 or float64). The length of `a` counts as at least MIN_LENGTH, as in the published
    soft-NMS. An inverted segment (end before start) overlaps nothing: 0.
    """
    return tiou_from_bounds(a[..., 0], a[..., 1], b[..., 0], b[..., 1])


def tiou_from_bounds(
    start_a: NDArray[Any], end_a: NDArray[Any], start_b: NDArray[Any], end_b: NDArray[Any]
) -> NDArray[Any]:
    """`tiou` of segments given as separate arrays of starts and ends, which broadcast."""
    shared = np.asarray(np.minimum(end_a, end_b))
    shared -= np.maximum(start_a, start_b)
    np.maximum(shared, 0, out=shared)
    union = np.maximum(end_a - start_a, MIN_LENGTH) + (end_b - start_b)
    union -= shared
    shared /= np.maximum(union, MIN_LENGTH)
    return shared


def valid_segments(segments: NDArray[Any]) -> NDArray[np.bool_]:
    """Bool [N] for `segments` [N, 2]: the end lies after the start (false for empty, inverted and NaN segments)."""
    return np.asarray(segments[:, 1] > segments[:, 0])
