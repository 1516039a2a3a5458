"""Which axis of feature arrays is time: told by the arrays themselves where they leave no doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from runtime.errors import InputError
from runtime.features.files import Layout

STEPS_TOLERANCE = 0.05
"""Share by which the length of an axis may differ from the steps that the duration lets expect …"""
STEPS_TOLERANCE_MIN = 8.0
"""… or this many steps, whichever is more: extractors treat the ends of videos differently."""


def find_layout(
    shapes: Mapping[str, tuple[int, int]],
    source: str,
    width: int | None = None,
    steps: Mapping[str, float] | None = None,
) -> Layout:
    """The layout of the arrays of one folder.

    The first that decides: one axis alone has the wanted width; one axis alone is the same in most videos, as widths
    are; one axis alone has the length that most videos' durations let expect.

    Args:
        shapes: of the videos' arrays as stored; at least one.
        source: names them in the error.
        width: C that the model takes, where known.
        steps: T that the videos' durations let expect, where known.

    Raises:
        InputError: nothing decides, as with a single square array.
    """
    by_width = [width is not None and _most(shape[axis] == width for shape in shapes.values()) for axis in (0, 1)]
    alike = [len(shapes) > 1 and _has_common([shape[axis] for shape in shapes.values()]) for axis in (0, 1)]
    known = {video: count for video, count in (steps or {}).items() if video in shapes}
    timed = [bool(known) and _most(_near(shapes[v][axis], count) for v, count in known.items()) for axis in (0, 1)]
    for widths in (by_width, alike, [timed[1], timed[0]]):  # where one axis is time, the other is the width
        if widths[0] != widths[1]:
            return "channels_first" if widths[0] else "steps_first"
    video, shape = next(iter(shapes.items()))
    raise InputError(
        f"{source}: cannot tell which axis is time: {video} is {list(shape)}; "
        "say it: layout steps_first for [T,C], channels_first for [C,T]"
    )


def _has_common(lengths: Sequence[int]) -> bool:
    """Whether more than half of them are the same."""
    return 2 * max(Counter(lengths).values()) > len(lengths)


def _most(answers: Iterable[bool]) -> bool:
    given = list(answers)
    return 2 * sum(given) > len(given)


def _near(length: int, expected: float) -> bool:
    return abs(length - expected) <= max(STEPS_TOLERANCE * expected, STEPS_TOLERANCE_MIN)
