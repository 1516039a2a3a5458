"""Define what happens while sources are watched; each event is one JSON object on a line."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar

Span = tuple[float, float]
"""Start and end."""


@dataclass(frozen=True)
class Event:
    """Holds what all events have."""

    kind: ClassVar[str]
    """Value of "event" in JSON."""
    video: str
    """Name of the source."""
    at: float
    """Unix time at which this was noticed."""

    def to_dict(self) -> dict[str, Any]:
        """Return the event as JSON takes it, with times of day as ISO 8601 in UTC."""
        entry: dict[str, Any] = {"event": self.kind, "video": self.video}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "utc":
                value = (
                    [iso_time(moment) for moment in value] if isinstance(value, tuple) else value and iso_time(value)
                )
            entry.setdefault(field.name, list(value) if isinstance(value, tuple) else value)
        entry["at"] = iso_time(entry.pop("at"))
        return entry

    def to_json(self) -> str:
        """Return the event as one line of JSON, without its end."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


@dataclass(frozen=True)
class Started(Event):
    """Reports the first frame of a source, and what looks at it."""

    kind = "started"
    source: str
    """Path or address, without password and query."""
    utc: float | None
    """Unix time of second 0; None for a file."""
    model: str
    """File of the model; empty for an engine that was loaded otherwise."""
    threshold: float
    """Score that all detections reach."""
    version: str
    """Release of this project."""
    exclusive: str = ""
    """Detections of which none overlap: those of a "class", or "all"; empty: any may."""
    merge_gap: float | None = None
    """Longest gap in seconds between two detections of a class that are made one; None: none are."""
    min_length: float | None = None
    """Length in seconds below which detections are left out; None: none are."""


@dataclass(frozen=True)
class Detected(Event):
    """Reports a detection that is final."""

    kind = "detection"
    label: str
    score: float
    segment: Span
    """Start and end in seconds from the first frame of the source."""
    utc: Span | None
    """Unix times of start and end; None for a file."""


@dataclass(frozen=True)
class Gap(Event):
    """Reports frames that are missing in a live source; no detection reaches over them."""

    kind = "gap"
    segment: Span
    """Start and end in seconds from the first frame of the source."""
    utc: Span
    """Unix times of start and end."""
    reason: str


@dataclass(frozen=True)
class Lost(Event):
    """Reports a live source that broke off, fell silent, or cannot be opened; reported once until it is back."""

    kind = "lost"
    seconds: float
    """Seconds from the first frame of the source to the end of what was read."""
    reason: str
    retry_s: float
    """Seconds until the first attempt to open it again."""


@dataclass(frozen=True)
class Reconnected(Event):
    """Reports the first frame of a source that was lost."""

    kind = "reconnected"
    attempts: int
    """Number of attempts until the source was back."""
    lost_s: float
    """Seconds since the source was lost."""


@dataclass(frozen=True)
class Dropped(Event):
    """Reports windows or frames of a live source that were not looked at, because the machine is too slow."""

    kind = "dropped"
    windows: int
    """Number of windows; 0 for a streaming network, which drops frames and begins a new state behind them."""
    frames: int
    """Number of sampled frames that the network did not see; 0 if each was seen in another window."""
    segment: Span
    """Start of the first and end of the last of them, in seconds from the first frame of the source."""
    utc: Span
    """Unix times of start and end."""


@dataclass(frozen=True)
class Ended(Event):
    """Reports the end of a file."""

    kind = "ended"
    seconds: float
    """Seconds that were read."""


@dataclass(frozen=True)
class Failed(Event):
    """Reports a source that cannot be read, or read on, and is given up."""

    kind = "failed"
    seconds: float
    """Seconds that were read."""
    reason: str


@dataclass(frozen=True)
class Stopped(Event):
    """Reports that the watch was ended while a source went on."""

    kind = "stopped"
    seconds: float
    """Seconds of the source in which detections were looked for."""


def iso_time(unix: float) -> str:
    """Return a Unix time as ISO 8601 in UTC, to the millisecond, as in 2026-01-31T23:59:59.123Z."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
