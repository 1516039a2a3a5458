"""Measure the time of a detection run, per stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from runtime.video.prefetch import ReadingTime

T = TypeVar("T")

MS = 1000.0
"""Milliseconds per second."""


@dataclass
class Timing:
    """Holds counts and wall times of one run, updated while it runs.

    The stages add up to nearly the wall time of `run`. Decoding and resizing run in their own thread, so only the time
    that the network had to wait for frames is counted as `wait_ms`; `reading` has the rest.
    """

    sample_fps: float
    """Frames per second that the model sees."""
    expected_frames: int | None = None
    """Number of sampled frames expected from the source's declared length; None if unknown."""
    frames: int = 0
    """Number of sampled frames so far, each counted once."""
    windows: int = 0
    """Number of windows run so far."""
    wait_ms: float = 0.0
    """Time waiting for decoded and resized frames."""
    window_ms: float = 0.0
    """Time of cutting windows and making the inputs of the engine."""
    engine_ms: float = 0.0
    """Time of forward passes, copies included; for an engine that overlaps batches, the host's part and waiting."""
    post_ms: float = 0.0
    """Time of decoding outputs and suppression."""
    write_ms: float = 0.0
    """Time of writing the files of results."""
    reading: ReadingTime = field(default_factory=ReadingTime)
    """What reading the source has taken, in its own thread where it has one."""
    flow_ms: float = 0.0
    """Time of computing optical flow, apart from the stages: flow is computed in the reading thread, so it is
    part of `wait_ms` as far as the network had to wait for it."""
    flow_method: str = ""
    """Method of optical flow; empty if none was computed."""
    settlements: int = 0
    """Number of chains of overlapping candidates that were settled before their end; see
    `DetectorOptions.settle_seconds`."""
    _started: float = field(default_factory=time.perf_counter, repr=False)
    _latest: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def video_seconds(self) -> float:
        """Length of video seen so far, in seconds."""
        return self.frames / self.sample_fps

    @property
    def wall_seconds(self) -> float:
        """Seconds from opening the source to the end of the latest stage, including the time of a stream's consumer."""
        return self._latest - self._started

    @property
    def real_time_factor(self) -> float:
        """Seconds of video per second of wall time; 0 before the first measurement."""
        return self.video_seconds / self.wall_seconds if self.wall_seconds > 0 else 0.0

    @property
    def video_fps(self) -> float:
        """Unique sampled frames per second of wall time."""
        return self.frames / self.wall_seconds if self.wall_seconds > 0 else 0.0

    def next_frame(self, frames: Iterator[T]) -> T | None:
        """Return the next frame, or None at the end, and count the waiting time."""
        start = time.perf_counter()
        frame = next(frames, None)
        self._latest = time.perf_counter()
        self.wait_ms += (self._latest - start) * MS
        self.frames += frame is not None
        return frame

    @contextmanager
    def window(self) -> Iterator[None]:
        """Count the block as cutting windows."""
        start = time.perf_counter()
        yield
        self._latest = time.perf_counter()
        self.window_ms += (self._latest - start) * MS

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Count the block as writing results; it is no part of `wall_seconds`."""
        start = time.perf_counter()
        yield
        self.write_ms += (time.perf_counter() - start) * MS

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
        """Count the block as computing flow; may be called in the reading thread."""
        start = time.perf_counter()
        yield
        self.flow_ms += (time.perf_counter() - start) * MS

    def summary(self) -> str:
        """Return one line: video and wall seconds, × real time, and milliseconds per window of each stage and flow."""
        per_window = max(self.windows, 1)
        flow = f", flow {self.flow_ms / per_window:.1f} ms by {self.flow_method}" if self.flow_method else ""
        settled = f"; {self.settlements} chains settled early" if self.settlements else ""
        windows = "1 window" if self.windows == 1 else f"{self.windows} windows"
        return (
            f"{self.video_seconds:.1f} s of video in {self.wall_seconds:.2f} s "
            f"({self.real_time_factor:.1f}× real time, {self.video_fps:.0f} frames/s); {windows}, each: "
            f"wait {self.wait_ms / per_window:.1f} ms, engine {self.engine_ms / per_window:.1f} ms, "
            f"post {self.post_ms / per_window:.1f} ms{flow}{settled}"
        )
