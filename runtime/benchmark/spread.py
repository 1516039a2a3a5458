"""Summarise repeated times by median and quartiles, and decide when a warm-up is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

STABLE_PASSES = 3
"""Number of passes in each of the two groups whose medians are compared to end a warm-up."""
STABLE_SHARE = 0.03
"""Share by which the two medians may differ at the end of a warm-up."""


class Quartiles(NamedTuple):
    """Holds the spread of repeated measurements; half of them lie between `low` and `high`."""

    low: float
    """First quartile."""
    median: float
    high: float
    """Third quartile."""

    def overlaps(self, other: Quartiles) -> bool:
        """Return whether the two ranges between quartiles share a number; then a difference is within the spread."""
        return self.low <= other.high and other.low <= self.high


def quartiles(values: Sequence[float]) -> Quartiles:
    """Return the quartiles of at least one number, interpolated linearly between neighbours."""
    low, median, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return Quartiles(low, median, high)


def is_stable(seconds: Sequence[float]) -> bool:
    """Return whether passes take the same time: the medians of the latest `STABLE_PASSES` and of those before them
    differ by less than `STABLE_SHARE`; False while there are too few passes."""
    if len(seconds) < 2 * STABLE_PASSES:
        return False
    before = float(np.median(seconds[-2 * STABLE_PASSES : -STABLE_PASSES]))
    latest = float(np.median(seconds[-STABLE_PASSES:]))
    return abs(latest - before) < STABLE_SHARE * before
