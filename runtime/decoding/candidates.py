"""Hold scored segments before suppression, and compute what several decoders need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.segments import valid_segments


@dataclass(frozen=True, eq=False)
class Candidates:
    """Holds scored segments before suppression, as a struct of arrays."""

    segments: NDArray[np.float64]
    """Start and end in seconds, [M,2]."""
    labels: NDArray[np.int32]
    """Index of the action class, 0-based without the background, [M]."""
    scores: NDArray[np.float64]
    """Scores in 0..1, [M]."""

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Candidates:
        """Return no candidates."""
        return cls(np.empty((0, 2)), np.empty(0, np.int32), np.empty(0))

    @classmethod
    def concatenate(cls, parts: Sequence[Candidates]) -> Candidates:
        """Return all candidates of `parts`, in order."""
        if not parts:
            return cls.empty()
        return cls(
            np.concatenate([p.segments for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.scores for p in parts]),
        )

    def place(self, start_s: float, end_s: float) -> Candidates:
        """Return the candidates moved by `start_s` and cut to 0 … `end_s` seconds, without those that become empty."""
        segments = np.clip(self.segments + start_s, 0.0, end_s)
        return Candidates(segments, self.labels, self.scores).take(valid_segments(segments))

    def take(self, chosen: NDArray[Any]) -> Candidates:
        """Return the candidates chosen by an index or bool array."""
        return Candidates(self.segments[chosen], self.labels[chosen], self.scores[chosen])


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the softmax over the last axis, same shape and dtype."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute 1/(1 + exp(−x)), same shape and dtype; written so that exp cannot overflow."""
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, np.float32(1), small) / (np.float32(1) + small))
