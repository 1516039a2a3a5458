"""Format text tables."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.common.text import printable


def percent(share: float) -> str:
    """Format a share as percent: 0.4567 → "45.67"."""
    return f"{100 * share:.2f}"


def align(rows: Sequence[Sequence[str]], sides: str = "", *, indent: int = 0) -> str:
    """Align rows of cells in columns that are as wide as their widest cell, two spaces apart.

    Control characters in cells, such as line breaks, are escaped: a label cannot forge a row.

    Args:
        rows: cells, as many in each row; the first row may be a header.
        sides: "l" or "r" per column; empty: the first to the left, the others to the right.
        indent: spaces before each line.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    columns = len(rows[0])
    sides = sides or "l" + "r" * (columns - 1)
    widths = [max(len(row[column]) for row in rows) for column in range(columns)]
    lines = (
        "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        )
        for row in rows
    )
    return "\n".join(f"{' ' * indent}{line}".rstrip() for line in lines)
