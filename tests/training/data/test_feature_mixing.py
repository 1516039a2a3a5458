"""Augmentation of features: other moments mixed in."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.feature_data import make_feature_set, small_feature_config
from training.data.feature_mixing import FeatureMixing
from training.training_set import open_feature_windows


def test_each_piece_is_drawn_towards_another_moment_by_at_most_the_share() -> None:
    """Mixing ones into zeros leaves the share itself: constant within a piece, within bounds, of many sizes."""
    lengths: list[int] = []

    def ones(length: int) -> NDArray[np.float32]:
        lengths.append(length)
        return np.ones((length, 3), np.float32)

    shares = FeatureMixing(share=0.4, steps=10).apply(np.zeros((2000, 3), np.float32), Random(1), ones)
    assert shares.dtype == np.float32
    assert (shares == shares[:, :1]).all()  # all channels alike
    assert shares.min() >= 0
    assert 0.35 < shares.max() <= 0.4
    assert shares.mean() == pytest.approx(0.2, abs=0.03)
    changes = np.flatnonzero(np.diff(shares[:, 0])) + 1
    np.testing.assert_array_equal(changes, np.cumsum(lengths)[:-1])
    assert np.mean(lengths) == pytest.approx(10, abs=1)
    assert max(lengths) <= 19


def test_without_a_share_features_stay_as_they_are() -> None:
    features = np.ones((4, 2), np.float32)
    assert FeatureMixing().apply(features, Random(0), lambda _: pytest.fail("nothing is read")) is features
    with pytest.raises(ValueError, match=r"share: got 1.0, expected 0 … 0.99"):
        FeatureMixing(share=1.0)


def test_windows_are_mixed_anew_in_every_epoch_from_training_videos_alone(tmp_path: Path) -> None:
    root = make_feature_set(tmp_path)
    for name in ("b0", "b1", "b2"):  # fold b tests them: what they hold must never be seen
        path = root / "rgb" / f"{name}.npy"
        np.save(path, np.full_like(np.load(path), 1e6))
    plain = open_feature_windows(small_feature_config("gtea", root, "data.mixing.share=0")).dataset
    mixed = open_feature_windows(small_feature_config("gtea", root, "data.mixing.share=0.5")).dataset
    first, same = mixed[0].frames, mixed[0].frames
    mixed.set_epoch(1)
    assert first.equal(same)
    assert not first.equal(mixed[0].frames)
    assert not first.equal(plain[0].frames)
    assert first.abs().max() < 1e3
