"""Draw the learning curves of a run: its losses on a logarithmic scale, and mAP where it is measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.common.text import printable
from runtime.results.canvas import INK, MUTED, PAPER, Canvas, Colour, blend
from runtime.results.timeline import save_image
from training.loop.metric_log import VAL_MAP

CURVES = "curves.png"

COLOURS: tuple[Colour, ...] = (
    (213, 94, 0),
    (0, 114, 178),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (120, 120, 120),
    (150, 110, 60),
)
"""Colours of the terms of the loss in turn (Okabe and Ito's, then grey and brown); the total is drawn in ink."""
NOT_LOSSES = ("step", "epoch", "learning_rate", "grad_norm", "seconds")
"""Columns of `metrics.csv` that are no loss, beside mAP."""

# Layout, pixels
WIDTH, HEIGHT = 1200, 480
MARGIN, HEADER, FOOTER, AXIS = 24, 64, 50, 58
LEGEND = 150
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 19.0, 13.0, 12.0
ROW = 20
GRID = blend(MUTED, 0.22)

POINTS = 400
"""Most points of a curve; of more rows, as many means are drawn."""
LABELS = 8
"""Most labels of an axis."""
LOWEST = 1e-3
"""Share of the largest loss below which the logarithmic axis ends; a term that is 0 is not drawn."""


@dataclass(frozen=True)
class Curve:
    """Holds one quantity over the epochs."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """Maps values to pixels of a rectangle; `log` makes its vertical axis logarithmic."""

    left: float
    right: float
    top: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False

    def place(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the pixels [n,2] of values, within the rectangle."""
        low, high = self._scale(np.array(self.y))
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = np.clip((self._scale(y) - low) / (high - low), 0, 1)
        return np.stack(
            [self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)], axis=-1
        )

    def _scale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log10(np.maximum(values, 1e-300)) if self.log else values


def draw_curves(rows: Sequence[Mapping[str, str]], path: Path, title: str, steps_per_epoch: int) -> None:
    """Draw the rows of `metrics.csv` as a picture; without any loss nothing is written.

    Args:
        rows: rows by column.
        path: picture to write.
        title: name of the run.
        steps_per_epoch: optimiser steps of an epoch.

    Raises:
        OSError: the picture cannot be written.
    """
    losses, measured = read_curves(rows, steps_per_epoch)
    if losses:
        save_image(draw(losses, measured, title), path)


def read_curves(rows: Sequence[Mapping[str, str]], steps_per_epoch: int) -> tuple[list[Curve], list[Curve]]:
    """Return the losses that are not always 0, the total first, and mAP in percent, its average first."""
    names = list(rows[0]) if rows else []
    losses = [name for name in names if name not in NOT_LOSSES and not name.startswith(VAL_MAP)]
    measured = [name for name in names if name.startswith(VAL_MAP)]
    curves = [_read(rows, name, steps_per_epoch) for name in losses]
    maps = [_read(rows, name, steps_per_epoch) for name in measured]
    return (
        [_thin(curve) for curve in curves if (curve.y > 0).any()],
        [Curve(curve.name, curve.x, 100 * curve.y) for curve in maps if len(curve.x)],
    )


def draw(losses: Sequence[Curve], measured: Sequence[Curve], title: str) -> NDArray[np.uint8]:
    """Draw losses, and mAP if there is any, side by side: uint8 [480,1200,3] RGB."""
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.text(printable(title)[:80], MARGIN, MARGIN, TITLE_SIZE, INK)
    end = max(1e-9, *(float(curve.x.max()) for curve in (*losses, *measured)))
    middle = WIDTH * 0.58 if measured else WIDTH - MARGIN
    top, bottom = HEADER + 10, HEIGHT - FOOTER
    values = np.concatenate([curve.y[curve.y > 0] for curve in losses])
    highest = float(values.max())
    low = max(float(values.min()), highest * LOWEST)
    left = Panel(
        MARGIN + AXIS, middle - LEGEND, top, bottom, (0.0, end), (low / 1.2, max(highest, low) * 1.2), log=True
    )
    _draw_axes(canvas, left, "loss", _label_decades(*left.y))
    for index, curve in reversed(list(enumerate(losses))):
        colour, width = (INK, 2.5) if index == 0 else (COLOURS[(index - 1) % len(COLOURS)], 1.5)
        shown = curve.y >= left.y[0]  # what is below the axis is not drawn
        _draw_line(canvas, left.place(curve.x[shown], curve.y[shown]), colour, width)
        row = top + ROW * (index + 0.5)
        canvas.rectangle(left.right + 14, row - 2, left.right + 34, row + 2, colour)
        canvas.text(printable(curve.name), left.right + 40, row, TEXT_SIZE, INK)
    if measured:
        right = Panel(middle + AXIS, WIDTH - MARGIN - 60, top, bottom, (0.0, end), (0.0, _round_up(measured)))
        _draw_axes(canvas, right, "mAP %", [(v, f"{v:g}") for v in _ticks(*right.y)])
        _draw_measured(canvas, right, measured)
    return canvas.image()


def _draw_measured(canvas: Canvas, panel: Panel, measured: Sequence[Curve]) -> None:
    """Draw mAP at each threshold thin, and its average with points, of which the best has a label."""
    lowest = panel.top - ROW
    canvas.text("tIoU", panel.right + 8, panel.top - 22, SMALL_SIZE, MUTED)
    for curve in sorted(measured[1:], key=lambda curve: -float(curve.y[-1])):
        points = panel.place(curve.x, curve.y)
        _draw_line(canvas, points, blend(COLOURS[1], 0.35), 1.0)
        lowest = max(float(points[-1, 1]), lowest + SMALL_SIZE + 2)  # labels of equal values stand below one another
        canvas.text(curve.name.removeprefix(f"{VAL_MAP}_"), panel.right + 8, lowest, SMALL_SIZE, MUTED)
    average = measured[0]
    points = panel.place(average.x, average.y)
    _draw_line(canvas, points, COLOURS[1], 2.5)
    for x, y in points.tolist():
        canvas.dot(x, y, 3.5, COLOURS[1])
    best = int(np.argmax(average.y))  # of equal values the first, which is the one that is kept
    x, y = points[best].tolist()
    canvas.dot(x, y, 6.0, COLOURS[0])
    side = 1.0 if x > (panel.left + panel.right) / 2 else 0.0
    text = f"best {average.y[best]:.1f} %, epoch {math.ceil(average.x[best] - 1e-9)}"
    x, y, width = x + (8 if side == 0 else -8), y - 16, canvas.text_width(text, TEXT_SIZE)
    left = x - side * width
    canvas.rectangle(left - 3, y - TEXT_SIZE / 2 - 2, left + width + 3, y + TEXT_SIZE / 2 + 2, PAPER)
    canvas.text(text, x, y, TEXT_SIZE, INK, side)


def _draw_axes(canvas: Canvas, panel: Panel, title: str, labels: Iterable[tuple[float, str]]) -> None:
    """Draw the grid of a panel with its labels; the epochs are below."""
    canvas.text(title, panel.left, panel.top - 22, TEXT_SIZE, INK)
    for value, text in labels:
        y = float(panel.place(np.array([panel.x[0]]), np.array([value]))[0, 1])
        canvas.rectangle(panel.left, y - 0.5, panel.right, y + 0.5, GRID)
        canvas.text(text, panel.left - 8, y, SMALL_SIZE, MUTED, 1.0)
    for value in _ticks(*panel.x):
        x = float(panel.place(np.array([value]), np.array([panel.y[1]]))[0, 0])
        canvas.rectangle(x - 0.5, panel.bottom, x + 0.5, panel.bottom + 4, MUTED)
        canvas.text(f"{value:g}", x, panel.bottom + 16, SMALL_SIZE, MUTED, 0.5)
    canvas.rectangle(panel.left, panel.bottom - 0.5, panel.right, panel.bottom + 0.5, MUTED)
    canvas.text("epochs", panel.right, panel.bottom + 34, SMALL_SIZE, MUTED, 1.0)


def _draw_line(canvas: Canvas, points: NDArray[np.float64], colour: Colour, width: float) -> None:
    if len(points) > 1:
        canvas.line(points, colour, width)
    elif len(points):
        canvas.dot(float(points[0, 0]), float(points[0, 1]), max(width, 2.0), colour)


def _read(rows: Sequence[Mapping[str, str]], name: str, steps_per_epoch: int) -> Curve:
    """Read a column over the epochs; empty cells are left out."""
    pairs = [(int(row["step"]) / steps_per_epoch, float(row[name])) for row in rows if row.get(name)]
    x, y = np.array(pairs, np.float64).reshape(-1, 2).T
    finite = np.isfinite(y)
    return Curve(name, x[finite], y[finite])


def _thin(curve: Curve) -> Curve:
    """Return a curve of at most `POINTS` points, each the mean of neighbouring ones."""
    if len(curve.x) <= POINTS:
        return curve
    parts = np.array_split(np.arange(len(curve.x)), POINTS)
    return Curve(
        curve.name,
        np.array([curve.x[part].mean() for part in parts]),
        np.array([curve.y[part].mean() for part in parts]),
    )


def _round_up(measured: Sequence[Curve]) -> float:
    """Return the end of the axis of mAP: the highest value, rounded up to tens."""
    return max(10.0, 10 * math.ceil(max(float(curve.y.max()) for curve in measured) / 10 + 0.05))


def _ticks(low: float, high: float) -> list[float]:
    """Return round values from `low` to `high`, at most `LABELS`."""
    rough = (high - low) / LABELS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10, 20) if size * factor >= rough)
    return [step * k for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _label_decades(low: float, high: float) -> list[tuple[float, str]]:
    """Return labels of a logarithmic axis: 1, 2 and 5 of each decade, or its beginnings alone where they are many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    inside = [value for value in values if low <= value <= high]
    if len(inside) > LABELS:
        inside = [value for value in inside if math.log10(value) % 1 < 1e-9 or math.log10(value) % 1 > 1 - 1e-9]
    return [(value, f"{value:g}") for value in inside]
