"""Augmentation of features: a share of other moments mixed in, for networks that see too few people.

Features of videos that their extractor was trained on are cleaner than those of anybody else's. Pieces of a window are
drawn towards what the training videos show elsewhere, so that the detector learns not to trust single steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

Piece = Callable[[int], NDArray[np.float32]]
"""n → n following steps of any training video, [n,C]."""


@dataclass(frozen=True)
class FeatureMixing:
    """How much is mixed in, piece by piece; off by default."""

    share: float = 0.0
    """Largest share α of the other moment; each piece draws its own from 0 … share."""
    steps: int = 60
    """Mean length of a piece."""

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1 or self.steps < 1:
            raise ValueError(
                f"share is {self.share}, steps {self.steps}: expected a share of 0 or more, below 1, and 1 step or more"
            )

    def apply(self, features: NDArray[np.float32], rng: Random, piece: Piece) -> NDArray[np.float32]:
        """(1 − α)·features + α·piece, [T,C], a new array; `features` themselves where nothing is mixed in."""
        if not self.share:
            return features
        mixed, position = features.copy(), 0
        while position < len(features):
            length = min(rng.randint(1, 2 * self.steps - 1), len(features) - position)
            share = np.float32(rng.uniform(0, self.share))
            part = slice(position, position + length)
            mixed[part] += share * (piece(length) - mixed[part])
            position += length
        return mixed
