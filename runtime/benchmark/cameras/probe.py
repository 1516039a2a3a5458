"""Watch a number of cameras and measure what is lost and how late the rest is."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace

from runtime.benchmark.cameras.load import READING_LAG_S, Load
from runtime.benchmark.looped_camera import LoopedCamera
from runtime.detector import Detector, DetectorOptions
from runtime.engines.base import Engine
from runtime.errors import VideoError
from runtime.live.watcher import Watcher, choose_batch
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import LIVE_CHUNK

POLL_S = 0.25
SHORTEST_S = 30.0
"""Shortest measurement of a number of cameras, seconds."""
PERIODS = 3
"""Strides of the windows that a measurement lasts at least."""
SETTLING = 5
"""Most strides after every camera's first window in which nothing counts: all cameras open at once, and an engine
compiles itself for every size of batch that it has not had. Counting begins earlier if nothing is late any more."""
PATIENCE_S = 60.0
"""Seconds beyond the length of a window after which every camera must have had one."""


def measure_load(engine: Engine, camera: LoopedCamera, cameras: int, seconds: float | None = None) -> Load:
    """Watch a number of cameras and return what was lost and how late it was.

    Counting begins when every camera has had a window and nothing is late any more, or after `SETTLING` strides.

    Args:
        engine: see `find_most_cameras`.
        camera: what every camera sends.
        cameras: number of cameras.
        seconds: length of the measurement; None: three strides, at least 30 s.

    Raises:
        VideoError: a camera gave no window in time, although none is said to be dropped.
    """
    spec = engine.spec
    detector = Detector(engine, options=DetectorOptions(batch_size=choose_batch(cameras, spec)))
    stride_s = spec.window_stride / spec.sample_fps
    lasting = seconds or max(PERIODS * stride_s, SHORTEST_S)
    probe = _Probe(cameras, _allowed_lag(spec), camera, stride_s, lasting)
    watcher = detector.watch([camera.url] * cameras)
    patience = spec.window_length / spec.sample_fps + stride_s + PATIENCE_S
    thread = threading.Thread(target=probe.follow, args=(watcher, patience), daemon=True)
    thread.start()
    with closing(iter(watcher)) as events:  # type: ignore[type-var]  # a generator
        for _ in events:
            pass
    thread.join()
    if probe.load is None:
        raise VideoError(f"{camera.url}: {cameras} cameras gave no window each within {patience:.0f} s")
    return probe.load


def _allowed_lag(spec: ModelSpec) -> float:
    """Return the seconds from a window's last frame to its results within which the next one is not yet complete."""
    if spec.streaming is None:
        return spec.window_stride / spec.sample_fps
    return (spec.streaming.delay + 2 * LIVE_CHUNK) / spec.sample_fps


class _Probe:
    """Follows a watch in a thread of its own, and stops it when enough is known."""

    def __init__(
        self, cameras: int, allowed_lag_s: float, camera: LoopedCamera, stride_s: float, seconds: float
    ) -> None:
        self._cameras, self._allowed_lag_s, self._camera = cameras, allowed_lag_s, camera
        self._stride_s, self._seconds = stride_s, seconds
        self.load: Load | None = None
        """What was measured; None: not every camera had a window in time."""

    def follow(self, watcher: Watcher, patience_s: float) -> None:
        """Wait until the cameras have settled, measure, and stop the watch (the thread's body)."""
        try:
            begun = _Moment.of(watcher, self._camera)
            while (now := _Moment.of(watcher, self._camera)).least_windows == 0:
                if now.seconds - begun.seconds > patience_s:
                    if now.dropped_windows or now.dropped_frames or now.losses:
                        self.load = self._load_between(begun, now)
                    return
                time.sleep(POLL_S)
            self._settle(watcher)
            self._measure(watcher)
        finally:
            watcher.stop()

    def _settle(self, watcher: Watcher) -> None:
        """Wait for two strides, and on until nothing is late or the longest time is over."""
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < SETTLING * self._stride_s:
            now = _Moment.of(watcher, self._camera)
            late = now.lag_s > self._allowed_lag_s or now.reading_lag_s > READING_LAG_S
            if waited >= 2 * self._stride_s and not late:
                return
            time.sleep(POLL_S)

    def _measure(self, watcher: Watcher) -> None:
        """Measure from now on, for as long as it was asked or until something is lost or late."""
        first = _Moment.of(watcher, self._camera)
        latest = replace(first, lag_s=0.0, reading_lag_s=0.0)
        while self.load is None or (self.load.seconds < self._seconds and not self.load.failure):
            time.sleep(POLL_S)
            now = _Moment.of(watcher, self._camera)
            lags = max(latest.lag_s, now.lag_s), max(latest.reading_lag_s, now.reading_lag_s)
            latest = replace(now, lag_s=lags[0], reading_lag_s=lags[1])
            self.load = self._load_between(first, latest)

    def _load_between(self, first: _Moment, last: _Moment) -> Load:
        """Return what happened between two moments; the second has the longest lags since the first."""
        seconds = max(last.seconds - first.seconds, 1e-9)
        return Load(
            cameras=self._cameras,
            seconds=seconds,
            frames=last.frames - first.frames,
            dropped_frames=last.dropped_frames - first.dropped_frames,
            dropped_windows=last.dropped_windows - first.dropped_windows,
            losses=last.losses - first.losses,
            lag_s=last.lag_s,
            allowed_lag_s=self._allowed_lag_s,
            reading_lag_s=last.reading_lag_s,
            busy_cores=(last.cpu_s - first.cpu_s) / seconds,
            camera_cores=(last.camera_cpu_s - first.camera_cpu_s) / seconds,
        )


@dataclass(frozen=True)
class _Moment:
    """Holds the numbers of a watch, sums and maxima over its sources, and of the clocks at one moment."""

    seconds: float
    cpu_s: float
    """CPU time of this process."""
    camera_cpu_s: float
    """CPU time of the process that plays the cameras."""
    frames: int
    dropped_frames: int
    dropped_windows: int
    losses: int
    least_windows: int
    lag_s: float
    reading_lag_s: float

    @classmethod
    def of(cls, watcher: Watcher, camera: LoopedCamera) -> _Moment:
        """Read the numbers as they stand."""
        sources = watcher.numbers().sources
        return cls(
            seconds=time.monotonic(),
            cpu_s=time.process_time(),
            camera_cpu_s=camera.cpu_seconds,
            frames=sum(source.frames for source in sources),
            dropped_frames=sum(source.dropped_frames for source in sources),
            dropped_windows=sum(source.dropped_windows for source in sources),
            losses=sum(source.losses for source in sources),
            least_windows=min(source.windows for source in sources),
            lag_s=max(source.lag_s for source in sources),
            reading_lag_s=max(source.reading_lag_s for source in sources),
        )
