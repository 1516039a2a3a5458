"""Detection as the specification words it, one number at a time: what the fast code is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Row = tuple[float, float, float]
"""Start, end, score."""


def plain_soft_nms(rows: NDArray[np.generic], sigma: float, floor: float, keep_last: bool, dtype: type) -> list[Row]:
    """Soft-NMS of one class, [N,3] start, end, score, as the specification words it; result in the input's order."""
    rows = rows.astype(dtype)
    undone = [i for i in range(len(rows)) if rows[i, 2] >= floor]
    done: list[int] = []
    while len(undone) > (0 if keep_last else 1):
        best = max(undone, key=lambda i: (rows[i, 2], -i))
        undone.remove(best)
        done.append(best)
        for i in list(undone):
            shared_length = max(min(rows[best, 1], rows[i, 1]) - max(rows[best, 0], rows[i, 0]), dtype(0))
            union = max(rows[best, 1] - rows[best, 0], dtype(1e-5)) + (rows[i, 1] - rows[i, 0]) - shared_length
            tiou = shared_length / union if shared_length > 0 else dtype(0)
            rows[i, 2] *= np.exp(-(tiou**2) / dtype(sigma))
            if rows[i, 2] < floor:
                undone.remove(i)
    return [tuple(map(float, rows[i])) for i in sorted(done)]  # type: ignore[misc]


def plain_segments(outputs: Mapping[str, NDArray[np.float32]], levels: tuple[int, ...], length: int) -> list[Row]:
    """(start, end, 0) of each location in frames of the first window: refined and clamped (E1, steps 1 and 2)."""
    priors = [(c + 0.5) / t for t in levels for c in range(t)]
    segments = []
    for prior, (left, right), (dl, dr) in zip(
        priors, outputs["loc"][0].tolist(), outputs["prop_loc"][0].tolist(), strict=True
    ):
        width = left + right
        start, end = prior * length - left - 0.5 * width * dl, prior * length + right + 0.5 * width * dr
        segments.append((min(max(start, 0.0), length), min(max(end, 0.0), length), 0.0))
    return segments


def plain_scores(outputs: Mapping[str, NDArray[np.float32]], label: int) -> list[float]:
    """Score of class `label` (background is 0) at each location of the first window (E1, step 3)."""

    def probability(logits: list[float]) -> float:
        return math.exp(logits[label]) / sum(math.exp(x) for x in logits)

    conf, prop_conf, center = (outputs[name][0].tolist() for name in ("conf", "prop_conf", "center"))
    return [
        (probability(a) + probability(b)) / 2 / (1 + math.exp(-c))
        for a, b, (c,) in zip(conf, prop_conf, center, strict=True)
    ]
