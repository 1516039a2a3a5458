"""Where the time of a detection run goes, per stage, as users compare it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

MS = 1000.0
"""Milliseconds per second."""


@dataclass
class Timing:
    """Counts and wall times of one run; grows while the run goes.

    The three stages add up to nearly the wall time of `run`. Decoding and resizing have a thread of their own, so
    only the time that the network had to wait for frames is counted as `wait`.
    """

    sample_fps: float
    """Frames per second the model sees."""
    expected_frames: int | None = None
    """Sampled frames the source declares to hold; None when unknown."""
    frames: int = 0
    """Sampled frames so far, each counted once."""
    windows: int = 0
    """Windows run so far."""
    wait_ms: float = 0.0
    """Waiting for decoded and resized frames."""
    engine_ms: float = 0.0
    """Forward passes, copies included; of an engine that works beside the host, what the host spent and waited."""
    post_ms: float = 0.0
    """Decoding of outputs and suppression."""
    flow_ms: float = 0.0
    """Computing optical flow. Beside the three stages: it is done where frames are decoded, so it is part of `wait`
    as far as the network had to wait for it."""
    flow_method: str = ""
    """How the flow was computed; empty when it was not."""
    _started: float = field(default_factory=time.perf_counter, repr=False)
    _latest: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def video_seconds(self) -> float:
        """Length of video seen so far, in seconds."""
        return self.frames / self.sample_fps

    @property
    def wall_seconds(self) -> float:
        """From opening the source to the end of the latest stage, in seconds; includes what the consumer of a stream
        did in between."""
        return self._latest - self._started

    @property
    def real_time_factor(self) -> float:
        """Seconds of video per second of wall time; 0 before anything was measured."""
        return self.video_seconds / self.wall_seconds if self.wall_seconds > 0 else 0.0

    @property
    def video_fps(self) -> float:
        """Unique sampled frames per second of wall time."""
        return self.frames / self.wall_seconds if self.wall_seconds > 0 else 0.0

    def next_frame(self, frames: Iterator[T]) -> T | None:
        """The next frame, or None at the end; the wait is counted."""
        start = time.perf_counter()
        frame = next(frames, None)
        self._latest = time.perf_counter()
        self.wait_ms += (self._latest - start) * MS
        self.frames += frame is not None
        return frame

    @contextmanager
    def engine(self) -> Iterator[None]:
        """Count the block as engine time."""
        start = time.perf_counter()
        yield
        self._latest = time.perf_counter()
        self.engine_ms += (self._latest - start) * MS

    @contextmanager
    def post(self) -> Iterator[None]:
        """Count the block as decoding and suppression."""
        start = time.perf_counter()
        yield
        self._latest = time.perf_counter()
        self.post_ms += (self._latest - start) * MS

    @contextmanager
    def flow(self) -> Iterator[None]:
        """Count the block as computing flow; it may run in the reading thread."""
        start = time.perf_counter()
        yield
        self.flow_ms += (time.perf_counter() - start) * MS

    def summary(self) -> str:
        """One line: video and wall seconds, × real time, and milliseconds per window of each stage (and of flow)."""
        per_window = max(self.windows, 1)
        flow = f", flow {self.flow_ms / per_window:.1f} ms by {self.flow_method}" if self.flow_method else ""
        return (
            f"{self.video_seconds:.1f} s of video in {self.wall_seconds:.2f} s "
            f"({self.real_time_factor:.1f}× real time, {self.video_fps:.0f} frames/s); {self.windows} windows, each: "
            f"wait {self.wait_ms / per_window:.1f} ms, engine {self.engine_ms / per_window:.1f} ms, "
            f"post {self.post_ms / per_window:.1f} ms{flow}"
        )
