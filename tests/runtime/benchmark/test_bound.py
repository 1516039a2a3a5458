"""Bounds against values computed by hand, the cost of decoding, and artifacts that compute each frame once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import runtime.benchmark.speed
from runtime.benchmark.bound import clip_bound, is_streaming, measure_decoding, multiply_adds_of_run, video_bound
from runtime.benchmark.speed import run_benchmark
from runtime.errors import InputError
from runtime.spec.model import ModelSpec
from runtime.windows import window_offsets
from tests.tiny import LENGTH, STRIDE, TinyEngine, tiny_spec
from tests.tiny_streaming import WINDOW, TinyStreamingEngine, streaming_spec


def test_bounds_by_hand() -> None:
    """84.2 G multiply-adds for 256 frames on 860 GFLOP/s: 0.1958 s a window, 0.765 ms a frame."""
    assert clip_bound(84_200_000_000, 256, 860.0) == pytest.approx(256 / (168.4 / 860))
    # Ten windows for 1408 frames, 1.06 ms of one of two cores for reading: 10 · 0.19581 s / 1408 + 0.53 ms a frame.
    found = video_bound(842_000_000_000, 1408, 860.0, 1.06e-3, 2)
    assert found == pytest.approx(1 / (1684 / 860 / 1408 + 0.00053))
    assert found == pytest.approx(520.65, abs=0.05)
    # The figures: 2 × 1.70 core-milliseconds of the network and 1.06 of decoding over two cores are 448 fps.
    per_core = 1700 / (2 * 0.85)  # GFLOP/s at which 0.85 M multiply-adds take 1.70 ms of each core
    assert video_bound(2 * 850_000_000, 1, 2 * per_core, 1.06e-3, 2) == pytest.approx(448, abs=0.5)
    assert video_bound(850_000_000, 1, 2 * per_core, 1.06e-3, 2) == pytest.approx(725, abs=0.5)


def counted_spec() -> ModelSpec:
    """A spec of an artifact that computes each frame once: 30 multiply-adds a frame, and 700 of its head a window."""
    spec = streaming_spec(multiply_adds=700)
    assert spec.streaming is not None
    return replace(spec, streaming=replace(spec.streaming, multiply_adds_per_frame=30))


def test_multiply_adds_of_a_run() -> None:
    assert multiply_adds_of_run(tiny_spec(multiply_adds=700), 100, 12) == 8400
    assert not is_streaming(tiny_spec())
    assert is_streaming(counted_spec())
    assert multiply_adds_of_run(counted_spec(), 100, 12) == 100 * 30 + 12 * 700


FRAMES = 60
"""Frames of the video, at the model's rate."""


@pytest.fixture
def video(tmp_path: Path) -> str:
    path = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 24))
    rng = np.random.default_rng(0)
    for _ in range(FRAMES):
        writer.write(rng.integers(0, 256, (24, 32, 3), np.uint8))
    writer.release()
    return path


def test_decoding_counts_the_work_of_all_threads_and_no_waiting(video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = measure_decoding(video, tiny_spec())
    assert 0 < plain < 0.05

    class Dear:
        """Windows that cost 0.3 s of one core, after half a second of waiting."""

        timing = type("Timing", (), {"frames": 10})

        def windows(self) -> Iterator[int]:
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass
            time.sleep(0.5)
            yield 1

        def close(self) -> None:
            pass

    monkeypatch.setattr("runtime.benchmark.bound.open_input", lambda *_, **__: Dear())
    assert measure_decoding(video, tiny_spec()) == pytest.approx(0.03, abs=0.01)


def test_the_share_of_the_bound_follows_from_what_the_report_holds(video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.benchmark.speed, "measure_decoding", lambda *_: 0.002)
    engine = TinyEngine(tiny_spec(multiply_adds=10_000_000))
    report = run_benchmark([("tiny", engine)], warmup=0, runs=1, video=video, video_runs=2)
    (m,) = report.measurements
    windows = len({*range(0, FRAMES - LENGTH + 1, STRIDE), FRAMES - LENGTH})
    seconds = 2 * 10_000_000 * windows / FRAMES / (report.ceilings["fp32"] * 1e9) + 0.002 / report.machine.cores
    assert m.video_bound_fps == pytest.approx(1 / seconds)
    assert m.video_share == pytest.approx(m.video_fps / m.video_bound_fps)
    assert m.clip_bound_fps == pytest.approx(LENGTH * report.ceilings["fp32"] * 1e9 / 2e7)
    assert m.ceiling_share == pytest.approx(m.clip_fps / m.clip_bound_fps)
    assert m.decoding_core_ms == pytest.approx(2.0)
    assert len(m.video_passes_fps) == 2
    assert m.video_fps == pytest.approx(sum(m.video_passes_fps) / 2)
    assert m.video_core_ms > 0
    assert report.video == "clip.avi"


@pytest.mark.thorough
def test_each_frame_once_is_timed_on_a_video_alone(video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.benchmark.speed, "measure_decoding", lambda *_: 0.002)
    once, plain = TinyStreamingEngine(counted_spec()), TinyEngine(tiny_spec(multiply_adds=1180))
    engines = [("plain", plain), ("once", once)]
    report = run_benchmark(engines, batches=(2, 3), warmup=0, runs=1, video=video, video_runs=1)
    assert [(m.name, m.batch) for m in report.measurements] == [("plain", 2), ("once", 2), ("plain", 3)]
    row = report.measurements[1]
    assert row.streaming
    assert (row.runs, row.clip_fps, row.median_ms, row.clip_bound_fps, row.ratio) == (0, 0, 0, 0, 0)
    assert row.video_fps > 0
    windows = len(window_offsets(64, WINDOW, WINDOW // 2))  # 60 frames are filled up to 64
    seconds = 2 * (FRAMES * 30 + windows * 700) / FRAMES / (report.ceilings["fp32"] * 1e9)
    assert row.video_bound_fps == pytest.approx(1 / (seconds + 0.002 / report.machine.cores))
    assert once.starts == [
        0,
        128,
        256,
        0,
    ]  # 256 random frames, and the run that counts
    with pytest.raises(InputError, match=r"once: computes each frame once, so that only a video .*--video"):
        run_benchmark(engines)
