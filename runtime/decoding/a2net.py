"""Decode A2Net's raw outputs to candidate segments in seconds, from anchors and points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.decoding.candidates import Candidates, sigmoid, softmax
from runtime.decoding.output_checks import require_numbers, take_output
from runtime.errors import InputError
from runtime.segments import valid_segments
from runtime.spec.anchors import A2NetLayout, default_anchors, level_points
from runtime.spec.decoding_constants import A2NetDecoding

A2NET_OUTPUTS = ("af_cls", "af_reg", "ab")
"""Names of A2Net's raw outputs. Points: af_cls [B,N,K] logits and af_reg [B,N,2] units. Anchors: ab [B,M,K+3] (logits,
overlap, r_x, r_w), or ab [B,M,1] with the overlap only. K = classes + 1 (class 0 is the background). A network with one
module has only that module's outputs."""

F32 = np.float32


def decode_a2net(
    outputs: Mapping[str, NDArray[Any]],
    index: int,
    start: float,
    duration: float,
    layout: A2NetLayout,
    decoding: A2NetDecoding,
    keep_empty: bool = False,
    length: float | None = None,
) -> Candidates:
    """Decode one window of raw outputs; every anchor and every point can give a candidate.

    Fractions of the window are computed in float32, seconds in float64, so a long stream loses nothing.

    Args:
        outputs: the arrays named in A2NET_OUTPUTS, float32, batch first.
        index: index of the window in the batch.
        start: start of the window in seconds from the start of the input.
        duration: length of a window in seconds.
        layout: anchors and points of the network.
        decoding: scores and thresholds.
        keep_empty: keep segments that are empty or inverted (distances may be negative), as the released code does.
        length: seconds of the window before the padding, where segments are cut; None: not cut, as in the released
            code.

    Returns:
        Candidates of the anchors, then of the points, each from fine to coarse levels and by time within a level.

    Raises:
        InputError: an output is missing or its shape does not fit the layout.
        EngineError: the network gave NaN.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # NaN is reported below, an infinite distance is clamped
        parts = _modules(outputs, index, layout, decoding)
    segments, scores = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    require_numbers((scores, segments), start)
    if length is not None:
        segments = np.minimum(segments, F32(length / duration))
    chosen = scores > F32(decoding.score_threshold)
    if decoding.labels == "best":
        chosen &= np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]
    if not keep_empty:
        chosen &= valid_segments(segments)[:, None]
    rows, labels = np.nonzero(chosen)
    return Candidates(
        segments[rows].astype(np.float64) * duration + start,
        labels.astype(np.int32),
        scores[rows, labels].astype(np.float64),
    )


def copy_classes(candidates: Candidates, classes: tuple[str, ...], copies: tuple[tuple[str, str], ...]) -> Candidates:
    """Return the candidates, with those of each pair's first class repeated as the second class (`copied_classes`).

    Raises:
        InputError: a pair names a class that is not in `classes`.
    """
    parts = [candidates]
    for pair in copies:
        if not set(pair) <= set(classes):
            raise InputError(f"copied_classes has {pair[0]} → {pair[1]}, expected names of the model's classes")
        chosen = candidates.take(candidates.labels == classes.index(pair[0]))
        parts.append(Candidates(chosen.segments, np.full_like(chosen.labels, classes.index(pair[1])), chosen.scores))
    return Candidates.concatenate(parts)


Scored = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Segments [n,2] as fractions of the window, and scores [n,K−1] of the action classes."""


def _modules(
    outputs: Mapping[str, NDArray[Any]], index: int, layout: A2NetLayout, decoding: A2NetDecoding
) -> list[Scored]:
    """Return the segments and scores of each module of the network, with scores weighted by λ."""
    point_weight, anchor_weight = decoding.weights
    parts = []
    if layout.anchor_ratios:
        ab = take_output(outputs, "ab", index, (layout.num_anchors, layout.anchor_width))
        segments, scores = decode_anchors(ab, layout, decoding)
        parts.append((segments, scores * F32(anchor_weight)))
    if layout.point_levels:
        logits = take_output(outputs, "af_cls", index, (layout.num_points, layout.num_classes))
        distances = take_output(outputs, "af_reg", index, (layout.num_points, 2))
        scores = softmax(logits)[:, 1:] * F32(point_weight)
        parts.append((decode_points(distances, layout), scores))
    return parts


def decode_anchors(ab: NDArray[np.float32], layout: A2NetLayout, decoding: A2NetDecoding) -> Scored:
    """Return segments and scores of the anchors [M,width] that are not background.

    x = x_a + α·w_a·r_x, w = w_a·exp(β·r_w). Scores are the action probabilities times the predicted overlap, with or
    without a sigmoid; or the overlap only.
    """
    x, w = default_anchors(layout).astype(F32).T
    if layout.anchor_outputs == "overlap":
        scores = np.clip(ab, F32(0), F32(1))
    else:
        x = x + F32(layout.offset_scale) * w * ab[:, -2]
        w = w * np.exp(F32(layout.width_scale) * ab[:, -1])
        overlap = sigmoid(ab[:, -3:-2]) if decoding.overlap == "sigmoid" else np.clip(ab[:, -3:-2], F32(0), F32(1))
        probabilities = softmax(ab[:, :-3])
        foreground = ~(probabilities[:, 0] >= F32(decoding.background_limit))  # keeps NaN, which is reported later
        x, w, scores = x[foreground], w[foreground], (probabilities[:, 1:] * overlap)[foreground]
    segments = np.stack([np.maximum(x - w / F32(2), F32(0)), np.minimum(x + w / F32(2), F32(1))], axis=-1)
    return np.asarray(segments, F32), np.asarray(scores, F32)


def decode_points(distances: NDArray[np.float32], layout: A2NetLayout) -> NDArray[np.float32]:
    """Return the segments [j − r_s, j + r_e] of the points j, clamped to the window, as fractions of it [N,2]."""
    points = np.concatenate(level_points(layout)).astype(F32)
    starts = np.maximum(points - distances[:, 0], F32(0))
    ends = np.minimum(points + distances[:, 1], F32(layout.units))
    return np.asarray(np.stack([starts, ends], axis=-1) / F32(layout.units), F32)
