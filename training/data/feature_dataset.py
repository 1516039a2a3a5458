"""Load training windows of features as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from runtime.features.feature_set import FeatureSet
from runtime.windows import pad, repeat_last
from training.data.augmentation import BackgroundRule
from training.data.clips import Clip
from training.data.dataset import WindowDataset
from training.data.feature_mixing import FeatureMixing


class FeatureDataset(WindowDataset):
    """Loads the windows of a feature set; `Sample.frames` is float32 [C,T], `valid` false for padding, which is
    zeros."""

    def __init__(
        self,
        clips: Sequence[Clip],
        features: FeatureSet,
        *,
        clip_length: int,
        contrastive: float = 0.0,
        background: BackgroundRule = "correct",
        mixing: FeatureMixing | None = None,
        seed: int = 0,
    ) -> None:
        """Open the windows of a feature set.

        Args:
            clips, clip_length, contrastive, background, seed: see `WindowDataset`; clips in steps.
            features: features of the clips' videos.
            mixing: augmentation; None: off.

        Raises:
            InputError: no clips.
        """
        super().__init__(clips, clip_length=clip_length, contrastive=contrastive, background=background, seed=seed)
        self._features = features
        self._mixing = FeatureMixing() if mixing is None else mixing
        self._videos = sorted({clip.video for clip in clips})

    def _load(self, clip: Clip, rng: Random) -> NDArray[np.float32]:
        steps = self._features.read(clip.video, clip.offset, clip.offset + self._clip_length)
        mixed = self._mixing.apply(steps, rng, lambda length: self._draw_piece(length, rng))
        return pad(mixed, self._clip_length)

    def _draw_piece(self, length: int, rng: Random) -> NDArray[np.float32]:
        """Draw `length` consecutive steps of a random video; in a shorter video the last step is repeated."""
        video = rng.choice(self._videos)
        first = rng.randrange(max(self._features.steps(video) - length, 0) + 1)
        return repeat_last(self._features.read(video, first, first + length), length)
