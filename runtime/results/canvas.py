"""Draw antialiased with OpenCV: draw at twice the size, then reduce."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
"""Colour as red, green, blue, each 0–255."""

PAPER: Colour = (255, 255, 255)
INK: Colour = (28, 32, 40)
MUTED: Colour = (106, 114, 128)

_SCALE = 2
_SHIFT = 4
"""Bits of the fraction in OpenCV's coordinates."""
_PARTS = 1 << _SHIFT
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 22.0
"""Height of a capital in pixels at font scale 1."""
_CAPITAL = 0.72
"""Height of a capital as a share of the text size."""


class Canvas:
    """Draws on a white sheet of `width`×`height` pixels; coordinates are in pixels and may be fractions."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._pixels = np.full((height * _SCALE, width * _SCALE, 3), PAPER, np.uint8)

    def image(self) -> NDArray[np.uint8]:
        """Return the drawing, uint8 [height,width,3] RGB."""
        small = cv2.resize(self._pixels, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.uint8)

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill a rectangle, drawn at least half a pixel wide and high."""
        x0, y0 = round(left * _SCALE), round(top * _SCALE)
        x1, y1 = max(round(right * _SCALE), x0 + 1), max(round(bottom * _SCALE), y0 + 1)
        self._pixels[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = colour

    def line(self, points: NDArray[np.float64], colour: Colour, width: float = 2.0) -> None:
        """Draw straight lines through points [n,2] of x and y, n ≥ 2."""
        whole = np.round(points * _SCALE * _PARTS).astype(np.int32)
        cv2.polylines(self._pixels, [whole], False, colour, max(round(width * _SCALE), 1), cv2.LINE_AA, _SHIFT)

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        centre = (round(x * _SCALE * _PARTS), round(y * _SCALE * _PARTS))
        cv2.circle(self._pixels, centre, round(radius * _SCALE * _PARTS), colour, -1, cv2.LINE_AA, _SHIFT)

    def text_width(self, text: str, size: float) -> float:
        """Return the width of one line of text in pixels."""
        (width, _), _ = cv2.getTextSize(_drawable(text), _FONT, _font_scale(size), _thickness(size))
        return float(width) / _SCALE

    def text(self, text: str, x: float, middle: float, size: float, colour: Colour, align: float = 0.0) -> float:
        """Write one line with its capitals centred on the height `middle`, and return its width.

        `align` is the share of the line left of `x`: 0 starts the line at `x`, 0.5 centres it, 1 ends it there.
        """
        width = self.text_width(text, size)
        origin = (round((x - align * width) * _SCALE), round((middle + size * _CAPITAL / 2) * _SCALE))
        scale, thickness = _font_scale(size), _thickness(size)
        cv2.putText(self._pixels, _drawable(text), origin, _FONT, scale, colour, thickness, cv2.LINE_AA)
        return width

    def picture(self, picture: NDArray[np.uint8], left: float, top: float, width: float, height: float) -> None:
        """Paste a picture, uint8 [H,W,3] RGB, scaled to the given size."""
        x, y = max(round(left * _SCALE), 0), max(round(top * _SCALE), 0)
        size = (max(round(width * _SCALE), 1), max(round(height * _SCALE), 1))
        scaled = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        room = self._pixels[y : y + size[1], x : x + size[0]]
        room[:] = scaled[: room.shape[0], : room.shape[1]]


def blend(colour: Colour, strength: float) -> Colour:
    """Return the colour on white paper at a strength of 0 (white) to 1 (full)."""
    red, green, blue = (round(255 + (channel - 255) * strength) for channel in colour)
    return red, green, blue


def readable_on(background: Colour) -> Colour:
    """Return ink or white, whichever contrasts more with the background (relative luminance, WCAG 2)."""
    linear = (np.array(background) / 255) ** 2.2
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return PAPER if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.06 else INK


def _drawable(text: str) -> str:
    """Return the text with bytes that are no text replaced; OpenCV ends the process at them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _font_scale(size: float) -> float:
    return size * _CAPITAL * _SCALE / _FONT_HEIGHT


def _thickness(size: float) -> int:
    return 2 if size < 18 else 3
