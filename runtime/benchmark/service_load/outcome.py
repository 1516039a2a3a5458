"""Hold what became of one request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Outcome:
    """Holds what became of one request."""

    kind: str
    end: str
    """Status, and state of its job if there is one; "lost" if there was no answer."""
    seconds: float
    refusals: int = 0
    """Number of 429 before it was taken."""
    wrong: bool = False
    """Whether the result is another than that of `afsd detect`."""
