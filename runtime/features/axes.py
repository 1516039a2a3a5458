"""Find which axis of feature arrays is time, where the arrays leave no doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Literal

from runtime.errors import InputError

AxisOrder = Literal["steps_first", "channels_first"]
"""Order of the axes of an array: [T,C] ("steps_first") or [C,T] ("channels_first")."""

Shape = tuple[int, int]
"""Shape of an array as stored."""

STEPS_TOLERANCE = 0.05
"""Share by which the length of an axis may differ from the steps expected from the duration, since extractors treat the
ends of videos differently; at least STEPS_TOLERANCE_MIN steps."""
STEPS_TOLERANCE_MIN = 8.0
"""Number of steps by which the length of an axis may always differ from the steps expected from the duration."""


def axis_orders_by_width(shapes: Sequence[Sequence[Shape]], width: int) -> list[tuple[AxisOrder, ...]]:
    """Return every choice of one order per stream that gives most videos `width` channels over all streams.

    Args:
        shapes: shapes of the stored arrays, per video and stream.
        width: C that the model takes, all streams together.
    """
    choices: tuple[AxisOrder, AxisOrder] = ("steps_first", "channels_first")
    return [
        orders
        for orders in product(choices, repeat=len(shapes[0]))
        if _most(sum(map(_width, video, orders)) == width for video in shapes)
    ]


def find_axis_order(shapes: Mapping[str, Shape], folder: str, steps: Mapping[str, float] | None = None) -> AxisOrder:
    """Find the axis order of the arrays of one folder.

    The first of two rules that decides counts: only one axis has the same length in most videos, so it is the width;
    only one axis has the length expected from most videos' durations, so it is time.

    Args:
        shapes: shapes of the videos' arrays; at least one.
        folder: name of the folder in errors.
        steps: T expected from the videos' durations, where known.

    Raises:
        InputError: neither rule decides, as with a single square array.
    """
    alike = [len(shapes) > 1 and _has_common([shape[axis] for shape in shapes.values()]) for axis in (0, 1)]
    known = {video: count for video, count in (steps or {}).items() if video in shapes}
    timed = [bool(known) and _most(_near(shapes[v][axis], count) for v, count in known.items()) for axis in (0, 1)]
    for is_width in (alike, [timed[1], timed[0]]):  # where one axis is time, the other is the width
        if is_width[0] != is_width[1]:
            return "channels_first" if is_width[0] else "steps_first"
    video, shape = next(iter(shapes.items()))
    raise InputError(
        f"{folder}: cannot find which axis is time: {video} is {list(shape)}; "
        "give the layout: steps_first for [T,C], channels_first for [C,T]"
    )


def _width(shape: Shape, order: AxisOrder) -> int:
    return shape[1] if order == "steps_first" else shape[0]


def _has_common(lengths: Sequence[int]) -> bool:
    """Whether more than half of the lengths are the same."""
    return 2 * max(Counter(lengths).values()) > len(lengths)


def _most(answers: Iterable[bool]) -> bool:
    given = list(answers)
    return 2 * sum(given) > len(given)


def _near(length: int, expected: float) -> bool:
    return abs(length - expected) <= max(STEPS_TOLERANCE * expected, STEPS_TOLERANCE_MIN)
