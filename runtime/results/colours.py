"""Give each class its colour, which it keeps whatever video, picture or page it is drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from runtime.results.canvas import Colour, blend

PALETTE: tuple[Colour, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
)
"""Okabe and Ito's colours, told apart with any colour vision; labels stand beside them. (R, G, B)"""
DARKER, LIGHTER = 0.62, 0.6
"""Share of a colour that is left in its dark and in its light shade, which the second and third six classes have."""


def class_colour(name: str, classes: Sequence[str]) -> Colour:
    """Return the colour of a class: by its place among a model's classes, of an unknown one by its name.

    Eighteen classes have colours of their own; later ones repeat them.

    Args:
        name: name of the class.
        classes: all classes of the model, in its order.
    """
    place = classes.index(name) if name in classes else crc32(name.encode("utf-8", "backslashreplace"))
    base = PALETTE[place % len(PALETTE)]
    shade = place // len(PALETTE) % 3
    if shade == 1:
        red, green, blue = (round(DARKER * channel) for channel in base)
        return red, green, blue
    return blend(base, LIGHTER) if shade == 2 else base


def hexadecimal(colour: Colour) -> str:
    """Return a colour as web pages write it, such as "#0072b2"."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
