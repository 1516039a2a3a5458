"""Ranges of fields, as tables of values inside and outside."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import pytest

from runtime.common.ranges import Count, FramesPerSecond, Range, Share, check_ranges, range_of, require_in_range
from runtime.errors import InputError


@dataclass(frozen=True)
class Settings:
    share: Share = 0.5
    fps: FramesPerSecond | None = None
    count: Count = 1
    size: tuple[Annotated[int, Range(0, 10)], Annotated[int, Range(0, 10)]] = (1, 1)
    levels: tuple[Annotated[int, Range(1, 5)], ...] = ()
    weights: dict[str, Share] = field(default_factory=dict)
    free: float = 0.0
    number: int = 0
    camera: int | str = 0
    flag: bool = True
    name: str = "x"

    def __post_init__(self) -> None:
        check_ranges(self)


@pytest.mark.parametrize(
    "values",
    [
        {"share": 0}, {"share": 1.0}, {"share": np.float32(0.25)}, {"fps": 0.001}, {"fps": 100_000},
        {"count": 2**31 - 1}, {"count": np.int64(3)}, {"size": (0, 10)}, {"levels": (1, 5)},
        {"weights": {"a": 1}}, {"free": -1e299}, {"number": 2**53}, {"camera": "rtsp://x"}, {"camera": 3},
    ],
)  # fmt: skip
def test_values_in_range(values: dict[str, Any]) -> None:
    Settings(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 1.01}, "share: got 1.01, expected 0 … 1"),
        ({"share": math.nan}, "share: got nan, expected a finite number, 0 … 1"),
        ({"share": True}, "share: got True, expected a number, 0 … 1"),
        ({"share": "0.5"}, "share: got '0.5', expected a number, 0 … 1"),
        ({"fps": 0}, "fps: got 0, expected above 0, up to 100000 frames per second"),
        ({"fps": math.inf}, "fps: got inf, expected a finite number, above 0, up to 100000 frames per second"),
        ({"count": 0}, "count: got 0, expected 1 … 2147483647"),
        ({"count": 1.5}, "count: got 1.5, expected a whole number, 1 … 2147483647"),
        ({"count": 10**5000}, "count: got an integer of 16610 bits, expected 1 … 2147483647"),
        ({"size": (1, 11)}, r"size\[1\]: got 11, expected 0 … 10"),
        ({"levels": (1, 2, 6)}, r"levels\[2\]: got 6, expected 1 … 5"),
        ({"weights": {"a": 2}}, "weights.a: got 2, expected 0 … 1"),
        ({"free": math.inf}, "free: got inf, expected a finite number"),
        ({"number": 2**53 + 1}, "number: got 9007199254740993, expected -9007199254740992 …"),
        ({"camera": 2**60}, "camera: got 1152921504606846976, expected"),
    ],
)
def test_values_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        Settings(**values)


def test_single_numbers_and_ranges() -> None:
    require_in_range("--score", 0.5, Share)
    with pytest.raises(InputError, match=r"^--score: got -1, expected 0 … 1$"):
        require_in_range("--score", -1, Share)
    assert range_of(Settings, "share") == Range(0, 1)
    assert range_of(Settings, "fps") == Range(0, 100_000, True, "frames per second")
    assert range_of(Settings, "free") is None
