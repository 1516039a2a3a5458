"""Search the largest number of cameras that a machine carries."""

from __future__ import annotations

from collections.abc import Callable

from runtime.benchmark.cameras.load import Load
from runtime.benchmark.cameras.probe import measure_load
from runtime.benchmark.cameras.report import CameraReport
from runtime.benchmark.looped_camera import serve_looped
from runtime.common.processors import usable_cores
from runtime.common.ranges import Count, require_in_range
from runtime.engines.base import Engine

MOST_CAMERAS = 512
"""Number of cameras at which the search ends."""

Say = Callable[[str], None]
"""Function called with progress messages."""


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
