"""Read lists of thresholds and edges from text."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from runtime.common import limits
from runtime.common.ranges import Range, require_in_range
from runtime.common.text import quote
from runtime.errors import InputError


def parse_tious(text: str) -> tuple[float, ...]:
    """Parse thresholds from "0.3:0.1:0.7" (start:step:stop, stop included) or "0.5,0.75".

    Raises:
        InputError: the text has another form, or names more than `limits.THRESHOLDS`.
    """
    expected = "start:step:stop such as 0.3:0.1:0.7, or 0.5,0.75"
    if ":" not in text:
        return parse_numbers(text, "--tiou", expected)
    try:
        start, step, stop = (float(part) for part in text.split(":"))
        count = int(np.floor((stop - start) / step + 1e-6)) + 1
        if step <= 0 or count < 1:
            raise ValueError
    except (ValueError, ZeroDivisionError, OverflowError):
        raise InputError(f"--tiou: got {quote(text)}, expected {expected}") from None
    require_in_range("--tiou", count, Annotated[int, Range(1, limits.THRESHOLDS, what="thresholds")])
    return tuple(round(start + i * step, 9) for i in range(count))


def parse_numbers(text: str, option: str, expected: str) -> tuple[float, ...]:
    parts = text.split(",")
    require_in_range(option, len(parts), Annotated[int, Range(1, limits.THRESHOLDS, what="numbers")])
    try:
        return tuple(float(part) for part in parts)
    except ValueError:
        raise InputError(f"{option}: got {quote(text)}, expected {expected}") from None
