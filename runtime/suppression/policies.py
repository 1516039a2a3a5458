"""NMS as the detector uses it: candidates of one window after the other in, final ones out."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from runtime.decoding.a2net import copied
from runtime.decoding.candidates import Candidates
from runtime.spec.constants import A2NetDecoding
from runtime.spec.model import ModelSpec
from runtime.suppression.nms import LEAST_SCORE, Decay, Gaussian, Hard, hard_nms, soft_nms_reference
from runtime.suppression.nms_stream import NmsStream

HORIZON_WINDOWS = 4
"""Windows for which a chain of ever better overlapping candidates may hold back an older one (rare)."""


class Suppression(Protocol):
    """Takes the candidates of windows in order and gives each surviving one once."""

    def push(self, candidates: Candidates, offset: int) -> Candidates:
        """Add the candidates of the window at `offset` (sampled frames); return those that are final."""
        ...

    def finish(self) -> Candidates:
        """The end of the video: return the rest."""
        ...


class LocalSuppression:
    """Final as soon as nothing later can overlap. Later windows start after this one, and so do their candidates."""

    def __init__(self, spec: ModelSpec, decay: Decay | None = None, floor: float | None = None) -> None:
        """Start a stream; `decay` and `floor` default to the model's soft-NMS."""
        horizon = HORIZON_WINDOWS * spec.window_length / spec.sample_fps
        decay = Gaussian(spec.decoding.nms_sigma) if decay is None else decay
        self._stream = NmsStream(len(spec.classes), decay, spec.decoding.nms_floor if floor is None else floor, horizon)
        self._fps = spec.sample_fps

    def push(self, candidates: Candidates, offset: int) -> Candidates:
        return self._stream.push(candidates, offset / self._fps)

    def finish(self) -> Candidates:
        return self._stream.finish()


class ReferenceSuppression:
    """The published script: everything is kept until the end, then each class on its own."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._parts: list[Candidates] = []

    def push(self, candidates: Candidates, offset: int) -> Candidates:
        self._parts.append(candidates)
        return Candidates.empty()

    def finish(self) -> Candidates:
        """Survivors by class index, each class in window order."""
        everything = Candidates.concatenate(self._parts)
        self._parts = []
        return Candidates.concatenate([self._of_class(everything, label) for label in range(len(self._spec.classes))])

    def _of_class(self, everything: Candidates, label: int) -> Candidates:
        decoding = self._spec.decoding
        chosen = everything.take(everything.labels == label)
        rows = np.column_stack([chosen.segments, chosen.scores])
        kept = soft_nms_reference(rows, decoding.nms_sigma, decoding.nms_top_k, decoding.nms_floor).astype(np.float64)
        return Candidates(kept[:, :2], np.full(len(kept), label, np.int32), kept[:, 2])


class LocalHardSuppression(LocalSuppression):
    """A2Net's hard NMS, final as soon as nothing later can overlap; a stream has no end, so no top-k is taken of it."""

    def __init__(self, spec: ModelSpec, decoding: A2NetDecoding) -> None:
        super().__init__(spec, Hard(decoding.nms_threshold), LEAST_SCORE)
        self._classes, self._copies = spec.classes, decoding.copied_classes

    def push(self, candidates: Candidates, offset: int) -> Candidates:
        return super().push(copied(candidates, self._classes, self._copies), offset)


class HardSuppression:
    """A2Net's released script: everything is kept until the end; hard NMS per class, then the best of the video."""

    def __init__(self, spec: ModelSpec, decoding: A2NetDecoding) -> None:
        self._classes, self._decoding = spec.classes, decoding
        self._parts: list[Candidates] = []

    def push(self, candidates: Candidates, offset: int) -> Candidates:
        self._parts.append(candidates)
        return Candidates.empty()

    def finish(self) -> Candidates:
        """Survivors, best first; of equal scores the one of the lower class index, then the earlier candidate."""
        everything = copied(Candidates.concatenate(self._parts), self._classes, self._decoding.copied_classes)
        self._parts = []
        survivors = Candidates.concatenate([self._of_class(everything, k) for k in range(len(self._classes))])
        return survivors.take(np.argsort(-survivors.scores, kind="stable")[: self._decoding.video_top_k])

    def _of_class(self, everything: Candidates, label: int) -> Candidates:
        chosen = everything.take(everything.labels == label)
        kept = hard_nms(chosen.segments, chosen.scores, self._decoding.nms_threshold, self._decoding.nms_top_k)
        return chosen.take(kept)
