"""Hold where the detections of a video come from: the file, the model, the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.common.mappings import to_mapping
from runtime.common.ranges import FramesPerSecond, Length, Share, check_ranges


@dataclass(frozen=True)
class VideoFacts:
    """Holds where the detections of a video come from; what is not known is empty or None."""

    path: str = ""
    """The video as it was given, without a URL's password."""
    duration_s: Length | None = None
    """Length of the video in seconds, as far as it was read."""
    fps: FramesPerSecond | None = None
    """Frames per second of the video."""
    model: str = ""
    """File of the model, or its name."""
    threshold: Share | None = None
    """Score that all detections reach; None: none was asked for."""
    exclusive: str = ""
    """Detections of which none overlap: those of a "class", or "all"; empty: any may."""
    merge_gap: Length | None = None
    """Longest gap in seconds between two detections of a class that were made one; None: none were."""
    min_length: Length | None = None
    """Length in seconds below which detections were left out; None: none were."""
    version: str = ""
    """Release of this project that found the detections."""

    def __post_init__(self) -> None:
        check_ranges(self)


def known_facts(facts: VideoFacts) -> dict[str, Any]:
    """Return what is known, by name, as JSON has it."""
    return {key: value for key, value in to_mapping(facts).items() if value not in ("", None)}


def selection_facts(exclusive: str = "none", merge_gap: float | None = None, min_length: float = 0.0) -> dict[str, Any]:
    """Return the fields of `VideoFacts` for a selection, whose arguments are those of `Detections.select`."""
    return {
        "exclusive": "" if exclusive == "none" else exclusive,
        "merge_gap": merge_gap,
        "min_length": min_length or None,
    }
