"""Real streams: UDP, HTTP and RTSP cameras that break off and come back, and files beside them."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.detector import Detector, DetectorOptions
from runtime.engines.base import Engine
from runtime.live.events import Detected, Event, Gap, Started
from runtime.live.options import WatchOptions
from runtime.live.watcher import Watcher
from runtime.video.readers.base import Reader
from runtime.video.readers.choice import open_reader
from tests.runtime.live.streams import (
    HttpCamera,
    Log,
    LoggingReader,
    Replay,
    RtspCamera,
    Sender,
    decode,
    free_port,
    udp,
    write_clip,
)
from tests.tiny import TinyEngine
from tests.tiny_streaming import TinyStreamingEngine

STALL = 1.5
FRAMES = 150


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


class Watch:
    """A watch that runs in a thread, with what its live sources gave."""

    def __init__(self, *sources: str, stall: float = STALL, network: type[Engine] = TinyEngine) -> None:
        self._stall = stall
        self.logs = {source: Log(FRAMES) for source in sources}
        self.watcher = Watcher(
            Detector(network(), options=DetectorOptions(min_score=0.1)),
            list(sources),
            WatchOptions(stall_seconds=stall),
            open_source=self._open,
        )
        self.events: list[Event] = []
        self._thread = threading.Thread(target=self._collect)

    def _open(self, source: str | int) -> Reader:
        live = "://" in str(source)
        return LoggingReader(str(source), self.logs[str(source)], self._stall) if live else open_reader(source)

    def _collect(self) -> None:
        for event in self.watcher:
            self.events.append(event)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the watch while its sources go on, so that their last windows are seen."""
        self.watcher.stop()
        self._thread.join(5)
        assert not self._thread.is_alive()

    def wait(self, kind: str, count: int = 1, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while sum(event.kind == kind for event in self.events) < count:
            assert time.monotonic() < deadline, [event.to_json() for event in self.events]
            time.sleep(0.02)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if not isinstance(event, Detected)]


def check_against_file(
    events: list[Event], log: Log, frames: list[NDArray[np.uint8]], network: type[Engine] = TinyEngine
) -> int:
    """Compare the detections of each stretch with those of the same frames of the file; return their number."""
    starts = [0.0, *(event.segment[1] for event in events if isinstance(event, Gap))]
    runs = [run for run in log.runs if run.count > 2]
    assert len(runs) == len(starts), (log.runs, starts)
    found = [event for event in events if isinstance(event, Detected)]
    for start, run in zip(starts, runs, strict=True):
        want = list(Detector(network(), options=DetectorOptions(min_score=0.1)).run(Replay(frames, run)))  # type: ignore[arg-type]
        got, found = found[: len(want)], found[len(want) :]
        assert [e.label for e in got] == [d.label for d in want]
        assert [(e.score, *e.segment) for e in got] == [
            pytest.approx((d.score, start + d.start_s, start + d.end_s), abs=1e-6) for d in want
        ]
    assert not found
    return sum(isinstance(event, Detected) for event in events)


@pytest.mark.thorough
@pytest.mark.parametrize("network", [TinyEngine, pytest.param(TinyStreamingEngine, marks=pytest.mark.slow)])
def test_a_udp_camera_that_restarts_and_is_lost(clip: Path, network: type[Engine]) -> None:
    port = free_port()
    with Watch(f"udp://127.0.0.1:{port}", network=network) as watch:
        with Sender(clip, udp(port)):
            watch.wait("started")
            time.sleep(1.8)
        time.sleep(0.7)  # less than the stall: the connection stands
        with Sender(clip, udp(port)):
            watch.wait("gap")
            time.sleep(1.8)
        watch.wait("lost")
        with Sender(clip, udp(port)):
            watch.wait("reconnected")
            time.sleep(1.8)
            watch.stop()
    assert watch.kinds() == ["started", "gap", "lost", "reconnected", "gap", "stopped"]
    (log,) = watch.logs.values()
    assert check_against_file(watch.events, log, decode(clip), network) > 5
    first, second = (event for event in watch.events if isinstance(event, Gap))
    for gap, least in ((first, 0.3), (second, STALL - 1)):  # the two openings may differ by a second
        assert gap.utc[1] - gap.utc[0] == pytest.approx(gap.segment[1] - gap.segment[0], abs=1)
        assert gap.segment[1] - gap.segment[0] > least
    (started,) = (event for event in watch.events if isinstance(event, Started))
    assert started.utc == pytest.approx(watch.events[0].at, abs=0.5)


def cameras(tmp_path: Path) -> dict[str, Callable[[Path], Any]]:
    return {"http": HttpCamera, "rtsp": lambda clip: RtspCamera(clip, tmp_path)}


def break_often(kind: str, clip: Path, folder: Path, pauses: Sequence[float]) -> None:
    """Watch a server whose connection breaks after each pause, and compare each stretch with the file."""
    with cameras(folder)[kind](clip) as camera, Watch(camera.url + ("/live" if kind == "http" else "")) as watch:
        watch.wait("started")
        for count, pause in enumerate(pauses, 1):
            time.sleep(pause)
            camera.break_off()
            watch.wait("lost", count)
            watch.wait("reconnected", count)
        time.sleep(2.5)
        watch.stop()
    assert watch.kinds() == ["started", *["lost", "reconnected", "gap"] * len(pauses), "stopped"]
    (log,) = watch.logs.values()
    found = check_against_file(watch.events, log, decode(clip))
    assert found > sum(pauses)
    print(f"{kind}: {len(pauses)} losses in {sum(pauses):.0f} s, {found} detections as of the file")


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["http", "rtsp"])
def test_a_server_whose_connection_breaks(kind: str, clip: Path, tmp_path: Path) -> None:
    break_often(kind, clip, tmp_path, [1.5])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["http", "rtsp"])
def test_a_server_whose_connection_breaks_five_times(kind: str, clip: Path, tmp_path: Path) -> None:
    """AFSD_SOAK_MINUTES says how long (see test_soak.py)."""
    part = 60 * float(os.environ.get("AFSD_SOAK_MINUTES", "5")) / 5
    rng = random.Random(int(os.environ.get("AFSD_SOAK_SEED", "1")))
    break_often(kind, clip, tmp_path, [part * rng.uniform(0.5, 1) for _ in range(5)])


def test_a_file_from_a_server_ends(clip: Path) -> None:
    with HttpCamera(clip) as server, Watch(f"{server.url}/clip.mp4") as watch:
        watch.wait("ended")
    assert watch.kinds() == ["started", "ended"]
    want = Detector(TinyEngine(), options=DetectorOptions(min_score=0.1)).run(clip)
    assert [e.segment for e in watch.events if isinstance(e, Detected)] == [(d.start_s, d.end_s) for d in want]


def test_a_file_ends_beside_a_camera_that_goes_on(clip: Path) -> None:
    port = free_port()
    camera = f"udp://127.0.0.1:{port}"
    with Watch(camera, str(clip)) as watch, Sender(clip, udp(port)):
        watch.wait("ended")
        watch.wait("started", 2)
        time.sleep(2.2)
        watch.stop()
    assert [e.kind for e in watch.events if e.video == "clip" and not isinstance(e, Detected)] == ["started", "ended"]
    own = [e for e in watch.events if e.video != "clip"]
    assert check_against_file(own, watch.logs[camera], decode(clip)) > 0
    assert [event.kind for event in own if not isinstance(event, Detected)] == ["started", "stopped"]
