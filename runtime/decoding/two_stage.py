"""Decode the raw outputs of a two-stage detector to candidates: refined proposals with classes, or plain proposals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.decoding.candidates import Candidates, softmax
from runtime.decoding.output_checks import require_numbers, take_output
from runtime.segments import valid_segments
from runtime.spec.model import ModelSpec

TWO_STAGE_OUTPUTS = ("proposals", "prop_score", "cls", "reg")
"""Names of the raw outputs: proposals [B,N,2] start and end in steps of the window, best first, padded with (0, 0);
prop_score [B,N,1] in 0..1, not a logit; cls [B,N,K] logits, background first; reg [B,N,2] (Δc, Δw)."""

F32 = np.float32


def decode_two_stage(
    outputs: Mapping[str, NDArray[Any]],
    index: int,
    offset: int,
    spec: ModelSpec,
    score_threshold: float | None = None,
    keep_empty: bool = False,
    length: int | None = None,
) -> Candidates:
    """Return every class of every proposal as a candidate: c* = c + Δc·w, w* = w·exp(Δw), score softmax(cls).

    Arguments, errors and number types are those of `decode_afsd`. Candidates are in the order of the proposals, then
    of the classes.
    """
    arrays = [_window_output(outputs, name, index, spec) for name in TWO_STAGE_OUTPUTS]
    proposals, strength, logits, regression = arrays
    with np.errstate(invalid="ignore", over="ignore"):  # NaN is reported below, an infinite width is clamped
        scores = softmax(logits)[:, 1:]
        width = proposals[:, 1:] - proposals[:, :1]
        centre = proposals[:, :1] + width / F32(2) + regression[:, :1] * width
        half = width * np.exp(regression[:, 1:]) / F32(2)
        segments = np.concatenate([centre - half, centre + half], axis=1)
    require_numbers((scores, segments, strength), offset / spec.sample_fps)
    segments = np.clip(segments, F32(0), F32(spec.window_length if length is None else length))
    threshold = spec.decoding.score_threshold if score_threshold is None else score_threshold
    chosen = (scores > F32(threshold)) & (strength > 0)
    if not keep_empty:
        chosen &= valid_segments(segments)[:, None]
    rows, labels = np.nonzero(chosen)
    return _to_seconds(segments[rows], labels, scores[rows, labels], offset, spec)


def decode_proposals(
    outputs: Mapping[str, NDArray[Any]], index: int, offset: int, spec: ModelSpec, length: int | None = None
) -> Candidates:
    """Return the first stage's proposals of a window, cut at `length`, with label 0; arguments as in `decode_afsd`."""
    proposals, strength = (_window_output(outputs, name, index, spec) for name in TWO_STAGE_OUTPUTS[:2])
    segments = np.clip(proposals, F32(0), F32(spec.window_length if length is None else length))
    rows = np.flatnonzero((strength[:, 0] > 0) & valid_segments(segments))
    return _to_seconds(segments[rows], np.zeros(len(rows)), strength[rows, 0], offset, spec)


def _to_seconds(
    segments: NDArray[np.float32], labels: NDArray[Any], scores: NDArray[np.float32], offset: int, spec: ModelSpec
) -> Candidates:
    seconds = (segments.astype(np.float64) + offset) / spec.sample_fps
    return Candidates(seconds, labels.astype(np.int32), scores.astype(np.float64))


def _window_output(outputs: Mapping[str, NDArray[Any]], name: str, index: int, spec: ModelSpec) -> NDArray[np.float32]:
    shape = next(tuple(int(n) for n in tensor.shape[1:]) for tensor in spec.outputs if tensor.name == name)
    return take_output(outputs, name, index, shape)
