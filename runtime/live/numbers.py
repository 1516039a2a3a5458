"""Hold the numbers of a watch at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SourceNumbers:
    """Holds the numbers of one source since the watch began."""

    name: str
    live: bool
    """Whether it has no end; else it is a file, which is read once."""
    up: bool
    """Whether frames come."""
    frames: int
    """Sampled frames that were read."""
    windows: int
    """Windows that were looked at."""
    dropped_frames: int
    """Frames that the network did not see."""
    dropped_windows: int
    """Windows left out."""
    gaps: int
    """Gaps in a live source."""
    losses: int
    """Times that a live source was lost."""
    reconnects: int
    """Times that a lost source came back."""
    open_failures: int
    """Failed attempts to open it."""
    settlements: int
    """Chains of overlapping candidates settled before their end."""
    lag_s: float
    """Seconds from the last frame of the newest window to its results."""
    reading_lag_s: float
    """Seconds by which the newest frame came late."""
    detections: Mapping[str, int]
    """Detections given out, by class; every class of the model is there."""


@dataclass(frozen=True)
class WatchNumbers:
    """Holds the numbers of a watch."""

    sources: tuple[SourceNumbers, ...]
    stage_s: Mapping[str, float]
    """Seconds spent over all sources, by stage: read, of it flow; engine; post."""
    healthy: bool
    """Whether the engine's loop turns and a source is well (`Watcher.health`)."""
    loop_age_s: float
    """Seconds since the engine's loop last turned."""
