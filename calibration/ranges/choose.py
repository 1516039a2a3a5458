"""Choose the range that 8 bits span from a histogram: min–max, percentile, entropy, squared error.

A narrower range has finer quantisation steps but clips the values outside; each method balances the two by its own
criterion. All methods use the type that will round: 256 levels from the smallest to the largest value (uint8), 127 on
each side of zero (int8), or the floating-point levels of FP8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from calibration.ranges.histogram import Histogram

Method = Literal["minmax", "percentile", "entropy", "mse", "output"]
"""Method of choosing a range. For "output", `quantise.remedies` searches the range with the smallest error in the
outputs of the layers that read the tensor."""

METHODS: tuple[Method, ...] = get_args(Method)

Numbers = Literal["uint8", "int8", "fp8"]
"""Type of stored activations: asymmetric uint8, symmetric int8, or FP8 E4M3. Weights are fp8 with "fp8", else int8."""

PERCENTILE = 99.99
"""Default share of the values inside the range of method "percentile", in percent."""

CLIPPED = np.linspace(0.1, 1.0, 91)
"""Shares of the full range that the methods "mse" and "entropy" try."""

SMALLEST = 1e-30
"""Magnitude below which a range is taken as zero, since its scale would be too small for float32."""

FP8_LARGEST = 448.0
"""Largest finite number of FP8 E4M3."""


@dataclass(frozen=True)
class Quantiser:
    """Quantises one point: x ≈ scale · (q − zero_point) with integer q in lowest … highest (FP8: q = x / scale)."""

    numbers: Numbers
    scale: float
    zero_point: int

    @property
    def lowest(self) -> int:
        """Smallest q. In int8 the range spans ±127, but QuantizeLinear rounds values below the range to −128."""
        return {"uint8": 0, "int8": -128, "fp8": -int(FP8_LARGEST)}[self.numbers]

    @property
    def highest(self) -> int:
        """Largest q."""
        return {"uint8": 255, "int8": 127, "fp8": int(FP8_LARGEST)}[self.numbers]

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return values after quantisation and dequantisation: rounded half to even, clipped at the ends."""
        scaled = np.asarray(values, np.float64) / self.scale
        if self.numbers == "fp8":
            stored = np.clip(scaled, -FP8_LARGEST, FP8_LARGEST).astype(np.float32).astype(ml_dtypes.float8_e4m3fn)
            return np.asarray(stored.astype(np.float64) * self.scale)
        stored = np.clip(np.rint(scaled) + self.zero_point, self.lowest, self.highest)
        return np.asarray((stored - self.zero_point) * self.scale)


def make_quantiser(low: float, high: float, numbers: Numbers) -> Quantiser:
    """Make the quantiser that spans a range, widened to hold zero so that padding and dead units stay exact.

    A range of zero width gives the scale 1, which rounds zero to zero.
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
    """Choose the range (low, high) that the integers span.

    Args:
        histogram: values of the point on the calibration clips.
        method: any method but "output".
        numbers: type that rounds.
        percentile: share of the values inside the range in percent, for method "percentile".
    """
    if method == "minmax" or histogram.width == 0:
        return histogram.low, histogram.high
    if method == "percentile":
        return _percentile(histogram, percentile)
    error = _squared_error if method == "mse" else _divergence
    candidates = clip_ranges(histogram, CLIPPED)
    errors = [error(histogram, make_quantiser(low, high, numbers)) for low, high in candidates]
    return candidates[len(errors) - 1 - int(np.argmin(errors[::-1]))]  # the widest range with the smallest error


def clip_ranges(histogram: Histogram, shares: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Clip the full range to ± each share of its larger side; a smaller side inside that stays as it is."""
    largest = max(-histogram.low, histogram.high)
    return [(max(histogram.low, -share * largest), min(histogram.high, share * largest)) for share in shares]


def _percentile(histogram: Histogram, percentile: float) -> tuple[float, float]:
    """Leave out half of the outside values below and half above; all at the one end if all values have one sign."""
    outside = (1 - percentile / 100) * histogram.total
    two_sided = histogram.low < 0 < histogram.high
    share = outside / 2 if two_sided else outside
    up, down = np.cumsum(histogram.counts), np.cumsum(histogram.counts[::-1])[::-1]
    edges = histogram.centres - histogram.width / 2
    first = int(np.searchsorted(up, share, side="right"))  # the bin in which the sum exceeds the share
    last = len(down) - 1 - int(np.searchsorted(down[::-1], share, side="right"))
    low = max(histogram.low, float(edges[first])) if histogram.low < 0 else histogram.low
    high = min(histogram.high, float(edges[last] + histogram.width)) if histogram.high > 0 else histogram.high
    return low, high


def _squared_error(histogram: Histogram, rounding: Quantiser) -> float:
    """Return the mean squared rounding error of the bins' centres, weighted by the counts."""
    centres = histogram.centres
    return float((histogram.counts * (rounding(centres) - centres) ** 2).sum() / max(histogram.total, 1))


def _divergence(histogram: Histogram, rounding: Quantiser) -> float:
    """Return the Kullback–Leibler divergence between the values' distribution and the quantised one.

    Values that round to one level become indistinguishable: there the quantised distribution is flat over the bins that
    hold values. Values outside the range are counted in the first or last bin inside it.
    """
    kept = histogram.counts > 0
    kept[len(kept) // 2] = False  # exact zeros, frequent behind a ReLU, round to themselves
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
