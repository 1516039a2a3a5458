"""List what differs between the families of networks after the forward pass: outputs, decoding, suppression.

A new family is an entry of `FAMILIES`, a decoder in decoding/, and its constants in spec/decoding_constants.py; what
differs in training is an entry of `training.families`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from numpy.typing import NDArray

from runtime.decoding.a2net import A2NET_OUTPUTS, decode_a2net
from runtime.decoding.afsd import AFSD_OUTPUTS, decode_afsd
from runtime.decoding.candidates import Candidates
from runtime.decoding.two_stage import TWO_STAGE_OUTPUTS, decode_two_stage
from runtime.errors import InputError
from runtime.spec.model import ModelSpec
from runtime.suppression.policies import (
    HardSuppression,
    LocalHardSuppression,
    LocalSuppression,
    ReferenceSuppression,
    Suppression,
)


class Decode(Protocol):
    """Decodes one window of raw outputs; arguments and errors as in `decode_afsd`, in frames or steps."""

    def __call__(
        self,
        outputs: Mapping[str, NDArray[Any]],
        index: int,
        offset: int,
        spec: ModelSpec,
        score_threshold: float | None = None,
        keep_empty: bool = False,
        length: int | None = None,
    ) -> Candidates: ...


@dataclass(frozen=True)
class Family:
    """Describes one family of detectors."""

    outputs: tuple[str, ...]
    """Names of the raw outputs, in the order of the papers; a network may lack some."""
    class_outputs: tuple[str, ...]
    """Names of the outputs with class logits; the drift of an engine is measured on the first that a network has."""
    decode: Decode
    suppress: Callable[[ModelSpec, float], Suppression]
    """Function that makes the suppression of a stream, in which no candidate waits for more than so many seconds."""
    suppress_as_published: Callable[[ModelSpec], Suppression]
    """Function that makes the suppression of the published script, over the whole video."""


def family_of(spec: ModelSpec) -> Family:
    """Return the family of a network (InputError: a backbone, which detects nothing)."""
    if spec.family not in FAMILIES:
        raise InputError(
            "the model is a backbone, which detects nothing; give it as Detector(model, backbone=…), beside a model on "
            "features, or to afsd features"
        )
    return FAMILIES[spec.family]


def class_output(spec: ModelSpec) -> str:
    """Return the name of the first raw output with class logits, on which the drift of an engine is measured.

    For A2Net this is the points' output; without points it is `ab`, which also holds overlap and offsets.
    """
    names = {tensor.name for tensor in spec.outputs}
    return next(name for name in family_of(spec).class_outputs if name in names)


def _decode_a2net_steps(
    outputs: Mapping[str, NDArray[Any]],
    index: int,
    offset: int,
    spec: ModelSpec,
    score_threshold: float | None = None,
    keep_empty: bool = False,
    length: int | None = None,
) -> Candidates:
    """Decode a window of A2Net, whose decoder takes seconds instead of steps."""
    assert spec.a2net is not None
    assert spec.a2net_decoding is not None
    decoding = spec.a2net_decoding
    if score_threshold is not None:
        decoding = replace(decoding, score_threshold=score_threshold)
    fps = spec.sample_fps
    return decode_a2net(
        outputs,
        index,
        offset / fps,
        spec.window_length / fps,
        spec.a2net,
        decoding,
        keep_empty,
        None if length is None else length / fps,
    )


FAMILIES: dict[str, Family] = {
    "afsd": Family(AFSD_OUTPUTS, ("conf",), decode_afsd, LocalSuppression, ReferenceSuppression),
    "a2net": Family(A2NET_OUTPUTS, ("af_cls", "ab"), _decode_a2net_steps, LocalHardSuppression, HardSuppression),
    "two_stage": Family(TWO_STAGE_OUTPUTS, ("cls",), decode_two_stage, LocalSuppression, ReferenceSuppression),
}
"""Families by their name in a ModelSpec."""
