"""Batches in flight: what the caller sees is what one `infer` after the other would give."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.detector import Detector
from runtime.engines.pipeline import Immediate, OverlappingEngine, as_overlapping, infer_in_turn
from runtime.errors import EngineError
from tests.tiny import CROP, TinyEngine


class Overlapped(TinyEngine):
    """The tiny network as an engine that overlaps; fails at one batch, and keeps a diary."""

    depth = 2

    def __init__(self, fails_at: int | None = None, at: str = "collect") -> None:
        super().__init__()
        self.fails_at, self.at = fails_at, at
        self.diary: list[str] = []
        self.flying: list[int] = []
        self.count = 0

    def submit(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[int, Any]:
        number, self.count = self.count, self.count + 1
        assert len(self.flying) < self.depth
        self._fail(number, "submit")
        self.flying.append(number)
        self.diary.append(f"submit {number}")
        return number, self.infer(inputs)

    def collect(self, ticket: tuple[int, Any]) -> Any:
        self.flying.remove(ticket[0])
        self.diary.append(f"collect {ticket[0]}")
        self._fail(ticket[0], "collect")
        return ticket[1]

    def _fail(self, number: int, at: str) -> None:
        if number == self.fails_at and at == self.at:
            raise EngineError(f"batch {number} failed")


def batch(k: int) -> tuple[int, dict[str, np.ndarray]]:
    frames = np.full((1, 16, *CROP, 3), k, np.uint8)
    return k, {"frames": frames, "lengths": np.array([16], np.int32)}


def test_two_are_in_flight() -> None:
    engine = Overlapped()
    assert isinstance(engine, OverlappingEngine)
    assert [k for k, _ in infer_in_turn(engine, map(batch, range(4)))] == [0, 1, 2, 3]
    expected = "submit 0,submit 1,collect 0,submit 2,collect 1,submit 3,collect 2,collect 3"
    assert ",".join(engine.diary) == expected


def test_other_engines_run_one_after_the_other() -> None:
    engine = TinyEngine()
    assert isinstance(as_overlapping(engine), Immediate)
    for k, _ in infer_in_turn(engine, map(batch, range(4))):
        assert len(engine.batches) == k + 1


def test_nothing_ready_gives_what_is_in_flight() -> None:
    engine = Overlapped()
    given = iter([batch(0), None, batch(1), batch(2), None, None, batch(3)])
    list(infer_in_turn(engine, given))
    expected = "submit 0,collect 0,submit 1,submit 2,collect 1,collect 2,submit 3,collect 3"
    assert ",".join(engine.diary) == expected


def test_a_patient_caller_keeps_the_engine_busy() -> None:
    engine = Overlapped()
    given = iter([batch(0), None, batch(1), batch(2), None, None, batch(3)])
    assert [k for k, _ in infer_in_turn(engine, given, patient=True)] == [0, 1, 2, 3]
    expected = "submit 0,submit 1,collect 0,submit 2,collect 1,submit 3,collect 2,collect 3"
    assert ",".join(engine.diary) == expected


@pytest.mark.parametrize(
    ("mode", "endless", "kept"),
    [("throughput", False, True), ("throughput", True, False), ("throughput", None, False), ("latency", False, False)],
)
def test_only_files_in_throughput_mode_are_patient(
    monkeypatch: pytest.MonkeyPatch, mode: str, endless: bool | None, kept: bool
) -> None:
    """Frames that are never ready: in flight stays what a later frame need not wait for."""
    from runtime.inputs import FrameInput
    from runtime.video.sampling import FrameStream

    monkeypatch.setattr(FrameStream, "ready", property(lambda stream: False))
    engine = Overlapped()
    engine.mode = mode  # type: ignore[attr-defined]
    detector = Detector(engine)
    video = detector.open(np.random.default_rng(3).integers(0, 256, (60, *CROP, 3), dtype=np.uint8))
    assert isinstance(video, FrameInput)
    video.endless = endless
    assert len(list(detector.infer(video))) == 7
    assert ("submit 0,submit 1" in ",".join(engine.diary)) == kept


@pytest.mark.parametrize("at", ["submit", "collect"])
def test_errors_come_after_what_was_before_them(at: str) -> None:
    engine = Overlapped(fails_at=2, at=at)
    seen: list[int] = []
    with pytest.raises(EngineError, match="batch 2 failed"):
        seen.extend(k for k, _ in infer_in_turn(engine, map(batch, range(5))))
    assert seen == [0, 1]
    assert not engine.flying


def test_an_error_of_the_source_comes_after_what_was_before_it() -> None:
    def given() -> Iterator[Any]:
        yield batch(0)
        yield batch(1)
        raise ValueError("the camera is gone")

    engine, seen = Overlapped(), []
    with pytest.raises(ValueError, match="the camera is gone"):
        seen.extend(k for k, _ in infer_in_turn(engine, given()))
    assert seen == [0, 1]


def test_leaving_in_the_middle_frees_the_engine() -> None:
    engine = Overlapped()
    results = infer_in_turn(engine, map(batch, range(9)))
    next(results)
    assert engine.flying
    results.close()  # type: ignore[attr-defined]
    assert not engine.flying


def test_a_live_source_waits_for_nothing() -> None:
    """Detections of a window come before the frame that follows it is asked for, as with an engine of one."""
    frames = np.random.default_rng(3).integers(0, 256, (60, *CROP, 3), dtype=np.uint8)

    def arrivals(engine: TinyEngine) -> list[tuple[int, int]]:
        asked = 0

        def live() -> Iterator[np.ndarray]:
            nonlocal asked
            for frame in frames:
                asked += 1
                yield frame

        return [(asked, len(part)) for part in Detector(engine).stream(live())]

    assert arrivals(Overlapped()) == arrivals(TinyEngine())
    assert len(arrivals(TinyEngine())) > 2


def test_a_camera_that_pauses_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading thread that stops in the middle of a window: what is in flight is given meanwhile."""
    from runtime.video.readers.memory import ArrayReader

    frames = np.random.default_rng(3).integers(0, 256, (64, *CROP, 3), dtype=np.uint8)
    gate = threading.Event()
    monkeypatch.setattr(ArrayReader, "background", True)
    grab = ArrayReader.grab
    calls = iter(range(10**6))

    def paused(self: Any) -> bool:
        if next(calls) == 44:
            gate.wait(10)
        return grab(self)

    monkeypatch.setattr(ArrayReader, "grab", paused)
    engine = Overlapped()
    found = []
    reader = threading.Thread(target=lambda: found.extend(Detector(engine).stream(frames)))
    reader.start()
    deadline = time.monotonic() + 5
    while "collect 3" not in engine.diary and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "submit 4" not in engine.diary
    assert "collect 3" in engine.diary  # the window of frames 24 … 39, the last complete one
    gate.set()
    reader.join()
    expected = list(Detector(TinyEngine()).stream(frames))
    assert [len(part) for part in found] == [len(part) for part in expected]


def test_timing_adds_up_with_batches_in_flight() -> None:
    class Sleepy(Overlapped):
        def collect(self, ticket: tuple[int, Any]) -> Any:
            time.sleep(0.02)
            return super().collect(ticket)

    frames = np.random.default_rng(3).integers(0, 256, (100, *CROP, 3), dtype=np.uint8)
    detector = Detector(Sleepy())
    detector.run(frames)
    timing = detector.timing
    assert timing.engine_ms >= 20 * timing.windows
    total = timing.wait_ms + timing.engine_ms + timing.post_ms
    assert total == pytest.approx(timing.wall_seconds * 1e3, rel=0.15)
    assert total <= timing.wall_seconds * 1e3 + 1
