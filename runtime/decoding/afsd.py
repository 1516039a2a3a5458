"""Decode AFSD's raw outputs to candidate segments in seconds (equations 1 and 15, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.decoding.candidates import Candidates, sigmoid, softmax
from runtime.decoding.output_checks import require_numbers, take_output
from runtime.segments import valid_segments
from runtime.spec.model import ModelSpec

AFSD_OUTPUTS = ("loc", "conf", "prop_loc", "prop_conf", "center")
"""Names of AFSD's raw outputs: loc [B,N,2] frames, conf [B,N,K] logits, prop_loc [B,N,2], prop_conf [B,N,K] logits,
center [B,N,1] logit, with K = classes + 1 (class 0 is the background)."""


def level_priors(level_lengths: Sequence[int]) -> NDArray[np.float32]:
    """Return the centres of the locations as fractions of the window, float32 [N]: p_c = (c + 0.5)/t, t level length.

    Levels are concatenated fine to coarse. The paper's equation 1 has c/t; its code, and so the weights, add the half.
    """
    return np.concatenate([(np.arange(t, dtype=np.float32) + np.float32(0.5)) / np.float32(t) for t in level_lengths])


def decode_afsd(
    outputs: Mapping[str, NDArray[Any]],
    index: int,
    offset: int,
    spec: ModelSpec,
    score_threshold: float | None = None,
    keep_empty: bool = False,
    length: int | None = None,
) -> Candidates:
    """Decode one window of AFSD's raw outputs (equations 1 and 15; scores as in section 4.1).

    Frames are computed in float32 as in the published code; seconds in float64, so a long stream loses nothing.

    Args:
        outputs: the arrays named in AFSD_OUTPUTS, float32, batch first.
        index: index of the window in the batch.
        offset: first sampled frame of the window, counted from the start of the input.
        spec: level lengths, window length, fps, classes.
        score_threshold: candidates need a score strictly above this threshold; default: the model's own.
        keep_empty: keep segments that are empty or inverted after clamping, as the published code does.
        length: frames of the window before the padding, where segments are cut; None: not cut, as in the published
            code.

    Returns:
        Candidates by class, then by location (fine level first, time inside a level).

    Raises:
        InputError: an output is missing or its shape does not fit the spec.
        EngineError: the network gave NaN.
    """
    classes = len(spec.classes) + 1
    loc, conf, prop_loc, prop_conf, center = (
        take_output(outputs, name, index, (spec.num_locations, width))
        for name, width in zip(AFSD_OUTPUTS, (2, classes, 2, classes, 1), strict=True)
    )
    with np.errstate(invalid="ignore", over="ignore"):  # NaN is reported below, an infinite distance is clamped
        scores = (softmax(conf) + softmax(prop_conf)) / np.float32(2)
        if spec.decoding.quality:
            scores = scores * sigmoid(center)
        segments = refine_segments(loc, prop_loc, spec)
    require_numbers((scores, segments), offset / spec.sample_fps)
    if length is not None:
        segments = np.minimum(segments, np.float32(length))
    threshold = np.float32(spec.decoding.score_threshold if score_threshold is None else score_threshold)
    above = threshold < scores[:, 1:].T
    if not keep_empty:
        above &= valid_segments(segments)
    labels, locations = np.nonzero(above)
    return Candidates(
        (segments[locations].astype(np.float64) + offset) / spec.sample_fps,
        labels.astype(np.int32),
        scores[locations, labels + 1].astype(np.float64),
    )


def location_centres(spec: ModelSpec) -> NDArray[np.float32]:
    """Return the centres p·T of the locations in frames of the window, float32 [N]."""
    return level_priors(spec.level_lengths) * np.float32(spec.window_length)


def refine_segments(loc: NDArray[np.float32], prop_loc: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32]:
    """Return segments [...,N,2] in frames, clamped to the window, from distances and relative offsets [...,N,2].

    Equation 15 on distances, as in the code: (l, r) ← (l, r) + 0.5·(l + r)·prop_loc; segment = [p·T − l, p·T + r].
    """
    distances = loc + np.float32(0.5) * (loc[..., :1] + loc[..., 1:]) * prop_loc
    centres = location_centres(spec)
    segments = np.stack([centres - distances[..., 0], centres + distances[..., 1]], axis=-1)
    return np.asarray(np.clip(segments, np.float32(0), np.float32(spec.window_length)))
