"""Keep the names of videos apart."""

from __future__ import annotations


def take_name(name: str, taken: set[str]) -> str:
    """Return the name, numbered if it is taken (clip, clip-2, …), and take it."""
    candidates = (name if count == 1 else f"{name}-{count}" for count in range(1, len(taken) + 2))
    unique = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(unique)
    return unique
