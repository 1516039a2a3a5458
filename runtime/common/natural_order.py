"""Sort names as people do: frame2 before frame10."""

from __future__ import annotations

import re


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key under which runs of the digits 0–9 compare as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if index % 2 else (-1, part.lower()) for index, part in enumerate(parts)]
