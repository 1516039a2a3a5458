"""Counting the cameras that a machine carries: the search, what counts as carried, and cameras that are really sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runtime.benchmark.cameras import search as camera_search
from runtime.benchmark.cameras.load import Load
from runtime.benchmark.cameras.probe import measure_load
from runtime.benchmark.cameras.report import CameraReport, format_cameras
from runtime.benchmark.cameras.search import find_most_cameras
from runtime.benchmark.looped_camera import LoopedCamera, serve_looped, stream_looped
from runtime.cli import main
from runtime.errors import InputError, VideoError
from runtime.video.readers.pyav import PyAVReader
from tests.runtime.live.streams import FPS, number_of, write_clip
from tests.tiny import TinyEngine

CARRIED = Load(
    cameras=4, seconds=50, frames=2000, dropped_frames=0, dropped_windows=0, losses=0, lag_s=1, allowed_lag_s=12.8,
    reading_lag_s=0.1, busy_cores=0.5, camera_cores=0.1,
)  # fmt: skip


def search(monkeypatch: pytest.MonkeyPatch, limit: int, first: int | None, idle: float = 1.0) -> list[int]:
    """The numbers tried on a machine that carries up to `limit`; CPU time is right (idle 1) or misleads."""

    @contextmanager
    def no_camera(_: str) -> Iterator[None]:
        yield None

    def measure(_: object, __: object, count: int) -> Load:
        load = replace(CARRIED, cameras=count, busy_cores=2.0 * count / max(limit, 1) * idle, camera_cores=0.0)
        return load if count <= limit else replace(load, dropped_windows=3)

    monkeypatch.setattr(camera_search, "serve_looped", no_camera)
    monkeypatch.setattr(camera_search, "measure_load", measure)
    monkeypatch.setattr(camera_search, "usable_cores", lambda: 2)
    report = find_most_cameras("model", TinyEngine(), "clip.mp4", first=first)
    assert report.carried <= limit
    if limit < 400:
        assert report.bounded
        failing = min(load.cameras for load in report.loads if load.failure)
        assert failing - report.carried <= max(1, report.carried // 20)
    return [load.cameras for load in report.loads]


@pytest.mark.parametrize("limit", [0, 1, 3, 4, 5, 31, 60, 170, 390])
@pytest.mark.parametrize("first", [None, 1, 7, 400])
@pytest.mark.parametrize("idle", [0.1, 1.0, 5.0])
def test_the_search_ends_beside_the_limit(
    monkeypatch: pytest.MonkeyPatch, limit: int, first: int | None, idle: float
) -> None:
    assert len(search(monkeypatch, limit, first, idle)) <= 16


def test_true_cpu_time_saves_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    assert search(monkeypatch, 60, None)[:3] == [4, 16, 60]


def test_a_machine_that_carries_the_most_is_not_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert search(monkeypatch, 10_000, 512) == [512]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"dropped_windows": 2, "dropped_frames": 9}, "2 windows, 9 frames dropped"),
        ({"dropped_frames": 9}, "0 windows, 9 frames dropped"),
        ({"losses": 1}, "1 cameras lost"),
        ({"lag_s": 12.9}, "results 12.9 s late, 12.8 s allowed"),
        ({"reading_lag_s": 2.5}, "frames read 2.5 s late"),
    ],
)
def test_what_is_not_carried_is_said(changes: dict[str, Any], words: str) -> None:
    assert replace(CARRIED, **changes).failure == words


def test_a_looped_stream_has_every_frame_in_its_place_without_a_gap(tmp_path: Path) -> None:
    clip, count, turns = write_clip(tmp_path / "clip.mp4", 50), 50, 3
    packets = stream_looped(str(clip))
    taken = [next(packets) for _ in range(turns * count)]
    (tmp_path / "sent.ts").write_bytes(b"".join(data for _, _, data in taken))
    np.testing.assert_allclose([due for due, _, _ in taken], np.arange(turns * count) / FPS, atol=1e-3)
    assert {0, 50, 100} <= {n for n, (_, is_key, _) in enumerate(taken) if is_key}
    reader = PyAVReader(str(tmp_path / "sent.ts"))
    numbers, times = [], []
    while reader.grab():
        numbers.append(number_of(reader.hold()()))
        times.append(reader.time)
    reader.close()
    assert numbers == [n % count for n in range(turns * count)]
    np.testing.assert_allclose(np.diff(times), 1 / FPS, atol=1e-3)


def test_what_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(VideoError, match="cannot be served as a camera"), serve_looped(str(tmp_path / "notes.mp4")):
        pass


def test_a_file_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"none\.mp4: file not found"), serve_looped(str(tmp_path / "none.mp4")):
        pass


def test_a_model_that_sees_features_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = SimpleNamespace(url="http://127.0.0.1:9/live", cpu_seconds=0.0)
    engine = TinyEngine()
    with pytest.raises(InputError, match="first: got 0"):
        find_most_cameras("model", engine, "clip.mp4", first=0)
    engine.spec = replace(engine.spec, sampling="whole_video")
    with pytest.raises(InputError, match="whole videos"):
        measure_load(engine, camera, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("flags", [["--video", "clip.mp4"], ["--compare", "old.json"], ["--runs", "3"]])
def test_cameras_take_the_place_of_other_measurements(capfd: pytest.CaptureFixture[str], flags: list[str]) -> None:
    assert main(["benchmark", "model.onnx", "--cameras", "clip.mp4", *flags]) == 2
    assert "--cameras takes the place" in capfd.readouterr().err


def test_a_first_number_needs_cameras(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "model.onnx", "--cameras-first", "3"]) == 2
    assert "--cameras-first does nothing without --cameras" in capfd.readouterr().err


@pytest.mark.slow
def test_real_cameras_are_watched_and_a_slow_engine_is_noticed(tmp_path: Path) -> None:
    """Three cameras over HTTP; an engine that takes longer than a stride for them falls behind."""

    class Slow(TinyEngine):
        def infer(self, inputs: Any) -> Any:
            event.wait(2.0)
            return super().infer(inputs)

    import threading

    event = threading.Event()
    clip = write_clip(tmp_path / "clip.mp4", 50)
    with serve_looped(str(clip)) as camera:
        assert isinstance(camera, LoopedCamera)
        quick = measure_load(TinyEngine(), camera, 3, seconds=4.0)
        slow = measure_load(Slow(), camera, 3, seconds=60.0)
    assert quick.failure == ""
    assert abs(quick.frames - 3 * 10 * quick.seconds) <= 30
    assert quick.busy_cores > 0
    assert quick.camera_cores > 0
    assert "late" in slow.failure or "dropped" in slow.failure
    assert slow.seconds < 59


def test_a_report_says_the_number_and_all_that_was_tried() -> None:
    report = CameraReport("model.xml", "clip.mp4", "openvino 1", "int8", 10.0)
    report.loads += [CARRIED, replace(CARRIED, cameras=9, dropped_windows=1), replace(CARRIED, cameras=6)]
    head, _, *rows = format_cameras(report).splitlines()
    assert head == "model.xml (openvino 1, int8): 6 cameras of clip.mp4, each sampled at 10 frames per second"
    assert [row.split()[:2] for row in rows] == [["4", "yes"], ["6", "yes"], ["9", "no:"]]
    report.loads = [CARRIED]
    assert format_cameras(report).splitlines()[0].endswith("and maybe more")
