"""Count the values of a tensor piece by piece, in constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 2048
"""Number of bins on each side of zero."""

SMALLEST = -100
"""Smallest exponent of a bin's width; the inverse of the width must be finite in float32."""


@dataclass
class Histogram:
    """Counts values in bins of one width, a power of two, on both sides of zero.

    When a value lies outside, the width is doubled and neighbouring bins are merged. Only resolution is lost: the final
    counts depend neither on the order of the values nor on how they were cut into pieces.
    """

    width: float = 0.0
    """Width of a bin; 0 while only zeros were counted."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * BINS, np.int64))
    """Bin k holds values in [(k − BINS)·width, (k − BINS + 1)·width); zeros are in bin BINS."""
    low: float = 0.0
    """Smallest value seen, or 0."""
    high: float = 0.0
    """Largest value seen, or 0."""

    @property
    def total(self) -> int:
        """Number of counted values."""
        return int(self.counts.sum())

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of every bin [2·BINS]."""
        return np.asarray((np.arange(2 * BINS) - BINS + 0.5) * self.width, np.float64)

    def add(self, values: NDArray[Any]) -> bool:
        """Count an array of any shape; return False, and count nothing, if it holds NaN or infinity."""
        flat = np.ascontiguousarray(values, np.float32).ravel()
        if not flat.size:
            return True
        low, high = float(flat.min()), float(flat.max())  # NaN if the array holds one
        if not (np.isfinite(low) and np.isfinite(high)):
            return False
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(-low, high))
        if self.width == 0:
            self.counts[BINS] += flat.size
            return True
        step = 1 << 20  # in pieces, since the indices take as much memory as the values
        for start in range(0, flat.size, step):
            index = np.floor(flat[start : start + step] * np.float32(1 / self.width)).astype(np.int32)
            index += BINS
            self.counts += np.bincount(index, minlength=2 * BINS)
        return True

    def _widen(self, largest: float) -> None:
        """Widen the bins to the smallest power of two that makes room for magnitudes up to `largest`."""
        if largest == 0 or (self.width and largest < BINS * self.width):
            return
        exponent = int(np.frexp(largest / BINS)[1])  # largest < BINS · 2^exponent, also if it is a power of two
        self._widen_to(float(np.ldexp(1.0, max(exponent, SMALLEST))))

    def _widen_to(self, width: float) -> None:
        if self.width == 0:
            self.width = width
        while self.width < width:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(2 * BINS, np.int64)
            self.counts[BINS // 2 : BINS // 2 + BINS] = merged
            self.width *= 2
