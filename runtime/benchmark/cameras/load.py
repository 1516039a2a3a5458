"""Hold what a number of cameras did to the machine, and say whether it carries them."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.common.ranges import Count

READING_LAG_S = 2.0
"""Seconds by which frames may be read late."""


@dataclass(frozen=True)
class Load:
    """Holds what a number of cameras did to the machine."""

    cameras: Count
    seconds: float
    """Length of the measurement, which ends early where something is lost."""
    frames: int
    """Frames that the network's rate asks for and that were read."""
    dropped_frames: int
    dropped_windows: int
    losses: int
    """Cameras that were lost."""
    lag_s: float
    """Longest time from the last frame of a window to its detections."""
    allowed_lag_s: float
    """Longest such time at which nothing piles up."""
    reading_lag_s: float
    """Longest time by which a frame was read late."""
    busy_cores: float
    """CPU time of decoding, network and all else, without that of the cameras themselves, per second."""
    camera_cores: float
    """CPU time of the process that plays the cameras, per second."""

    @property
    def failure(self) -> str:
        """What was lost or too late, in words; empty if the cameras are carried."""
        if self.dropped_windows or self.dropped_frames:
            return f"{self.dropped_windows} windows, {self.dropped_frames} frames dropped"
        if self.losses:
            return f"{self.losses} cameras lost"
        if self.lag_s > self.allowed_lag_s:
            return f"results {self.lag_s:.1f} s late, {self.allowed_lag_s:.1f} s allowed"
        if self.reading_lag_s > READING_LAG_S:
            return f"frames read {self.reading_lag_s:.1f} s late"
        return ""
