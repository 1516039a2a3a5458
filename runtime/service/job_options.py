"""Hold what a client may choose for its job, and read it from a query, a form or JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from runtime.common.mappings import StructureError, from_mapping
from runtime.common.ranges import FramesPerSecond, Length, Share, check_ranges
from runtime.common.text import quote
from runtime.errors import InputError
from runtime.suppression.selection import EXCLUSIVE, Exclusive

WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
"""Words of a query for yes and no."""


@dataclass(frozen=True)
class JobOptions:
    """Holds the options of one job; they mean what the flags of `afsd detect` mean."""

    score: Share | None = None
    """Lowest score of a detection; None: the service's."""
    exclusive: Exclusive = "none"
    """Detections that may not overlap: those of one "class", or "all"."""
    merge_gap: Length | None = None
    """Longest gap in seconds between two detections of a class that become one."""
    min_length: Length = 0.0
    """Shortest detection in seconds."""
    fps: FramesPerSecond | None = None
    """Frames per second of the video, in place of its time stamps."""
    allow_truncated: bool = False
    """Whether a file that ends early is read as far as possible."""
    preview: bool = False
    """Whether a video that browsers do not play gets a small copy that they do, for the report."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.exclusive not in EXCLUSIVE:
            raise InputError(f"exclusive: got {quote(self.exclusive)}, expected one of {', '.join(EXCLUSIVE)}")

    @property
    def selects(self) -> bool:
        """Whether detections are chosen by more than their scores."""
        return self.exclusive != "none" or self.merge_gap is not None or self.min_length > 0


def read_options(values: Mapping[str, Any], beside: Collection[str] = ("name",)) -> JobOptions:
    """Return the options in a mapping of JSON's values.

    Args:
        values: the values by the names of the options.
        beside: what else a client may say there, which an error names, too; it is not among `values`.

    Raises:
        InputError: an unknown option, or a value of the wrong type or range.
    """
    known = {field.name for field in dataclasses.fields(JobOptions)}
    for name in values:
        if name not in known:
            raise InputError(f"{name}: unknown key; expected one of {', '.join(sorted({*known, *beside}))}")
    try:
        return from_mapping(JobOptions, values)
    except StructureError as error:
        raise InputError(str(error).removeprefix("JobOptions: ")) from None


def read_words(values: Mapping[str, str], beside: Collection[str] = ("name",)) -> JobOptions:
    """Return the options in a query or form, whose values are text; arguments and errors as in `read_options`."""
    hints = get_type_hints(JobOptions)
    return read_options(
        {name: _value(name, text, hints[name]) if name in hints else text for name, text in values.items()}, beside
    )


def _value(name: str, text: str, hint: Any) -> Any:
    if hint is bool:
        if text.lower() not in WORDS:
            raise InputError(f"{name}: got {quote(text)}, expected true or false")
        return WORDS[text.lower()]
    if name == "exclusive":
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{name}: got {quote(text)}, expected a number") from None
