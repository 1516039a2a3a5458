"""Compute overlap and temporal IoU (tIoU) of segments [start, end] in any unit, for all packages."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_LENGTH = 1e-5
"""Smallest length counted for a segment or a union, so that empty segments have a finite tIoU."""


def tiou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Return the temporal intersection over union of segments `a` and `b`, both [..., 2]; leading axes broadcast.

    The dtype is that of the segments (float32 or float64). The length of `a` counts as at least MIN_LENGTH, as in the
    published soft-NMS. An inverted segment (end before start) overlaps nothing: 0.
    """
    return tiou_from_bounds(a[..., 0], a[..., 1], b[..., 0], b[..., 1])


def tiou_from_bounds(
    start_a: NDArray[Any], end_a: NDArray[Any], start_b: NDArray[Any], end_b: NDArray[Any]
) -> NDArray[Any]:
    """Return the `tiou` of segments given as separate arrays of starts and ends, which broadcast."""
    shared = np.asarray(np.minimum(end_a, end_b))
    shared -= np.maximum(start_a, start_b)
    np.maximum(shared, 0, out=shared)
    union = np.maximum(end_a - start_a, MIN_LENGTH) + (end_b - start_b)
    union -= shared
    shared /= np.maximum(union, MIN_LENGTH)
    return shared


def valid_segments(segments: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each segment of [N,2] ends after its start, [N]; False for empty, inverted and NaN segments."""
    return np.asarray(segments[:, 1] > segments[:, 0])
