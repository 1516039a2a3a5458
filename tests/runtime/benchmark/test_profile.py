"""Where the time of a run goes: stages add up, waiting is seen where it happens, threads add up to the process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime import cli
from runtime.benchmark.profile import MAIN, OTHERS, READER, Profile, ThreadClock, format_profile, make_profile
from runtime.detector import Detector
from runtime.video.prefetch import Prefetch, ReadingTime
from tests.media import Media
from tests.tiny import CROP, TinyEngine, write_tiny_onnx

SLEEP = 0.02


def profile_of(engine: TinyEngine, source: Any) -> Profile:
    detector = Detector(engine)
    with ThreadClock() as threads:
        detector.run(source)
        threads.stop()
    return make_profile(detector.timing, threads)


@pytest.fixture
def slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays are read in a thread of their own, which takes its time for each frame."""
    from runtime.video.readers.memory import ArrayReader

    monkeypatch.setattr(ArrayReader, "background", True)
    grab = ArrayReader.grab

    def slow(self: Any) -> bool:
        time.sleep(SLEEP)
        return grab(self)

    monkeypatch.setattr(ArrayReader, "grab", slow)


def frames(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (n, *CROP, 3), dtype=np.uint8)


def sleeps(seconds: float) -> TinyEngine:
    class Sleepy(TinyEngine):
        def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
            time.sleep(seconds)
            return super().infer(inputs)

    return Sleepy()


@pytest.mark.usefixtures("slow_reader")
def test_a_network_that_waits_for_frames() -> None:
    found = profile_of(TinyEngine(), frames(40))
    assert found.frames == 40
    assert found.reading_ms["decode, sample, resize"] >= 40 * SLEEP * 1e3
    assert found.stages_ms["wait for frames"] > 0.5 * found.reading_ms["decode, sample, resize"]
    assert found.reading_ms["wait for the network"] < found.stages_ms["wait for frames"]


def test_a_reader_that_waits_for_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.video.readers.memory import ArrayReader

    monkeypatch.setattr(ArrayReader, "background", True)
    found = profile_of(sleeps(5 * SLEEP), frames(120))
    assert found.windows == 14
    assert found.stages_ms["engine"] >= 14 * 5 * SLEEP * 1e3
    assert found.reading_ms["wait for the network"] > 0.5 * found.stages_ms["engine"]
    assert found.stages_ms["wait for frames"] < found.reading_ms["wait for the network"]


@pytest.mark.parametrize("seconds", [0.0, SLEEP])
def test_stages_add_up_to_the_wall_time_of_another_clock(seconds: float) -> None:
    begun = time.perf_counter()
    found = profile_of(sleeps(seconds), frames(200))
    wall = (time.perf_counter() - begun) * 1e3
    assert sum(found.stages_ms.values()) == pytest.approx(found.wall_ms)
    assert found.wall_ms <= wall
    assert found.stages_ms["other"] <= 0.5 * found.wall_ms


def test_a_source_without_a_thread_is_read_while_the_network_waits() -> None:
    found = profile_of(TinyEngine(), frames(60))
    assert 0 < found.reading_ms["decode, sample, resize"] <= found.stages_ms["wait for frames"]
    assert found.reading_ms["wait for the network"] == 0
    assert READER not in found.cpu_s


def test_a_reading_thread_counts_its_own_cpu_seconds() -> None:
    taken = ReadingTime()

    def busy() -> Any:
        for _ in range(4):
            end = time.thread_time() + SLEEP
            while time.thread_time() < end:
                pass
            yield 0

    assert len(list(Prefetch(busy(), 1, taken))) == 4
    assert 4 * SLEEP <= taken.cpu_s <= taken.work_s + taken.blocked_s


def test_threads_add_up_to_the_process(media: Callable[[str], Media], tmp_path: Path) -> None:
    path = media("rate_30.mp4").path
    write_tiny_onnx(tmp_path / "tiny.onnx", None)
    detector = Detector(str(tmp_path / "tiny.onnx"))
    before = time.process_time()
    with ThreadClock() as threads:
        detector.run(path)
    whole = time.process_time() - before
    found = make_profile(detector.timing, threads).cpu_s
    assert list(found)[:2] == [MAIN, READER]
    assert list(found)[-1] == OTHERS
    assert all(seconds >= 0 for seconds in found.values())
    assert sum(found.values()) <= whole + 0.02  # FFmpeg's threads are counted in hundredths
    assert sum(found.values()) >= 0.9 * whole - 0.02


def test_detect_prints_it_and_puts_it_in_json(
    media: Callable[[str], Media], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, model = str(media("rate_30.mp4").path), str(write_tiny_onnx(tmp_path / "tiny.onnx", None))
    assert cli.main(["detect", model, path, "--profile", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    for word in ("decode, sample, resize", "wait for frames", "post-processing", "writing", "CPU seconds", "reading"):
        assert word in shown
    assert cli.main(["detect", model, path, path, "--profile", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["profile"]) == set(document["results"])
    for profile in document["profile"].values():
        assert sum(profile["stages_ms"].values()) == pytest.approx(profile["wall_ms"])
        assert profile["frames"] > 0
    assert cli.main(["detect", model, path, "--json"]) == 0
    assert "profile" not in json.loads(capsys.readouterr().out)
    assert cli.main(["detect", model, path, "--profile", "--stream"]) == 2
    assert "leave out --stream" in capsys.readouterr().err


def test_the_table_of_a_run_without_frames_divides_by_nothing() -> None:
    stages = {"wait for frames": 0.0, "other": 0.0}
    shown = format_profile(Profile(0.0, 0, 0, stages, {"flow": 0.0, "wait for the network": 3.0}, {MAIN: 0.5}))
    assert "flow" not in shown
    assert "500.000 ms/frame" in shown
