"""Write tables as CSV that no spreadsheet runs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runtime.common.text import LINE_ESCAPES

FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")
"""Beginnings of cells that spreadsheets take for formulas, also in their wide forms (OWASP, CSV injection)."""


QUOTE = '"'
SEPARATING = frozenset(',;\t\n"')
"""Letters of a cell that is quoted: what separates cells and rows anywhere."""
_GUARDED = re.compile(f"'+[{''.join(map(re.escape, FORMULA))}]")
"""Beginning of a cell that gets one more apostrophe, as it looks as if it had got one."""


def to_csv(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV, one a line; a text that a spreadsheet would run gets an apostrophe before it.

    Numbers stay as they are, negative ones too. Control characters are escaped, since readers take a carriage return
    for the beginning of a row. Cells with a semicolon or a tab are quoted, too: where the decimal point is a comma,
    spreadsheets take a semicolon for the separator, and begin a cell, which may be a formula, behind each.
    """
    return "".join(map(csv_line, rows))


def csv_line(cells: Iterable[object]) -> str:
    """Return a row of CSV as `to_csv` writes it, with the line feed at its end."""
    return f"{','.join(map(_cell, cells))}\n"


def without_apostrophe(cell: str) -> str:
    """Return a cell without the apostrophe that keeps spreadsheets from running it, as `to_csv` was given it."""
    return cell[1:] if _GUARDED.match(cell) else cell


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        text = str(value)
    else:
        text = value.translate(LINE_ESCAPES)
        text = f"'{text}" if _runs(text) or _GUARDED.match(text) else text
    return f'"{text.replace(QUOTE, QUOTE * 2)}"' if SEPARATING.intersection(text) else text


def _runs(cell: str) -> bool:
    """Return whether a spreadsheet may run a cell."""
    if not cell.startswith(FORMULA):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False
