"""Check numbers that callers give, whatever their type: text, None in the wrong place, NaN, infinity, bools."""

from __future__ import annotations

import math
from numbers import Integral, Real

from runtime.errors import InputError


def require_rate(name: str, value: object) -> None:
    """Raise an InputError unless an argument is a number of frames per second, or None for unknown."""
    if value is not None and not (_is_number(value) and 0 < value < math.inf):  # type: ignore[operator]
        raise InputError(f"{name}: got {value!r}, expected a number of frames per second, above 0")


def require_count(name: str, value: object, what: str) -> None:
    """Raise an InputError unless an argument is a whole number of at least 1."""
    if not (_is_number(value) and isinstance(value, Integral) and int(value) >= 1):
        raise InputError(f"{name}: got {value!r}, expected a number of {what}, 1 or more")


def require_share(name: str, value: object) -> None:
    """Raise an InputError unless an argument is a number from 0 to 1."""
    if not (_is_number(value) and 0 <= value <= 1):  # type: ignore[operator]
        raise InputError(f"{name}: got {value!r}, expected a number, 0 … 1")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
