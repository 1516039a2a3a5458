"""Hold everything that decides the results of a job over many videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.common.ranges import Count, FramesPerSecond, Share, check_ranges
from runtime.detector import DetectorOptions
from runtime.engines.options import EngineOptions
from runtime.spec.model_card import DEFAULT_SCORE

PAGES_FROM = 0.05
"""Lowest score of the detections of a page, which its slider hides at first."""


@dataclass(frozen=True)
class FileOptions:
    """Holds what decides the content of the result files of a video, given its detections."""

    formats: tuple[str, ...] = ("json",)
    """Names of the formats, see `runtime.results.writers.FORMATS`."""
    score: Share = DEFAULT_SCORE
    """Lowest score of the detections in the files but pages, at which the slider of a page begins."""
    lowest: Share = DEFAULT_SCORE
    """Lowest score of the detections in a page."""
    model: str = ""
    """The model as it was given, which the files name."""
    bom: bool = False
    """Begin CSV files with the mark by which Excel knows UTF-8."""
    embed: bool = False
    """Put the video into its page."""
    indexed: bool = False
    """Pages link to an index."""
    tables: tuple[str, ...] = ()
    """Formats of the tables of all videos, see `runtime.jobs.row_tables.ROW_TABLES`."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def describe(self, suffix: str) -> str:
        """Return what decides the content of a file with a suffix such as "csv", in words; equal words, equal files."""
        further = {
            "csv": ["bom"] if self.bom else [],
            "html": [f"from {self.lowest!r}", *["embed"] * self.embed, *["indexed"] * self.indexed],
        }
        return ", ".join([self._content, *further.get(suffix, [])])

    def still_holds(self, suffix: str, described: str) -> bool:
        """Return whether a file that was described so may stay; one that is not asked for needs only its content."""
        return described == self.describe(suffix) if suffix in self.formats else described.startswith(self._content)

    @property
    def _content(self) -> str:
        return f"score {self.score!r} of {self.model!r}"


@dataclass(frozen=True)
class JobSettings:
    """Holds everything that decides the results of a job, and how its engines run; can be sent to other processes."""

    engine: str
    """Path of the model's file."""
    flow_engine: str | None = None
    """Path of the flow model that is fused with an RGB model."""
    backbones: tuple[str, ...] = ()
    """Paths of the backbones of a model on features, in the order of its channels."""
    options: DetectorOptions = field(default_factory=DetectorOptions)
    """Options of the detector. `min_score` is the lowest score that is kept, and the selection is what is shown, also
    where a classifier's scores name the classes."""
    fps: FramesPerSecond | None = None
    """Frames per second of the videos, in place of their time stamps."""
    video_scores: str | None = None
    """File of a classifier's scores of the videos, for a class-agnostic model."""
    labels_per_video: Count = 1
    """Number of best classes of each video."""
    files: FileOptions = field(default_factory=FileOptions)
    """What the files hold."""
    engine_options: EngineOptions = field(default_factory=EngineOptions)
    """How the engines run; results do not depend on it but for `precision` and `provider`."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def selection(self) -> dict[str, Any]:
        """Selection among the detections: arguments of `Detections.select`."""
        options = self.options
        return {"exclusive": options.exclusive, "merge_gap": options.merge_gap, "min_length": options.min_length}

    @property
    def selects(self) -> bool:
        """Whether overlapping, near or short detections are left out."""
        options = self.options
        return options.exclusive != "none" or options.merge_gap is not None or options.min_length > 0

    @property
    def detector_options(self) -> DetectorOptions:
        """Options of the detector itself: labels change the scores, so with them the choice comes after labelling."""
        if self.video_scores is None:
            return self.options
        return replace(self.options, min_score=0.0, exclusive="none", merge_gap=None, min_length=0.0)


def choose_lowest(score: float, formats: Sequence[str], selects: bool) -> float:
    """Return the lowest score of the detections that are needed: pages have weaker ones than are shown at first.

    Args:
        score: lowest score of the detections that are shown.
        formats: formats of the files.
        selects: whether there is a selection among the detections; a page has that of the shown ones, too.
    """
    return min(score, PAGES_FROM) if "html" in formats and not selects else score
