"""Live sources that follow a script on a clock that stands still between their frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import SourceLostError, VideoError
from runtime.live.clock import Clock
from runtime.video.readers.base import Frame, Picture

UNIX = 1_800_000_000.0
"""Unix time at which fake clocks start."""
FPS = 10.0
"""Rate of fake sources: that of the tiny model, so each frame is a sample."""


@dataclass
class FakeTime:
    """Time that passes only when a reader or a waiting thread says so."""

    seconds: float = 100.0
    slept: list[float] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, lambda: UNIX + self.seconds - 100, self._sleep)

    def _sleep(self, event: threading.Event, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@dataclass(frozen=True)
class Shot:
    """A frame of a fake source."""

    image: Frame
    stamp: float
    """Seconds on the clock of the connection."""
    arrives: float
    """Seconds after the frame before at which it arrives."""
    restarts: int = 0
    """How often time stamps have begun anew."""


def shots(images: Iterable[Frame], *, stamp: float = 0.0, restarts: int = 0, first: float = 1 / FPS) -> list[Shot]:
    """Frames every 1 / FPS seconds, the first after `first` seconds."""
    return [Shot(image, stamp + k / FPS, first if k == 0 else 1 / FPS, restarts) for k, image in enumerate(images)]


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Frames of the tiny model's crop size whose brightness changes at random."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, count)
    return np.broadcast_to(levels[:, None, None, None], (count, 8, 10, 3)).astype(np.uint8)


class FakeReader:
    """A connection that gives shots, then ends as `end` says: by an error, or by waiting until it is told otherwise."""

    name = label = "fake"
    fps: float | None = FPS
    count: int | None = None
    duration: float | None = None
    endless = False
    longest_jump = 0.0
    timed = True
    background = False

    def __init__(self, script: Iterable[Shot], time: FakeTime, end: VideoError | threading.Event | None = None) -> None:
        self._script: Iterator[Shot] = iter(script)
        self._time, self._last = time, end
        self.time = self.end = 0.0
        self.restarts = 0
        self.closed = False
        self.exhausted = threading.Event()
        """Set when all shots have been used."""
        self._shot: Shot | None = None

    def grab(self) -> bool:
        self._shot = next(self._script, None)
        if self._shot is None:
            self.exhausted.set()
            if isinstance(self._last, threading.Event):
                self._last.wait(20)
            if isinstance(self._last, VideoError):
                raise type(self._last)(*self._last.args)  # a new one, since each raise adds to its traceback
            return False
        self._time.seconds += self._shot.arrives
        self.restarts = self._shot.restarts
        self.time, self.end = self._shot.stamp, self._shot.stamp + 1 / (self.fps or FPS)
        return True

    def hold(self) -> Picture:
        assert self._shot is not None
        image = self._shot.image
        return lambda: image

    def scan(self) -> tuple[int, float] | None:
        return None

    def shortfall(self) -> str | None:
        return None

    def close(self) -> None:
        self.closed = True


class Connections:
    """What `open_source` gives in turn: a reader, an error to raise, or a function that is called first."""

    def __init__(self, *steps: FakeReader | VideoError) -> None:
        self._steps = list(steps)
        self.opened = 0
        self.exhausted: Callable[[], Any] = lambda: None
        """Called when there are no more."""

    def __call__(self, source: str | int) -> FakeReader:
        self.opened += 1
        if not self._steps:
            self.exhausted()
            raise SourceLostError("no more connections")
        step = self._steps.pop(0)
        if isinstance(step, VideoError):
            raise step
        return step
