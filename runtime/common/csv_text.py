"""Write tables as CSV that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from runtime.common.text import LINE_ESCAPES

FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")
"""Beginnings of cells that spreadsheets take for formulas, also in their wide forms (OWASP, CSV injection)."""


def to_csv(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV, one a line; a text that a spreadsheet would run gets an apostrophe before it.

    Numbers stay as they are, negative ones too. Control characters are escaped, since Python's writer does not quote
    carriage returns, which begin a row to other readers.
    """
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(map(csv_row, rows))
    return buffer.getvalue()


def csv_row(cells: Iterable[object]) -> list[object]:
    """Return the cells of a row of CSV as `to_csv` writes them."""
    texts = (cell.translate(LINE_ESCAPES) if isinstance(cell, str) else cell for cell in cells)
    return [f"'{cell}" if isinstance(cell, str) and _runs(cell) else cell for cell in texts]


def _runs(cell: str) -> bool:
    """Return whether a spreadsheet may run a cell."""
    if not cell.startswith(FORMULA):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False
