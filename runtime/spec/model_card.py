"""Define what a model says of itself to people: what it was trained on, how good it is, which score to trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from runtime.common.ranges import Number, Range, Share, check_ranges
from runtime.errors import InputError

DEFAULT_SCORE = 0.5
"""Score from which on detections are shown to people where no operating point is known."""


@dataclass(frozen=True)
class ModelCard:
    """Describes a model to the people who use it; what nobody has said is empty."""

    data: str = ""
    """Data set that the weights were trained on."""
    trained: str = ""
    """Day on which training ended, YYYY-MM-DD."""
    licence: str = ""
    """Licence of the weights, an SPDX identifier if there is one."""
    demonstration: str = ""
    """What a demonstration model knows, in a few words: it says so where it is run. Empty: no demonstration model."""
    note: str = ""
    """Anything else, such as what the model is not good at."""
    average_map: Share | None = None
    """Mean of the mAP over `tious`, as it was measured on `judged_on`."""
    tious: tuple[Share, ...] = ()
    """tIoU thresholds of `average_map`."""
    judged_on: str = ""
    """Data set and subset on which `average_map` was measured."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class OperatingPoint:
    """Holds the score from which on a model's detections are shown, and what they are worth, as measured."""

    threshold: Share
    """Lowest score of a detection that is shown."""
    tiou: Annotated[float, Range(0, 1, above=True)]
    """tIoU from which on a detection is right."""
    precision: Share
    """Share of the shown detections that are right."""
    recall: Share
    """Share of the instances that are found."""
    instances: Number
    """Number of instances that it was measured on."""
    judged_on: str = ""
    """Data set and subset of the instances."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.instances:
            raise InputError("instances: got 0, expected an operating point that was measured on some")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def __str__(self) -> str:
        return (
            f"score {self.threshold:g}: precision {self.precision:.2f}, recall {self.recall:.2f} at tIoU {self.tiou:g}"
        )
