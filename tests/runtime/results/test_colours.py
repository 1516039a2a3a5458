"""Colours of classes: the same in every video, distinct, and visible on white and on dark paper."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from runtime.results.colours import PALETTE, class_colour, hexadecimal

CLASSES = tuple(f"c{k}" for k in range(40))


def test_the_first_eighteen_classes_have_colours_of_their_own() -> None:
    colours = [class_colour(name, CLASSES) for name in CLASSES]
    assert tuple(colours[:6]) == PALETTE
    assert colours[18:36] == colours[:18]
    nearest = min(np.abs(np.subtract(a, b)).sum() for a, b in combinations(colours[:18], 2))
    assert nearest > 40


def test_an_unknown_class_keeps_its_colour_too() -> None:
    for name in ("of the truth alone", "\udcff", ""):
        assert class_colour(name, CLASSES) == class_colour(name, ("other",)) == class_colour(name, ())


def test_hexadecimal() -> None:
    assert hexadecimal((0, 114, 178)) == "#0072b2"
