"""Hold the options of a watch."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.common.arguments import require_rate
from runtime.errors import InputError


@dataclass(frozen=True)
class WatchOptions:
    """Holds the options of a watch; those of detection are the detector's."""

    stall_seconds: float = 5.0
    """Longest silence of a stream in seconds, after which the source is lost and opened again."""
    gap_seconds: float = 1.0
    """Jump of a live source's time stamps in seconds from which on frames count as missing; above the time between two
    frames of the slowest camera."""
    retry_seconds: float = 30.0
    """Longest time in seconds between two attempts to open a lost source; the first come sooner."""
    fps: float | None = None
    """Frames per second of files, in place of their time stamps."""

    def __post_init__(self) -> None:
        for name in ("stall_seconds", "gap_seconds", "retry_seconds"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and 0 < value < float("inf")):
                raise InputError(f"{name}: got {value!r}, expected a number of seconds above 0")
        require_rate("fps", self.fps)
