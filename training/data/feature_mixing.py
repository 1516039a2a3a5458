"""Augment features by mixing in other moments, for training data with few people.

Features of the videos that an extractor was trained on are cleaner than those of new videos. Mixing pieces of a window
with features from elsewhere in the training videos keeps the detector from relying on single steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from runtime.common.ranges import Count, Dropout, check_ranges

Piece = Callable[[int], NDArray[np.float32]]
"""Function from a length n to n consecutive steps [n,C] of any training video."""


@dataclass(frozen=True)
class FeatureMixing:
    """Mixes other moments into features, piece by piece; off by default."""

    share: Dropout = 0.0
    """Largest share α of the other moment; the share of each piece is drawn from 0 … α."""
    steps: Count = 60
    """Mean length of a piece, steps."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def apply(self, features: NDArray[np.float32], rng: Random, piece: Piece) -> NDArray[np.float32]:
        """Return (1 − α)·features + α·piece [T,C] in a new array, or `features` themselves if mixing is off."""
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
