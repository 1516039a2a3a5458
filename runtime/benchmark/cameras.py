"""Find how many live sources one machine carries: cameras are added until frames are lost or come too late.

Every camera sends the same video at its own speed (`runtime.benchmark.looped_camera`), and `runtime.live` watches them
all with one engine, as `afsd watch` does. A number of cameras is *carried* if, for as long as it is measured, no frame
and no window is dropped, no camera is lost, every frame is read at most `READING_LAG_S` late, and every window, or
chunk of a streaming network, is done before the next one of its camera is complete. So nothing piles up, however long
it goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from runtime.benchmark.looped_camera import LoopedCamera, serve_looped
from runtime.common.processors import usable_cores
from runtime.common.ranges import Count, require_in_range
from runtime.common.tables import align
from runtime.detector import Detector, DetectorOptions
from runtime.engines.base import Engine
from runtime.errors import VideoError
from runtime.live.watcher import Watcher, choose_batch
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import LIVE_CHUNK

READING_LAG_S = 2.0
"""Seconds by which frames may be read late."""
MOST_CAMERAS = 512
"""Number of cameras at which the search ends."""
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

Say = Callable[[str], None]
"""Function called with progress messages."""


@dataclass(frozen=True)
class Load:
    """Holds what a number of cameras did to the machine."""

    cameras: Count
    seconds: float
    """Length of the measurement, which ends early where something is lost."""
    frames: int
    """Frames that the network's rate asks for and that were read."""
    dropped_frames: int
    dropped_windows: int
    losses: int
    """Cameras that were lost."""
    lag_s: float
    """Longest time from the last frame of a window to its detections."""
    allowed_lag_s: float
    """Longest such time at which nothing piles up."""
    reading_lag_s: float
    """Longest time by which a frame was read late."""
    busy_cores: float
    """CPU time of decoding, network and all else, without that of the cameras themselves, per second."""
    camera_cores: float
    """CPU time of the process that plays the cameras, per second."""

    @property
    def failure(self) -> str:
        """What was lost or too late, in words; empty if the cameras are carried."""
        if self.dropped_windows or self.dropped_frames:
            return f"{self.dropped_windows} windows, {self.dropped_frames} frames dropped"
        if self.losses:
            return f"{self.losses} cameras lost"
        if self.lag_s > self.allowed_lag_s:
            return f"results {self.lag_s:.1f} s late, {self.allowed_lag_s:.1f} s allowed"
        if self.reading_lag_s > READING_LAG_S:
            return f"frames read {self.reading_lag_s:.1f} s late"
        return ""


@dataclass
class CameraReport:
    """Holds the loads of one engine, in the order in which they were tried."""

    name: str
    video: str
    library: str
    precision: str
    sample_fps: float
    loads: list[Load] = field(default_factory=list)

    @property
    def carried(self) -> int:
        """Largest number of cameras that were carried; 0: not even one."""
        return max((load.cameras for load in self.loads if not load.failure), default=0)

    @property
    def bounded(self) -> bool:
        """Whether a larger number was tried that is not carried."""
        return any(load.failure and load.cameras > self.carried for load in self.loads)


def find_most_cameras(
    name: str, engine: Engine, video: str, *, first: int | None = None, say: Say = lambda _: None
) -> CameraReport:
    """Find how many cameras that send a video one engine carries on this machine.

    Args:
        name: name of the engine in the report.
        engine: a model on frames, on windows or streaming; best opened for latency, as for live sources.
        video: file that every camera sends over and over.
        first: number of cameras to begin with; None: 4, from whose CPU time the next number is guessed.
        say: called with each number's outcome.

    Raises:
        InputError: the model is not for live sources, or `first` is below 1.
        VideoError: the video cannot be sent.
    """
    require_in_range("first", 4 if first is None else first, Count)
    report = CameraReport(name, video, engine.library, engine.precision, engine.spec.sample_fps)
    low, high, cameras = 0, MOST_CAMERAS + 1, min(first or 4, MOST_CAMERAS)
    with serve_looped(video) as camera:
        while high - low > max(1, low // 20):
            load = measure_load(engine, camera, cameras)
            report.loads.append(load)
            say(f"{name}: {cameras} cameras {'carried' if not load.failure else 'not carried: ' + load.failure}")
            if load.failure:
                high = cameras
            else:
                low = cameras
            cameras = next_number(low, high, load)
    return report


def next_number(low: int, high: int, load: Load) -> int:
    """Return the number of cameras to try next, between one that is carried and one that is not.

    Without one that is not, the cores that are still idle say how many more there may be: at least a quarter more, at
    most four times as many.
    """
    if high > MOST_CAMERAS and not load.failure:
        share = usable_cores() / max(load.busy_cores + load.camera_cores, 1e-3)
        return min(max(int(low * min(share, 4.0)), low + 1, low * 5 // 4), MOST_CAMERAS)
    return (low + high) // 2


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


def format_cameras(report: CameraReport) -> str:
    """Return a report as text: a line that says the number, and a table of what was tried."""
    rows = [["cameras", "carried", "lag s", "read late s", "busy cores", "cameras' own"]]
    for load in sorted(report.loads, key=lambda load: load.cameras):
        rows.append(
            [
                str(load.cameras),
                f"no: {load.failure}" if load.failure else "yes",
                f"{load.lag_s:.1f}",
                f"{load.reading_lag_s:.1f}",
                f"{load.busy_cores:.2f}",
                f"{load.camera_cores:.2f}",
            ]
        )
    end = "" if report.bounded else ", and maybe more"
    head = (
        f"{report.name} ({report.library}, {report.precision}): {report.carried} cameras of {report.video}, "
        f"each sampled at {report.sample_fps:g} frames per second{end}"
    )
    return f"{head}\n{align(rows, 'rlrrrr', indent=2)}"


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
            given_up = time.monotonic() + patience_s
            while (now := _read(watcher)).least_windows == 0:
                if time.monotonic() > given_up:
                    if now.dropped_windows or now.dropped_frames or now.losses:
                        nothing = _Reading(0, 0, 0, 0, 0, 0.0, 0.0)
                        self.load = self._make_load(nothing, now, 0.0, 0.0, 0.0, now.lag_s, now.reading_lag_s)
                    return
                time.sleep(POLL_S)
            self._settle(watcher)
            self._measure(watcher, _read(watcher))
        finally:
            watcher.stop()

    def _settle(self, watcher: Watcher) -> None:
        """Wait for two strides, and on until nothing is late or the longest time is over."""
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < SETTLING * self._stride_s:
            now = _read(watcher)
            late = now.lag_s > self._allowed_lag_s or now.reading_lag_s > READING_LAG_S
            if waited >= 2 * self._stride_s and not late:
                return
            time.sleep(POLL_S)

    def _measure(self, watcher: Watcher, first: _Reading) -> None:
        begun, cpu, camera_cpu = time.monotonic(), time.process_time(), self._camera.cpu_seconds
        lag_s = reading_lag_s = 0.0
        while True:
            time.sleep(POLL_S)
            now, seconds = _read(watcher), time.monotonic() - begun
            lag_s, reading_lag_s = max(lag_s, now.lag_s), max(reading_lag_s, now.reading_lag_s)
            spent, played = time.process_time() - cpu, self._camera.cpu_seconds - camera_cpu
            self.load = self._make_load(first, now, seconds, spent, played, lag_s, reading_lag_s)
            if seconds >= self._seconds or self.load.failure:
                return

    def _make_load(
        self,
        first: _Reading,
        now: _Reading,
        seconds: float,
        cpu_s: float,
        camera_cpu_s: float,
        lag_s: float,
        reading_lag_s: float,
    ) -> Load:
        return Load(
            cameras=self._cameras,
            seconds=seconds,
            frames=now.frames - first.frames,
            dropped_frames=now.dropped_frames - first.dropped_frames,
            dropped_windows=now.dropped_windows - first.dropped_windows,
            losses=now.losses - first.losses,
            lag_s=lag_s,
            allowed_lag_s=self._allowed_lag_s,
            reading_lag_s=reading_lag_s,
            busy_cores=cpu_s / max(seconds, 1e-9),
            camera_cores=camera_cpu_s / max(seconds, 1e-9),
        )


@dataclass(frozen=True)
class _Reading:
    """Holds the numbers of a watch at one moment: sums and maxima over its sources."""

    frames: int
    dropped_frames: int
    dropped_windows: int
    losses: int
    least_windows: int
    lag_s: float
    reading_lag_s: float


def _read(watcher: Watcher) -> _Reading:
    values = {metric.name: [value for _, value in metric.values] for metric in watcher.metrics()}
    return _Reading(
        frames=int(sum(values["afsd_frames_total"])),
        dropped_frames=int(sum(values["afsd_frames_dropped_total"])),
        dropped_windows=int(sum(values["afsd_windows_dropped_total"])),
        losses=int(sum(values["afsd_losses_total"])),
        least_windows=int(min(values["afsd_windows_total"])),
        lag_s=max(values["afsd_lag_seconds"], default=0.0),
        reading_lag_s=max(values["afsd_reading_lag_seconds"], default=0.0),
    )
