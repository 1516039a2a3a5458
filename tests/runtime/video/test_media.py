"""Video files of every kind: the frame taken at every moment is the one that a player shows then."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from tests.media import MEDIA, RATES, Media

MakeMedia = Callable[[str], Media]


@pytest.mark.parametrize("rate", RATES)
def test_ffmpeg_shows_constant_rates_as_they_were_made(media: MakeMedia, rate: str) -> None:
    truth = media(f"rate_{rate}.mp4").truth
    assert truth is not None
    assert truth.numbers == tuple(range(len(truth.numbers)))
    assert truth.times == tuple(k / Fraction(RATES[rate]) for k in truth.numbers)
    assert truth.end == len(truth.numbers) / Fraction(RATES[rate])


@pytest.mark.parametrize("name", MEDIA)
def test_every_recipe_makes_what_it_says(media: MakeMedia, name: str) -> None:
    made = media(name)
    assert made.path.exists()
    assert (made.truth is not None) == MEDIA[name].frames
    if made.truth is not None and not name.startswith(("coded_", "damaged")):
        assert min(made.truth.numbers) >= 0
