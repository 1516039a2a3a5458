"""Run NMS for the detector: push candidates window by window, get final ones."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from runtime.decoding.a2net import copy_classes
from runtime.decoding.candidates import Candidates
from runtime.spec.decoding_constants import A2NetDecoding
from runtime.spec.model import ModelSpec
from runtime.suppression.nms import LEAST_SCORE, Decay, Gaussian, Hard, hard_nms, soft_nms_reference
from runtime.suppression.nms_stream import NmsStream

SETTLE_WINDOWS = 4
"""Number of windows for which, in a source without end, a chain of ever better overlapping candidates may hold back an
older one: a default that no trained network was seen to reach."""


class Suppression(Protocol):
    """Takes the candidates of windows in order and returns each surviving one once."""

    @property
    def settlements(self) -> int:
        """Number of chains that were settled before their end; 0: the result is that over the whole video."""
        ...

    @property
    def frontier(self) -> float:
        """Seconds at or after which every candidate that is still to be returned starts; −∞: nothing is known."""
        ...

    def push(self, candidates: Candidates, offset: int) -> Candidates:
        """Add the candidates of the window at `offset` (frames or steps); return those that are final."""
        ...

    def finish(self) -> Candidates:
        """End the video and return the rest."""
        ...


class LocalSuppression:
    """Runs soft-NMS over a stream: a candidate is final as soon as no later one can overlap it.

    Candidates of later windows start no earlier than their window. No candidate waits for longer than `horizon` seconds
    (see `NmsStream`).
    """

    def __init__(self, spec: ModelSpec, horizon: float = math.inf) -> None:
        self._start(spec, Gaussian(spec.decoding.nms_sigma), spec.decoding.nms_floor, horizon)

    def _start(self, spec: ModelSpec, decay: Decay, floor: float, horizon: float) -> None:
        self._stream, self._fps = NmsStream(len(spec.classes), decay, floor, horizon), spec.sample_fps

    @property
    def settlements(self) -> int:
        """See `Suppression`."""
        return self._stream.settlements

    @property
    def frontier(self) -> float:
        """See `Suppression`."""
        return self._stream.frontier

    def push(self, candidates: Candidates, offset: int) -> Candidates:
        return self._stream.push(candidates, offset / self._fps)

    def finish(self) -> Candidates:
        return self._stream.finish()


class LocalHardSuppression(LocalSuppression):
    """Runs A2Net's hard NMS over a stream, without top-k, since a stream has no end."""

    def __init__(self, spec: ModelSpec, horizon: float = math.inf) -> None:
        self._classes, self._decoding = spec.classes, _a2net_decoding(spec)
        self._start(spec, Hard(self._decoding.nms_threshold), LEAST_SCORE, horizon)

    def push(self, candidates: Candidates, offset: int) -> Candidates:
        return super().push(copy_classes(candidates, self._classes, self._decoding.copied_classes), offset)


class ReferenceSuppression:
    """Runs soft-NMS as the published script: keeps everything until the end, then suppresses each class on its own."""

    settlements = 0
    frontier = -math.inf

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._parts: list[Candidates] = []

    def push(self, candidates: Candidates, offset: int) -> Candidates:
        self._parts.append(candidates)
        return Candidates.empty()

    def finish(self) -> Candidates:
        """Return the survivors by class index, each class in window order."""
        return self._by_class(self._everything())

    def _everything(self) -> Candidates:
        parts, self._parts = self._parts, []
        return Candidates.concatenate(parts)

    def _by_class(self, everything: Candidates) -> Candidates:
        labels = range(len(self._spec.classes))
        return Candidates.concatenate([self._suppress(everything.take(everything.labels == k), k) for k in labels])

    def _suppress(self, chosen: Candidates, label: int) -> Candidates:
        decoding = self._spec.decoding
        rows = np.column_stack([chosen.segments, chosen.scores])
        kept = soft_nms_reference(rows, decoding.nms_sigma, decoding.nms_top_k, decoding.nms_floor).astype(np.float64)
        return Candidates(kept[:, :2], np.full(len(kept), label, np.int32), kept[:, 2])


class HardSuppression(ReferenceSuppression):
    """Runs hard NMS as A2Net's released script: at the end, per class, then keeps the best of the video."""

    def finish(self) -> Candidates:
        """Return the survivors, best first; of equal scores the lower class index, then the earlier candidate."""
        decoding = _a2net_decoding(self._spec)
        survivors = self._by_class(copy_classes(self._everything(), self._spec.classes, decoding.copied_classes))
        return survivors.take(np.argsort(-survivors.scores, kind="stable")[: decoding.video_top_k])

    def _suppress(self, chosen: Candidates, label: int) -> Candidates:
        decoding = _a2net_decoding(self._spec)
        return chosen.take(hard_nms(chosen.segments, chosen.scores, decoding.nms_threshold, decoding.nms_top_k))


def _a2net_decoding(spec: ModelSpec) -> A2NetDecoding:
    assert spec.a2net_decoding is not None
    return spec.a2net_decoding
