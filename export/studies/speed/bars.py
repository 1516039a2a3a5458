"""Draw horizontal bars with quartiles and bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.results.canvas import INK, MUTED, Canvas, Colour, blend

BLUE: Colour = (0, 114, 178)
ORANGE: Colour = (213, 94, 0)
GREY: Colour = (196, 200, 208)

# Layout, pixels
WIDTH = 960
MARGIN, HEADER = 28, 84
ROW, BAR = 34, 16
LABEL, NUMBER = 300, 150
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 21.0, 14.0, 12.0


@dataclass(frozen=True)
class Bar:
    """One bar of a figure."""

    label: str
    value: float
    low: float = 0.0
    """First quartile; 0 for none."""
    high: float = 0.0
    """Third quartile; 0 for none."""
    bound: float = 0.0
    """Bound, drawn as a mark beyond the bar; 0 for none."""
    note: str = ""
    """Text after the number."""


def draw_bars(title: str, note: str, bars: Sequence[Bar]) -> NDArray[np.uint8]:
    """Draw bars from one zero, uint8 [H,960,3] RGB; quartiles as a thin line, a bound as an orange mark."""
    canvas = Canvas(WIDTH, HEADER + ROW * len(bars) + MARGIN)
    canvas.text(title, MARGIN, MARGIN, TITLE_SIZE, INK)
    canvas.text(note, MARGIN, MARGIN + 26, SMALL_SIZE, MUTED)
    left, right = MARGIN + LABEL, WIDTH - MARGIN - NUMBER
    largest = max((max(bar.value, bar.high, bar.bound) for bar in bars), default=0.0) or 1.0
    scale = (right - left) / largest
    canvas.rectangle(left - 1, HEADER - 6, left, HEADER + ROW * len(bars), GREY)
    for row, bar in enumerate(bars):
        middle = HEADER + ROW * row + ROW / 2
        canvas.text(bar.label, left - 10, middle, TEXT_SIZE, INK, 1.0)
        if bar.bound:
            canvas.rectangle(left, middle - BAR / 2, left + bar.bound * scale, middle + BAR / 2, blend(ORANGE, 0.15))
        canvas.rectangle(left, middle - BAR / 2, left + bar.value * scale, middle + BAR / 2, BLUE)
        if bar.bound:
            at = left + bar.bound * scale
            canvas.rectangle(at - 1, middle - BAR / 2 - 3, at + 1, middle + BAR / 2 + 3, ORANGE)
        if bar.high:
            canvas.rectangle(left + bar.low * scale, middle - 1, left + bar.high * scale, middle + 1, INK)
        text = f"{bar.value:,.0f}" + (f"  {bar.note}" if bar.note else "")
        canvas.text(text, WIDTH - MARGIN, middle, TEXT_SIZE, INK, 1.0)
    return canvas.image()
