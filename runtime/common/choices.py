"""Check that a word that a caller gives is one of those that a function takes."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.common.text import quote
from runtime.errors import InputError


def require_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Check that `value` is one of the words in `choices` (InputError: it is none; the message begins with `name`)."""
    known = tuple(choices)
    if not isinstance(value, str) or value not in known:
        raise InputError(f"{name}: got {quote(value)}, expected one of {', '.join(known)}")
