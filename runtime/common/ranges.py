"""Give every number that a user can set its range, in the annotation of its dataclass field, and check it there."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterable, Mapping
from functools import lru_cache
from numbers import Integral, Real
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from runtime.common.text import quote
from runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds a number: `Annotated[float, Range(0, 1)]` is the type of a field whose values lie in 0 … 1."""

    low: float
    high: float
    above: bool = False
    """Whether `low` itself is excluded."""
    what: str = ""
    """Words for the number in messages, such as "frames per second"."""

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        low = f"above {_exact(self.low)}, up to" if self.above else f"{_exact(self.low)} …"
        return f"{low} {_exact(self.high)}" + (f" {self.what}" if self.what else "")


ANY_INTEGER = Range(-(2**53), 2**53)
"""Range of integers whose field gives none: those that a double holds exactly."""
ANY_NUMBER = Range(-1e300, 1e300)
"""Range of other numbers whose field gives none: the finite ones."""

Share = Annotated[float, Range(0, 1)]
"""A score, threshold or tIoU."""
Overlap = Annotated[float, Range(0, 1, above=True)]
"""A tIoU from which on a detection finds an action."""
FramesPerSecond = Annotated[float, Range(0, 100_000, above=True, what="frames per second")]
"""Rate of frames or of feature steps; a high-speed camera has some 10,000."""
Count = Annotated[int, Range(1, 2**31 - 1)]
"""A number of things of which there is at least one."""
Length = Annotated[float, Range(0, 1e9, what="seconds")]
Seconds = Annotated[float, Range(0, 1e9, above=True, what="seconds")]
"""A length of time, up to thirty years."""
Wait = Annotated[float, Range(0, math.inf, what="seconds")]
"""A longest wait, which may be infinite."""

Weight = Annotated[float, Range(0, 1e6)]
"""A factor on a loss, or another one that may be 0."""
Positive = Annotated[float, Range(0, 1e6, above=True)]
"""A factor that is not 0."""
Dropout = Annotated[float, Range(0, 0.99)]
"""A share of values that is left out in training."""
Channels = Annotated[int, Range(1, 65_536, what="channels")]
"""Width of a layer."""
Width = Annotated[int, Range(0, 1_000_000, what="channels")]
"""Width of features; 0 where the data gives it."""
Classes = Annotated[int, Range(0, 100_000, what="classes")]
"""A number of classes, 0 where the data gives it."""
Frames = Annotated[int, Range(1, 100_000, what="frames")]
"""Length of a window in frames or feature steps; the published ones have 128 to 768."""
Pixels = Annotated[int, Range(1, 16_384, what="pixels")]
"""Side of a frame."""
Number = Annotated[int, Range(0, 2**31 - 1)]
"""A number of things of which there may be none."""
Processes = Annotated[int, Range(1, 1024, what="processes")]
"""A number of processes or devices."""
Seed = Annotated[int, Range(0, 2**32 - 1)]
"""A seed of random numbers, as NumPy takes them."""


def check_ranges(instance: Any) -> None:
    """Check every number in a dataclass's fields against the range of its annotation; call it in `__post_init__`.

    Numbers in tuples and dictionaries, and behind "or None", are checked too; those in other dataclasses check
    themselves.

    Raises:
        InputError: a number is out of its range, NaN or infinite, or no number where one is expected.
    """
    cls: Any = type(instance)
    for name, hint in _hints(cls).items():
        _check(hint, getattr(instance, name), name)


def require_in_range(name: str, value: object, hint: Any) -> None:
    """Check one number, such as a command line's, against an annotation, such as `Share` (InputError: out of range)."""
    _check(hint, value, name)


def require_numbers(name: str, values: object, hint: Any) -> tuple[float, ...]:
    """Return the numbers of a sequence or array, each checked against an annotation.

    Raises:
        InputError: `values` is no sequence or array, is empty, or holds a number out of range.
    """
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes, Mapping)):
        raise InputError(f"{name}: got {quote(values)}, expected numbers, such as (0.5,)")
    numbers = tuple(values)
    if not numbers:
        raise InputError(f"{name}: got none, expected at least one number")
    for index, value in enumerate(numbers):
        _check(hint, value, name if len(numbers) == 1 else f"{name}[{index}]")
    return tuple(float(value) for value in numbers)


def range_of(cls: Any, name: str) -> Range | None:
    """Return the range of a dataclass's field; None where its annotation gives none."""
    return _range(_hints(cls)[name])


@lru_cache
def _hints(cls: Any) -> dict[str, Any]:
    """Return the annotations of a dataclass's fields that are given to its constructor."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _range(hint: Any) -> Range | None:
    if get_origin(hint) is Annotated:
        return next((extra for extra in get_args(hint)[1:] if isinstance(extra, Range)), None)
    if get_origin(hint) in (Union, types.UnionType):
        return next(filter(None, map(_range, get_args(hint))), None)
    return None


def _check(hint: Any, value: Any, name: str) -> None:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return
        kinds = [argument for argument in arguments if argument is not type(None)]
        if len(kinds) == 1 or _is_number(value):
            numeric = [kind for kind in kinds if _base(kind) in (int, float)]
            for kind in numeric or kinds[:1]:
                _check(kind, value, name)
        return
    if origin is tuple and isinstance(value, (tuple, list)):
        each = arguments[:1] * len(value) if arguments[-1:] == (Ellipsis,) else arguments
        for index, (kind, item) in enumerate(zip(each, value, strict=False)):
            _check(kind, item, f"{name}[{index}]")
    elif origin in (dict, Mapping) and isinstance(value, Mapping):
        for key, item in value.items():
            _check(arguments[1], item, f"{name}.{key}")
    elif _base(hint) in (int, float):
        _check_number(_base(hint), _range(hint), value, name)


def _base(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _check_number(kind: type, bounds: Range | None, value: Any, name: str) -> None:
    whole = kind is int
    if not _is_number(value) or (whole and not isinstance(value, Integral)):
        wanted = "a whole number" if whole else "a number"
        raise InputError(f"{name}: got {quote(value)}, expected {wanted}" + (f", {bounds}" if bounds else ""))
    endless = bounds is not None and value == bounds.high
    if not endless and not isinstance(value, Integral) and not math.isfinite(value):  # integers may be too large for it
        raise InputError(f"{name}: got {quote(value)}, expected a finite number" + (f", {bounds}" if bounds else ""))
    bounds = bounds or (ANY_INTEGER if whole else ANY_NUMBER)
    number: Any = value if isinstance(value, Integral) else float(value)  # float32 has no 1e300
    if number not in bounds:
        raise InputError(f"{name}: got {quote(value)}, expected {bounds}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _exact(value: float) -> str:
    """Return a bound as the shortest text that is exactly it: 0.5, 100000, 2147483647, 1e+09."""
    return short if float(short := f"{value:g}") == value else str(value)
