"""Count what became of the videos of a job on Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from runtime.fleet.outcome import Outcome

HOUR_S = 3600.0


@dataclass(frozen=True)
class FailedVideo:
    """Names a video that failed, and why."""

    video: str
    """Name of the video in the results."""
    path: str
    """The video as it was given, without a URL's password."""
    kind: str
    """Type of the error, such as "VideoError"."""
    error: str
    """The error, in one line."""


@dataclass(frozen=True)
class FleetSummary:
    """Says what became of the videos of a job."""

    done: int
    """Number of videos that were worked on to their end."""
    skipped: int
    """Number of videos whose results were there."""
    failures: tuple[FailedVideo, ...]
    video_seconds: float
    """Seconds of video in those that were done."""
    wall_seconds: float
    """Seconds from the start of the job to its end, with the start of the actors."""
    actors: int
    """Number of processes that answered, on all machines."""

    @property
    def videos(self) -> int:
        """Number of videos."""
        return self.done + self.skipped + len(self.failures)

    @property
    def real_time_factor(self) -> float:
        """Hours of video per hour."""
        return self.video_seconds / self.wall_seconds if self.wall_seconds else 0.0

    def __str__(self) -> str:
        parts = [f"{self.done} of {self.videos} videos done"]
        parts += [f"{self.skipped} there already"] if self.skipped else []
        parts += [f"{len(self.failures)} failed"] if self.failures else []
        if self.done:
            parts.append(
                f"{self.video_seconds / HOUR_S:.2f} hours of video in {self.wall_seconds:.1f} s, "
                f"{self.real_time_factor:.1f} hours per hour, by {self.actors} actor{'' if self.actors == 1 else 's'}"
            )
        return "; ".join(parts)


OnVideo = Callable[[str, Outcome], None]
"""Function called with each video, as it is named to people, and what became of it."""


class FleetTally:
    """Counts outcomes while a job runs."""

    def __init__(self, videos: Sequence[tuple[str, str]], on_video: OnVideo | None = None) -> None:
        """Take the videos by their numbers in the job: name in the results, and as they are named to people."""
        self._videos, self._on_video = videos, on_video
        self._began = time.monotonic()
        self._states = {"done": 0, "skipped": 0}
        self._failures: dict[int, FailedVideo] = {}
        self._actors: set[tuple[str, int]] = set()
        self._video_seconds = 0.0

    def count(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """Count each outcome, say it, and yield it."""
        for outcome in outcomes:
            if outcome.process:
                self._actors.add((outcome.host, outcome.process))
            work = outcome.work
            name, label = self._videos[outcome.key]
            if work.failure is not None:
                self._failures[outcome.key] = FailedVideo(name, label, work.failure.kind, work.failure.message)
            else:
                self._states[work.state] += 1
            if work.state == "done":
                self._video_seconds += work.video_seconds
            yield outcome
            if self._on_video is not None:
                self._on_video(label, outcome)

    def summary(self) -> FleetSummary:
        """Return the counts; failures in the order of the videos."""
        failures = tuple(failed for _, failed in sorted(self._failures.items()))
        wall = time.monotonic() - self._began
        return FleetSummary(
            self._states["done"], self._states["skipped"], failures, self._video_seconds, wall, len(self._actors)
        )
