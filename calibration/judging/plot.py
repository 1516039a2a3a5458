"""Draw the trade-off: speed (or work in 8 bit) to the right, drop of mAP downwards, a dot per number of layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.judging.budget import BudgetPath
from runtime.results.canvas import INK, MUTED, Canvas, Colour

WIDTH, HEIGHT = 860, 500
LEFT, RIGHT, TOP, BOTTOM = 84, 40, 86, 64
DOT, CHOSEN_DOT = 4.0, 7.0
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 21.0, 14.0, 12.0
GRID: Colour = (226, 229, 234)
STEP: Colour = (0, 114, 178)
CHOSEN: Colour = (213, 94, 0)
BUDGET: Colour = (0, 158, 115)
NEAR = 16.0
"""Distance in pixels below which a dot gets no label of its own."""


def draw_path(path: BudgetPath, title: str) -> NDArray[np.uint8]:
    """Draw the path of a budget as RGB uint8 [500,860,3]."""
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.text(title, LEFT, 28, TITLE_SIZE, INK)
    against = "labels" if path.labelled else "the float network's detections"
    caption = f"float mAP {100 * path.float_map:.2f} against {against}; numbers: layers restored to floating point"
    canvas.text(caption, LEFT, 52, SMALL_SIZE, MUTED)
    timed = all(step.speed for step in path.steps)
    x = [step.speed if timed else 100 * step.share for step in path.steps]
    y = [step.drop for step in path.steps]
    to_x = _scale(min(x, default=0), max(x, default=1), LEFT, WIDTH - RIGHT)
    lowest = max(*y, path.max_drop or 0.0, 0.1)
    to_y = _scale(min(*y, 0.0), lowest, TOP, HEIGHT - BOTTOM)
    for value in _ticks(min(*y, 0.0), lowest):
        canvas.rectangle(LEFT, to_y(value), WIDTH - RIGHT, to_y(value) + 0.5, GRID)
        canvas.text(f"{value:g}", LEFT - 8, to_y(value), SMALL_SIZE, MUTED, 1.0)
    for value in _ticks(min(x), max(x)):
        canvas.rectangle(to_x(value), TOP, to_x(value) + 0.5, HEIGHT - BOTTOM, GRID)
        canvas.text(f"{value:g}", to_x(value), HEIGHT - BOTTOM + 16, SMALL_SIZE, MUTED, 0.5)
    canvas.text("drop, points of mAP", LEFT, TOP - 14, SMALL_SIZE, MUTED)
    label = "speed, times the float network's" if timed else "multiply-adds in 8 bit, %"
    canvas.text(label, WIDTH - RIGHT, HEIGHT - BOTTOM + 38, SMALL_SIZE, MUTED, 1.0)
    if path.max_drop is not None:
        canvas.rectangle(LEFT, to_y(path.max_drop), WIDTH - RIGHT, to_y(path.max_drop) + 1, BUDGET)
        canvas.text(f"budget {path.max_drop:g}", WIDTH - RIGHT, to_y(path.max_drop) - 9, SMALL_SIZE, BUDGET, 1.0)
    named: list[tuple[float, float]] = []
    for step, across, down in zip(path.steps, map(to_x, x), map(to_y, y), strict=True):
        best = step == path.chosen
        size = CHOSEN_DOT if best else DOT
        canvas.rectangle(across - size, down - size, across + size, down + size, CHOSEN if best else STEP)
        if best or all(abs(across - a) + abs(down - b) > NEAR for a, b in named):
            canvas.text(str(len(step.restored)), across + size + 4, down - 8, TEXT_SIZE, CHOSEN if best else INK)
            named.append((across, down))
    return canvas.image()


class _scale:  # noqa: N801 - a function made of two ranges
    def __init__(self, low: float, high: float, first: float, last: float) -> None:
        margin = 0.06 * max(high - low, 1e-9)
        self.low, self.high, self.first, self.last = low - margin, high + margin, first, last

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)


def _ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers between the ends."""
    span = max(high - low, 1e-9)
    step = 10 ** np.floor(np.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (factor * step) <= 8)
    return [round(float(k * step), 9) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
