"""Hold the options of a watch."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.common.ranges import FramesPerSecond, Seconds, check_ranges


@dataclass(frozen=True)
class WatchOptions:
    """Holds the options of a watch; those of detection are the detector's."""

    stall_seconds: Seconds = 5.0
    """Longest silence of a stream in seconds, after which the source is lost and opened again."""
    gap_seconds: Seconds = 1.0
    """Jump of a live source's time stamps in seconds from which on frames count as missing; above the time between two
    frames of the slowest camera."""
    retry_seconds: Seconds = 30.0
    """Longest time in seconds between two attempts to open a lost source; the first come sooner."""
    fps: FramesPerSecond | None = None
    """Frames per second of files, in place of their time stamps."""

    def __post_init__(self) -> None:
        check_ranges(self)
