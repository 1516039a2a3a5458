"""Keep the names of videos apart, and fit for file names."""

from __future__ import annotations

from pathlib import Path

from runtime.errors import InputError


def take_name(name: str, taken: set[str]) -> str:
    """Return the name, numbered if it is taken (clip, clip-2, …), and take it."""
    candidates = (name if count == 1 else f"{name}-{count}" for count in range(1, len(taken) + 2))
    unique = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(unique)
    return unique


def require_plain(video: str) -> None:
    """Raise an InputError if the name of a video has a path in it, and so no file can have it."""
    if Path(video).name != video:
        raise InputError(f"{video!r}: got a video name with a path in it, expected a plain name; rename it")
