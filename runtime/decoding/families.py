"""What differs between the families once a network has run: its outputs, decoding of a window, and suppression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from runtime.decoding.a2net import A2NET_OUTPUTS, decode_a2net
from runtime.decoding.afsd import decode_afsd
from runtime.decoding.candidates import Candidates
from runtime.decoding.two_stage import decode_two_stage
from runtime.spec.model import ModelSpec
from runtime.suppression.policies import (
    HardSuppression,
    LocalHardSuppression,
    LocalSuppression,
    ReferenceSuppression,
    Suppression,
)


def decode_window(
    outputs: Mapping[str, NDArray[Any]],
    index: int,
    offset: int,
    spec: ModelSpec,
    *,
    score_threshold: float | None = None,
    keep_empty: bool = False,
    length: int | None = None,
) -> Candidates:
    """Decode one window of any family; arguments and errors as in `decode_afsd`, in frames or steps.

    Seconds are counted by `spec.sample_fps` from the edge of the first frame or step.
    """
    if spec.a2net is None or spec.a2net_decoding is None:
        decode = decode_afsd if spec.two_stage is None else decode_two_stage
        return decode(outputs, index, offset, spec, score_threshold, keep_empty, length)
    decoding = spec.a2net_decoding
    if score_threshold is not None:
        decoding = replace(decoding, score_threshold=score_threshold)
    return decode_a2net(
        outputs,
        index,
        offset / spec.sample_fps,
        spec.window_length / spec.sample_fps,
        spec.a2net,
        decoding,
        keep_empty,
        None if length is None else length / spec.sample_fps,
    )


def class_output(spec: ModelSpec) -> str:
    """Name of the raw output that holds the first class logits: what an engine's drift is judged by.

    Of A2Net the points'; of its anchors alone `ab`, where overlap and offsets stand beside the logits.
    """
    names = [tensor.name for tensor in spec.outputs]
    return next(name for name in ("conf", *A2NET_OUTPUTS, "cls") if name in names)


def suppression_of(spec: ModelSpec, *, reference: bool) -> Suppression:
    """The family's suppression: as the video goes, or the published script's over the whole video."""
    if spec.a2net_decoding is None:
        return ReferenceSuppression(spec) if reference else LocalSuppression(spec)
    return HardSuppression(spec, spec.a2net_decoding) if reference else LocalHardSuppression(spec, spec.a2net_decoding)
