"""Keep the runs of `afsd watch` on one video apart, each of which counts its seconds from its own start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from runtime.exchange.record import Segment
from runtime.results.facts import VideoFacts


@dataclass(eq=False)
class Run:
    """Holds what one run has found."""

    segments: dict[Segment, None] = field(default_factory=dict)
    """The detections, each once, in their order."""
    facts: VideoFacts = field(default_factory=VideoFacts)
    """What it says of itself and of the video."""
    start: datetime | None = None
    """Time of day of second 0; None: not known."""
    file: str | None = None
    """Path of the video if it is a file, whose seconds are the same in every run; None: it is live, or not known."""


class Runs:
    """Holds the runs on one video; the lines before any start are of a run that says nothing of itself."""

    def __init__(self) -> None:
        self._runs = [Run()]
        self.current = self._runs[0]
        """The run that lines are of."""
        self.replaced = 0
        """Number of runs on a file that a later one on the same file took the place of."""
        self.twice = 0
        """Number of detections that a run had already."""

    def add(self, segment: Segment) -> None:
        """Add a detection to the current run."""
        self.twice += segment in self.current.segments
        self.current.segments[segment] = None

    def start(self, facts: VideoFacts, entry: Mapping[str, Any]) -> None:
        """Begin a run with what its event `started` says; a further run on the same file takes the former's place."""
        source = entry.get("source")
        is_file = isinstance(source, str) and entry.get("utc", "") is None
        begun = Run(facts=facts, start=_moment(entry.get("utc")), file=source if is_file else None)
        former = [run for run in self._runs if is_file and run.file == source]
        self.replaced += sum(bool(run.segments) for run in former)
        self._runs = [run for run in self._runs if run not in former]
        self.current = begun
        self._runs.append(begun)

    def named(self, name: str, taken: set[str]) -> dict[str, Run]:
        """Return the runs with detections by names of videos, and add these to those that are taken.

        The first has the video's name, a further one the time of its start behind it, "cam-2026-11-30T12-00-05Z", or
        its number, "cam-run-2". Without any detection the last run stands for all.
        """
        found: dict[str, Run] = {}
        for number, run in enumerate([run for run in self._runs if run.segments] or self._runs[-1:], 1):
            shown = name
            if number > 1:
                shown = f"{name}-{f'{run.start:%Y-%m-%dT%H-%M-%SZ}' if run.start else f'run-{number}'}"
                beginning, again = shown, 2
                while shown in taken:
                    shown, again = f"{beginning}-{again}", again + 1
                taken.add(shown)
            found[shown] = run
        return found


def _moment(text: object) -> datetime | None:
    """Return a time of day of ISO 8601 in UTC; None for anything else."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None
