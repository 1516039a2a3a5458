"""Detection as the specification words it, one number at a time: what the fast code is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Row = tuple[float, float, float]
"""Start, end, score."""


Outputs = Mapping[str, NDArray[np.float32]]
"""Raw outputs of one window, [1,N,width] by name."""

SCORE, SIGMA, FLOOR = 0.01, 0.5, 0.001
"""Threshold of E1, and σ and floor of E2, which the published THUMOS14 configuration has."""


def plain_offsets(n: int, length: int, stride: int) -> list[int]:
    """First frame of each window of a video of `n` frames, as the specification words the rule (A7)."""
    if n < length:
        return [0] if n else []
    offsets = [o for o in range(n) if o % stride == 0 and o <= n - length]
    return [*offsets, n - length] if (n - length) % stride else offsets


def plain_detections(
    outputs_at: Callable[[int], Outputs],
    frames: int,
    levels: tuple[int, ...],
    length: int,
    stride: int,
    classes: int,
    fps: float = 10.0,
    published: bool = False,
) -> list[tuple[float, float, float, float]]:
    """(class, start, end, score) of a whole video in seconds, sorted: E1 at every offset of A7, then E2 at once.

    `outputs_at` gives the raw outputs of the window at an offset. Segments are cut where the video ends and empty ones
    are left out, and the last candidate is kept; with `published`, neither, and soft-NMS is in float32.
    """
    candidates: list[list[Row]] = [[] for _ in range(classes)]
    for offset in plain_offsets(frames, length, stride):
        outputs = outputs_at(offset)
        segments = plain_segments(outputs, levels, length)
        for label, rows in enumerate(candidates):
            for (start, uncut, _), score in zip(segments, plain_scores(outputs, label + 1), strict=True):
                end = uncut if published else min(uncut, float(frames - offset))
                if score > SCORE and (published or end > start):
                    rows.append(((start + offset) / fps, (end + offset) / fps, score))
    return sorted(
        (float(label), *row)
        for label, rows in enumerate(candidates)
        for row in plain_soft_nms(
            np.array(rows).reshape(-1, 3), SIGMA, FLOOR, not published, np.float32 if published else np.float64
        )
    )


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
