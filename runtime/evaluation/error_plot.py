"""Draw the kinds of errors: for every multiple of G a column divided by kind, and the gain of each kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.evaluation.error_kinds import HIT, KINDS, FalsePositiveResult
from runtime.results.canvas import INK, MUTED, Canvas, Colour, readable_on

COLOURS: tuple[Colour, ...] = (
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (204, 121, 167),
    (196, 200, 208),
)
"""Colours of KINDS (Okabe and Ito's, distinguishable with any colour vision; background grey)."""

# Layout, pixels
WIDTH, HEIGHT = 960, 480
MARGIN, HEADER, FOOTER = 28, 70, 44
LEGEND = 280
GAP = 8
SWATCH = 14
ROW = 32
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 21.0, 14.0, 12.0
MIN_LABELLED = 0.06
"""Smallest share of a column that is labelled with its number."""


def draw_profile(result: FalsePositiveResult) -> NDArray[np.uint8]:
    """Draw the result as uint8 [480,960,3] RGB; a multiple of G that no detection reaches stays empty."""
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.text("Kinds of detections", MARGIN, MARGIN, TITLE_SIZE, INK)
    summary = (
        f"tIoU {result.tiou:g}, {result.rule} rule, mAP {100 * result.map:.1f} %; share in % by rank, G = instances"
    )
    canvas.text(summary, MARGIN, MARGIN + 24, SMALL_SIZE, MUTED)
    pitch = (WIDTH - 2 * MARGIN - LEGEND) / len(result.shares)
    for m, shares in enumerate(result.shares):
        left = MARGIN + m * pitch
        canvas.text(f"{m + 1}G", left + (pitch - GAP) / 2, HEIGHT - FOOTER + 18, SMALL_SIZE, MUTED, 0.5)
        if not np.isnan(shares).any():
            _draw_column(canvas, shares, left, left + pitch - GAP)
    _draw_legend(canvas, result, WIDTH - MARGIN - LEGEND + 2 * GAP)
    return canvas.image()


def _draw_column(canvas: Canvas, shares: NDArray[np.float64], left: float, right: float) -> None:
    """Draw the shares [6] of one multiple from the bottom up; a kind that does not occur has no part."""
    height = HEIGHT - HEADER - FOOTER
    bottom = float(HEIGHT - FOOTER)
    for share, colour in zip(shares.tolist(), COLOURS, strict=True):
        top = bottom - share * height
        if share > 0:
            canvas.rectangle(left, top, right, bottom, colour)
        if share >= MIN_LABELLED:
            text = f"{100 * share:.0f}"
            canvas.text(text, (left + right) / 2, (top + bottom) / 2, SMALL_SIZE, readable_on(colour), 0.5)
        bottom = top


def _draw_legend(canvas: Canvas, result: FalsePositiveResult, left: float) -> None:
    """Draw the kinds in the order of a column from the top, each with its number and its gain in points of mAP."""
    right = WIDTH - MARGIN
    canvas.text("number", right - 76, HEADER, SMALL_SIZE, MUTED, 1.0)
    canvas.text("mAP gain", right, HEADER, SMALL_SIZE, MUTED, 1.0)
    for row, kind in enumerate(reversed(range(len(KINDS))), 1):
        middle = HEADER + row * ROW
        canvas.rectangle(left, middle - SWATCH / 2, left + SWATCH, middle + SWATCH / 2, COLOURS[kind])
        canvas.text(KINDS[kind], left + SWATCH + GAP, middle, TEXT_SIZE, INK)
        canvas.text(str(int(result.counts[kind])), right - 76, middle, TEXT_SIZE, INK, 1.0)
        if kind != HIT:
            canvas.text(f"+{100 * result.gains[kind]:.2f}", right, middle, TEXT_SIZE, INK, 1.0)
