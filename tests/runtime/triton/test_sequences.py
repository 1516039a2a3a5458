"""Sequences of chunks against the detector on all frames at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.detector import Detector
from runtime.engines.base import Engine
from runtime.errors import EngineError, InputError
from runtime.results.detections import Detections
from runtime.triton.sequences import Chunk, Sequences, as_frames
from runtime.triton.shared import share
from tests.tiny import CROP, TinyEngine
from tests.tiny_streaming import TinyStreamingEngine

WAIT_SECONDS = 20


class Told:
    """An answer that keeps what it is given."""

    def __init__(self) -> None:
        self.parts: list[Detections] = []
        self.error: Exception | None = None
        self.cancelled = False
        self._ended = threading.Event()

    def found(self, detections: Detections) -> None:
        assert not self._ended.is_set()
        self.parts.append(detections)

    def done(self) -> None:
        assert not self._ended.is_set()
        self._ended.set()

    def failed(self, error: Exception) -> None:
        self.error = error
        self.done()

    def wait(self) -> Told:
        assert self._ended.wait(WAIT_SECONDS)
        return self


def video(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *CROP, 3), dtype=np.uint8)


Make = Callable[..., Sequences]


@pytest.fixture
def make() -> Iterator[Make]:
    """Maker of sequences on one tiny engine; all are closed at the end."""
    made: list[Sequences] = []

    def make(most: int = 40, idle_s: float = WAIT_SECONDS, most_bytes: int = 1 << 30) -> Sequences:
        engine = share(TinyEngine())
        made.append(Sequences(lambda: Detector(engine), most, idle_s, most_bytes))
        return made[-1]

    yield make
    for sequences in made:
        sequences.close()


def send(sequences: Sequences, key: int | str, frames: np.ndarray, first: bool = False, last: bool = False) -> Told:
    told = Told()
    sequences.push(key, Chunk(frames, last, told), first=first, fps=10.0 if first else None)
    return told.wait()


def send_all(sequences: Sequences, key: int | str, frames: np.ndarray, chunk: int) -> list[Detections]:
    """Send all frames, each chunk when the one before is answered, and return what was found."""
    parts: list[Detections] = []
    for start in range(0, len(frames), chunk):
        told = send(sequences, key, frames[start : start + chunk], start == 0, start + chunk >= len(frames))
        assert told.error is None
        parts += told.parts
    assert len(parts[-1]) == 0  # the end is said
    assert all(len(part) for part in parts[:-1])
    return parts


def assert_equal(parts: list[Detections], frames: np.ndarray, key: int | str, engine: Engine | None = None) -> None:
    expected = Detector(engine or TinyEngine()).run(frames, fps=10.0)
    found = Detections.concatenate(parts)
    np.testing.assert_array_equal(found.segments, expected.segments)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.video == f"sequence {key}"


@pytest.mark.parametrize("chunk", [1, 7, 16, 100])
def test_any_chunks_give_the_detectors_results(chunk: int, make: Make) -> None:
    frames = video(61)
    assert_equal(send_all(make(), "a", frames, chunk), frames, "a")


def test_a_rate_that_is_none_is_told_to_the_chunk_that_brings_it(make: Make) -> None:
    """The sequence ends before it asks for its first chunk."""
    told = Told()
    make().push(1, Chunk(video(8), True, told), first=True, fps=1e-30)
    assert "at which one frame lasts" in str(told.wait().error)


def test_detections_come_before_the_end_and_the_rest_with_it(make: Make) -> None:
    frames, sequences = video(200, seed=1), make()
    early = send(sequences, 1, frames[:150], first=True)
    late = send(sequences, 1, frames[150:])
    end = send(sequences, 1, frames[:0], last=True)
    assert early.parts
    assert end.parts[-1].video == "sequence 1"
    assert_equal([*early.parts, *late.parts, *end.parts], frames, 1)
    assert len(sequences) == 0


def test_twenty_at_once(make: Make) -> None:
    sequences = make()
    with ThreadPoolExecutor(20) as pool:
        videos = {key: video(40 + key, seed=key) for key in range(20)}
        found = {key: pool.submit(send_all, sequences, key, frames, 5 + key) for key, frames in videos.items()}
        for key, frames in videos.items():
            assert_equal(found[key].result(), frames, key)
    assert len(sequences) == 0


def test_a_streaming_network_keeps_a_state_for_each(make: Make) -> None:
    engine = share(TinyStreamingEngine())
    sequences = Sequences(lambda: Detector(engine), 5, WAIT_SECONDS, 1 << 30)
    with ThreadPoolExecutor(5) as pool:
        videos = {key: video(150 + key, seed=key) for key in range(5)}
        found = {key: pool.submit(send_all, sequences, key, frames, 9 + key) for key, frames in videos.items()}
        for key, frames in videos.items():
            assert_equal(found[key].result(), frames, key, TinyStreamingEngine())
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.infer({})


def test_an_error_ends_its_sequence_alone(make: Make) -> None:
    sequences, frames = make(), video(60)
    good = send(sequences, "good", frames[:30], first=True)
    bad = send(sequences, "bad", frames[:10], first=True)
    assert bad.error is None
    bad = send(sequences, "bad", frames[..., :2])
    assert isinstance(bad.error, InputError)
    with pytest.raises(InputError, match="sequence bad: is not running"):
        send(sequences, "bad", frames[:10])
    rest = send(sequences, "good", frames[30:], last=True)
    assert_equal([*good.parts, *rest.parts], frames, "good")


def test_an_end_without_any_frame_is_an_error(make: Make) -> None:
    told = send(make(), 1, video(0), first=True, last=True)
    assert isinstance(told.error, InputError)
    assert "expected at least one frame" in str(told.error)


def test_what_is_asked_wrongly(make: Make) -> None:
    sequences = make(most=1)
    for fps, said in ((None, "FPS is missing"), (0.0, "FPS: got 0"), (float("nan"), "FPS: got nan")):
        with pytest.raises(InputError, match=said):
            sequences.push(1, Chunk(video(1), False, Told()), first=True, fps=fps)
    send(sequences, 1, video(3), first=True)
    with pytest.raises(InputError, match="sequence 2: 1 sequences are running, the most there may be"):
        sequences.push(2, Chunk(video(1), False, Told()), first=True, fps=1.0)


def test_a_place_is_free_when_a_sequence_has_ended(make: Make) -> None:
    sequences, frames = make(most=2), video(80)
    send(sequences, "long", frames[:20], first=True)
    for key in range(3):
        assert_equal(send_all(sequences, key, frames, 80), frames, key)
    assert len(sequences) == 1


class Gate(TinyEngine):
    """Computes nothing before it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.opened = threading.Event(), threading.Event()

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        self.reached.set()
        assert self.opened.wait(WAIT_SECONDS)
        return super().infer(inputs)


@pytest.fixture
def gated() -> Iterator[tuple[Sequences, Gate]]:
    """Sequences that hold at most 100 frames, on an engine that waits."""
    gate = Gate()
    engine = share(gate)
    sequences = Sequences(lambda: Detector(engine), 2, WAIT_SECONDS, video(100).nbytes)
    yield sequences, gate
    gate.opened.set()
    sequences.close()


def push(sequences: Sequences, key: int, frames: int, *, first: bool = False, last: bool = False) -> Told:
    told = Told()
    sequences.push(key, Chunk(video(frames), last, told), first=first, fps=10.0 if first else None)
    return told


def test_chunks_of_a_sequence_that_is_begun_anew_are_told_so(gated: tuple[Sequences, Gate]) -> None:
    sequences, gate = gated
    looked_at = push(sequences, 1, 40, first=True)
    assert gate.reached.wait(WAIT_SECONDS)
    waiting = push(sequences, 1, 10)
    anew = push(sequences, 1, 40, first=True, last=True)
    gate.opened.set()
    assert str(waiting.wait().error).startswith("sequence 1: ended by a new START of its id")
    assert looked_at.wait().error is None or "new START" in str(looked_at.error)
    assert anew.wait().error is None


def test_what_a_model_holds_is_bounded(gated: tuple[Sequences, Gate]) -> None:
    sequences, gate = gated
    held = push(sequences, 1, 60, first=True)
    assert gate.reached.wait(WAIT_SECONDS)
    with pytest.raises(InputError, match=r"sequence 2: got a chunk of .* are held, expected at most"):
        push(sequences, 2, 60, first=True)
    assert len(sequences) == 1
    with pytest.raises(InputError, match="sequence 1: got a chunk of"):
        push(sequences, 1, 60)
    with pytest.raises(InputError, match="sequence 1: is not running"):
        push(sequences, 1, 1)
    gate.opened.set()
    assert held.wait().error is None or "more than this model holds" in str(held.error)
    assert push(sequences, 2, 120, first=True, last=True).wait().error is None  # nothing else is held


def test_beginning_anew_makes_no_threads_without_end() -> None:
    gate = Gate()
    sequences = Sequences(lambda: Detector(gate), 1, WAIT_SECONDS, 1 << 30)
    for _ in range(2):
        gate.reached.clear()
        push(sequences, 1, 40, first=True)
        assert gate.reached.wait(WAIT_SECONDS)
    with pytest.raises(InputError, match="1 sequences are running"):
        push(sequences, 1, 40, first=True)
    gate.opened.set()
    sequences.close()


def test_a_start_begins_anew(make: Make) -> None:
    sequences, frames = make(), video(40)
    send(sequences, 1, video(20, seed=5), first=True)
    assert_equal(send_all(sequences, 1, frames, 40), frames, 1)


def test_a_sequence_that_is_never_ended_is_forgotten(make: Make) -> None:
    sequences = make(idle_s=0.05)
    send(sequences, 1, video(3), first=True)
    for _ in range(400):
        if not len(sequences):
            break
        threading.Event().wait(0.01)
    with pytest.raises(InputError, match="idle for too long"):
        send(sequences, 1, video(3))


def test_a_request_that_is_cancelled_ends_its_sequence(make: Make) -> None:
    told = Told()
    told.cancelled = True
    sequences = make()
    sequences.push(1, Chunk(video(100), True, told), first=True, fps=10.0)
    told.wait()
    assert told.parts == []
    assert "cancelled" in str(told.error)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((2, 0, 4, 3), np.uint8)]
)
def test_frames_of_another_kind(array: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"FRAMES: got .*, expected uint8 \[T,H,W,3\]"):
        as_frames(array, 1000)


def test_frames_are_bounded_and_copied() -> None:
    frames = video(4)
    with pytest.raises(InputError, match="expected at most 10"):
        as_frames(frames, 10)
    kept = as_frames(frames, frames.nbytes)
    assert not np.shares_memory(kept, frames)
    np.testing.assert_array_equal(kept, frames)
