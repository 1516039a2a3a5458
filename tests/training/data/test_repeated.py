"""Clips of rare classes are seen more often."""

from __future__ import annotations

from collections import Counter

import pytest

from training.data.annotations import FrameInstance
from training.data.clips import Clip, repeat_rare


def _clip(number: int, *labels: int) -> Clip:
    return Clip(f"v{number}", 0, 100, tuple(FrameInstance(1.0, 9.0, label) for label in labels), 5)


def test_a_clip_stands_as_often_as_its_rarest_class_asks() -> None:
    """Class 1 in all 100 clips, class 2 in 4 of them: √(0.36 / 0.04) = 3 copies of those, one of the others."""
    clips = [_clip(number, *((1, 2, 2) if number < 4 else (1,))) for number in range(100)]
    counts = Counter(clip.video for clip in repeat_rare(clips, 0.36, seed=0))
    assert counts == {f"v{number}": 3 if number < 4 else 1 for number in range(100)}
    assert repeat_rare(clips, 0.0, seed=0) == clips


def test_a_fraction_of_a_copy_is_drawn_with_the_seed() -> None:
    """√(0.4 / 0.2) = 1.41 copies: four of ten rare clips twice, on average."""
    clips = [_clip(number, 2 if number % 5 == 0 else 1) for number in range(5000)]
    many = repeat_rare(clips, 0.4, seed=3)
    assert len(many) - 5000 == pytest.approx(1000 * (2**0.5 - 1), rel=0.1)
    assert many == repeat_rare(clips, 0.4, seed=3)
    assert many != repeat_rare(clips, 0.4, seed=4)
