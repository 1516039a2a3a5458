"""From a histogram to the range that 8 bits span: min–max, percentile, entropy, squared error.

A narrower range has finer steps and cuts off what lies outside; the methods differ in what they take for the best
between the two. All see the type that will round: 256 steps from the smallest to the largest value (uint8), or 127 on
each side of zero (int8), or the floating steps of FP8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from calibration.ranges.histogram import Histogram

Method = Literal["minmax", "percentile", "entropy", "mse", "output"]
"""How a range is chosen. "output" is chosen by `remedies`, from the error behind the layers that read the tensor."""

METHODS: tuple[Method, ...] = get_args(Method)

Numbers = Literal["uint8", "int8", "fp8"]
"""What activations are stored in: asymmetric, symmetric, or FP8 E4M3. Weights are int8, or fp8 with fp8."""

PERCENTILE = 99.99
"""Share of the values inside the range of "percentile", in percent."""

CLIPPED = np.linspace(0.1, 1.0, 91)
"""Shares of the full range that "mse" and "entropy" try."""

SMALLEST = 1e-30
"""A range that does not reach this is taken for zero: its steps would leave float32."""

FP8_LARGEST = 448.0
"""Largest number of FP8 E4M3."""


@dataclass(frozen=True)
class Quantiser:
    """Numbers of one point: x ≈ scale · (q − zero_point) with q an integer in lowest … highest (FP8: q = x / scale)."""

    numbers: Numbers
    scale: float
    zero_point: int

    @property
    def lowest(self) -> int:
        """Smallest q. int8 spans a range by ±127; what lies below it may reach −128, as QuantizeLinear has it."""
        return {"uint8": 0, "int8": -128, "fp8": -int(FP8_LARGEST)}[self.numbers]

    @property
    def highest(self) -> int:
        """Largest q."""
        return {"uint8": 255, "int8": 127, "fp8": int(FP8_LARGEST)}[self.numbers]

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Values as they come back: rounded half to even, cut at the ends."""
        scaled = np.asarray(values, np.float64) / self.scale
        if self.numbers == "fp8":
            stored = np.clip(scaled, -FP8_LARGEST, FP8_LARGEST).astype(np.float32).astype(ml_dtypes.float8_e4m3fn)
            return np.asarray(stored.astype(np.float64) * self.scale)
        stored = np.clip(np.rint(scaled) + self.zero_point, self.lowest, self.highest)
        return np.asarray((stored - self.zero_point) * self.scale)


def quantiser(low: float, high: float, numbers: Numbers) -> Quantiser:
    """The quantiser that spans a range, which is widened to hold zero: padding and dead units must stay exact.

    A range of zero width gives steps of 1, which round zero to zero.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    largest = max(-low, high)
    if largest < SMALLEST:
        return Quantiser(numbers, 1.0, 0)
    if numbers == "int8":
        return Quantiser(numbers, float(np.float32(largest / 127)), 0)
    if numbers == "fp8":
        return Quantiser(numbers, float(np.float32(largest / FP8_LARGEST)), 0)
    scale = float(np.float32((high - low) / 255))
    return Quantiser(numbers, scale, int(np.clip(np.rint(-low / scale), 0, 255)))


def choose_range(
    histogram: Histogram, method: Method, numbers: Numbers, percentile: float = PERCENTILE
) -> tuple[float, float]:
    """(low, high) that the integers shall span.

    Args:
        histogram: of the point on the calibration clips.
        method: any but "output".
        numbers: type that rounds.
        percentile: of "percentile".
    """
    if method == "minmax" or histogram.width == 0:
        return histogram.low, histogram.high
    if method == "percentile":
        return _percentile(histogram, percentile)
    error = _squared_error if method == "mse" else _divergence
    candidates = clipped_ranges(histogram, CLIPPED)
    errors = [error(histogram, quantiser(low, high, numbers)) for low, high in candidates]
    return candidates[len(errors) - 1 - int(np.argmin(errors[::-1]))]  # of equal ones the widest


def clipped_ranges(histogram: Histogram, shares: NDArray[np.float64]) -> list[tuple[float, float]]:
    """The full range, cut to shares of its larger side: the smaller side is kept as long as it is inside."""
    largest = max(-histogram.low, histogram.high)
    return [(max(histogram.low, -share * largest), min(histogram.high, share * largest)) for share in shares]


def _percentile(histogram: Histogram, percentile: float) -> tuple[float, float]:
    """Half of what is outside lies below, half above; where all values are of one sign, all of it at their end."""
    outside = (1 - percentile / 100) * histogram.total
    two_sided = histogram.low < 0 < histogram.high
    share = outside / 2 if two_sided else outside
    up, down = np.cumsum(histogram.counts), np.cumsum(histogram.counts[::-1])[::-1]
    edges = histogram.centres - histogram.width / 2
    first = int(np.searchsorted(up, share, side="right"))  # the bin in which more than the share is reached
    last = len(down) - 1 - int(np.searchsorted(down[::-1], share, side="right"))
    low = max(histogram.low, float(edges[first])) if histogram.low < 0 else histogram.low
    high = min(histogram.high, float(edges[last] + histogram.width)) if histogram.high > 0 else histogram.high
    return low, high


def _squared_error(histogram: Histogram, rounding: Quantiser) -> float:
    """Mean squared rounding error of the bins' centres."""
    centres = histogram.centres
    return float((histogram.counts * (rounding(centres) - centres) ** 2).sum() / max(histogram.total, 1))


def _divergence(histogram: Histogram, rounding: Quantiser) -> float:
    """Kullback–Leibler divergence of the values from what 8 bits can tell of them.

    What falls on one step is told apart no longer: there the rounded distribution is flat over the bins that hold
    values. What lies outside the range piles up on its ends.
    """
    kept = histogram.counts > 0
    kept[len(kept) // 2] = False  # exact zeros, of which a ReLU gives many, round to themselves
    counts, steps = histogram.counts[kept].astype(np.float64), rounding(histogram.centres[kept])
    if not counts.size:
        return 0.0
    half = max(rounding.scale, histogram.width) / 2
    ends = [(end - rounding.zero_point) * rounding.scale for end in (rounding.lowest, rounding.highest)]
    inside = (histogram.centres[kept] >= ends[0] - half) & (histogram.centres[kept] <= ends[1] + half)
    if not inside.any():
        return np.inf
    clipped = counts * inside
    first, last = np.flatnonzero(inside)[[0, -1]]
    clipped[first] += counts[:first].sum()
    clipped[last] += counts[last + 1 :].sum()
    _, step = np.unique(steps, return_inverse=True)
    flat = np.bincount(step, counts * inside)[step] / np.maximum(np.bincount(step, inside), 1)[step]
    p, q = clipped / clipped.sum(), np.where(inside, flat, 0)
    q = q / q.sum() if q.sum() else q
    known = (p > 0) & (q > 0)
    return float((p[known] * np.log(p[known] / q[known])).sum())
