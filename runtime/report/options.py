"""Hold the options of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, get_args

from runtime.common.choices import require_choice
from runtime.common.ranges import Range, Share, check_ranges
from runtime.evaluation.matching import Rule
from runtime.spec.model_card import DEFAULT_SCORE

LARGEST_STRIP = 60
"""Most thumbnails of a page."""


@dataclass(frozen=True)
class ReportOptions:
    """Holds the options of the pages of a report."""

    threshold: Share = DEFAULT_SCORE
    """Score at which the slider of a page begins, and at which an index counts."""
    tiou: Annotated[float, Range(0.1, 1, above=True)] = 0.5
    """tIoU from which on a detection finds a true action."""
    rule: Rule = "activitynet"
    """Rule of matching for the figures of an evaluation. Pages of videos match by ActivityNet's, whose hits above a
    score do not depend on the detections below it."""
    embed: bool = False
    """Put the video into its page, which then can be passed on alone; False: link to it."""
    thumbnails: Annotated[int, Range(0, LARGEST_STRIP)] = 16
    """Number of frames of the video above its timeline."""
    model: str = ""
    """Name of the model, for the head of the page."""

    def __post_init__(self) -> None:
        check_ranges(self)
        require_choice("rule", self.rule, get_args(Rule))
