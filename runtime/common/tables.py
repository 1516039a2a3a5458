"""Text tables for people."""

from __future__ import annotations

from collections.abc import Sequence


def percent(share: float) -> str:
    """0.4567 → 45.67"""
    return f"{100 * share:.2f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells in columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
