"""Show how far a job is, in hours of video, and when it will be done."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from runtime.common.children import end_with_parent
from runtime.common.console import ProgressLine, shows_progress
from runtime.common.log import LOGGER
from runtime.jobs.plan import VideoJob

HOUR_S = 3600.0
SHOW_S = 0.2
"""Seconds between two changes of the line."""
LOG_S = 600.0
"""Seconds between two lines of the log, with -v where no terminal shows the line."""
FIRST_S = 5.0
"""Seconds of work before a time to go is named."""


class Durations:
    """Estimates the lengths of videos: what their containers say, else by their sizes and the others' lengths per byte.

    The containers are looked at in a process of their own, since a damaged one can end a process.
    """

    def __init__(self, jobs: Sequence[VideoJob], *, probe: bool = True) -> None:
        """Look at the sizes, and begin to look at the containers.

        Args:
            jobs: the videos.
            probe: whether containers are looked at.
        """
        self._bytes: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        paths: list[tuple[str, str]] = []
        for job in jobs:
            if (file := job.file) is not None:
                with suppress(OSError):
                    self._bytes[job.name] = file.stat().st_size
                    paths.append((job.name, str(file)))
        self._connection: Connection[Any, Any] | None = None
        if probe and paths:
            context = multiprocessing.get_context("spawn")
            self._connection, other = context.Pipe(duplex=False)
            self._process = context.Process(target=_probe, args=(other, paths), name="afsd-durations", daemon=True)
            self._process.start()
            other.close()

    def set(self, name: str, seconds: float) -> None:
        """Take the length of a video that was read."""
        self._seconds[name] = seconds

    def of(self, name: str) -> float | None:
        """Return the length of a video in seconds, known or estimated; None: nothing is known of any."""
        return self.total([name])

    def total(self, names: Sequence[str]) -> float | None:
        """Return the length of several videos in seconds; None: nothing is known of any."""
        self._take()
        if not self._seconds:
            return None
        mean = sum(self._seconds.values()) / len(self._seconds)
        measured = [name for name in self._seconds if name in self._bytes]
        size = sum(self._bytes[name] for name in measured)
        rate = sum(self._seconds[name] for name in measured) / size if size else 0.0
        return sum(
            self._seconds[name] if name in self._seconds else rate * self._bytes[name] if name in self._bytes else mean
            for name in names
        )

    def close(self) -> None:
        """End the process that looks at containers."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._process.kill()
            self._process.join()

    def _take(self) -> None:
        """Take what the process has found meanwhile."""
        with suppress(EOFError, OSError):
            while self._connection is not None and self._connection.poll():
                name, seconds = self._connection.recv()
                self._seconds.setdefault(name, seconds)


def _probe(connection: Connection[Any, Any], paths: Sequence[tuple[str, str]]) -> None:
    """Send the declared lengths of videos, as far as their containers have them (a process's body)."""
    end_with_parent()
    try:
        import av
    except ImportError:
        return
    for name, path in paths:
        with suppress(Exception), av.open(f"file:{path}") as container:
            if container.duration:
                connection.send((name, container.duration / av.time_base))


class JobProgress:
    """Shows one line for a whole job on a terminal; elsewhere it is logged every ten minutes at the level INFO."""

    def __init__(self, jobs: Sequence[VideoJob], skipped: int = 0) -> None:
        """Begin.

        Args:
            jobs: the videos that are to be done.
            skipped: number of those that were done before.
        """
        self._visible = shows_progress()
        self._logged = not self._visible and LOGGER.isEnabledFor(logging.INFO)
        self._line = ProgressLine()
        self._names = [job.name for job in jobs]
        self._durations = Durations(jobs, probe=len(jobs) > 1) if self.is_shown else None
        self._began = time.monotonic()
        self._shown = self._began if self._logged else 0.0
        self._seen: dict[str, float] = {}
        """Seconds seen of the videos in work."""
        self._ended: set[str] = set()
        self._seconds = 0.0
        self._skipped = skipped
        self._total: float | None = None

    @property
    def is_shown(self) -> bool:
        """Whether anybody sees it."""
        return self._visible or self._logged

    def advance(self, job: VideoJob, seconds: float) -> None:
        """Take how much of a video was seen so far."""
        self._seen[job.name] = seconds
        self._show()

    def end(self, job: VideoJob, seconds: float | None) -> None:
        """Take that a video is done, and its length; None: it failed."""
        self._seen.pop(job.name, None)
        self._ended.add(job.name)
        self._seconds += seconds or 0.0
        if self._durations is not None and seconds is not None:
            self._durations.set(job.name, seconds)
        self._show()

    def clear(self) -> None:
        """Remove the line, before something else is printed."""
        self._line.clear()

    def close(self) -> None:
        """Remove the line for good."""
        self._line.clear()
        if self._durations is not None:
            self._durations.close()

    def text(self, now: float) -> str:
        """Return the line."""
        done, passed = len(self._ended), now - self._began
        seen = self._seconds + sum(self._seen.values())
        speed = seen / passed if passed > 0 else 0.0
        parts = [f"{done + self._skipped} of {len(self._names) + self._skipped} videos"]
        assert self._durations is not None
        left = self._left()
        if left is None:
            parts.append(f"{hours(seen, seen)} h of video")
        else:
            parts.append(f"{hours(seen, seen + left)} of {hours(seen + left, seen + left)} h of video")
        parts.append(f"{speed:.1f}× real time")
        if left is not None and speed > 0 and passed >= FIRST_S:
            parts.append(f"{duration(left / speed)} to go")
        if len(self._seen) == 1:
            ((name, part),) = self._seen.items()
            whole = self._durations.of(name)
            parts.append(f"{name} {min(part / whole, 1):.0%}" if whole else f"{name} {part:.0f} s")
        return ", ".join(parts)

    def _left(self) -> float | None:
        """Return the seconds of video that are still to be seen; None: not known."""
        assert self._durations is not None
        rest = self._durations.total([name for name in self._names if name not in self._ended])
        return None if rest is None else max(rest - sum(self._seen.values()), 0.0)

    def _show(self) -> None:
        now = time.monotonic()
        if self._visible and now - self._shown >= SHOW_S:
            self._shown = now
            self._line.show(self.text(now))
        elif self._logged and now - self._shown >= LOG_S:
            self._shown = now
            LOGGER.info("%s", self.text(now))


def hours(seconds: float, whole: float) -> str:
    """Return a length of video in hours, with digits enough for a part of `whole` seconds."""
    digits = 1 if whole >= 10 * HOUR_S else 2 if whole >= HOUR_S else 3
    return f"{seconds / HOUR_S:.{digits}f}"


def duration(seconds: float) -> str:
    """Return a time to wait in words: "2 h 10 min", "7 min", "20 s"."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
