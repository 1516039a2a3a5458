"""Hold where the detections of a video come from: the file, the model, the threshold."""

from __future__ import annotations

from dataclasses import dataclass

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
    version: str = ""
    """Release of this project that found the detections."""

    def __post_init__(self) -> None:
        check_ranges(self)
