"""Follow sequences of frame chunks, each with a detector and a thread of its own, in bounded number and time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.common.ranges import FramesPerSecond, require_in_range
from runtime.detector import Detector
from runtime.errors import InputError
from runtime.results.detections import Detections
from runtime.video.prefetch import READING

SequenceId = int | str
JOIN_SECONDS = 5.0
"""Longest wait for the sequences to stop when the server ends."""


class Answer(Protocol):
    """Takes what is found while one chunk is looked at."""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        ...

    def found(self, detections: Detections) -> None:
        """Give out detections that are final; at the end of a sequence, after the rest of them, none."""
        ...

    def done(self) -> None:
        """End the answer; the next chunk may come."""
        ...

    def failed(self, error: Exception) -> None:
        """End the answer with an error, which also ends the sequence."""
        ...


@dataclass(frozen=True)
class Chunk:
    """Holds one request of a sequence."""

    frames: NDArray[np.uint8]
    """Frames [T,H,W,3] RGB; T may be 0."""
    last: bool
    answer: Answer


class Sequence:
    """Runs the detections of one sequence, in a thread of its own, from its first chunk to its last."""

    def __init__(
        self, detector: Detector, name: str, fps: float, idle_s: float, ended: Callable[[Sequence], None]
    ) -> None:
        """Start the thread, which waits for the first chunk.

        Args:
            detector: used by this sequence alone.
            name: name of the video in the results.
            fps: frames per second of the frames.
            idle_s: longest wait for a chunk.
            ended: function that is called when the sequence takes no further chunk.
        """
        self._detector, self._name, self._fps, self._idle_s, self._ended = detector, name, fps, idle_s, ended
        self._waiting: queue.SimpleQueue[Chunk | None] = queue.SimpleQueue()
        self._answer: Answer | None = None
        self._thread = threading.Thread(target=self._run, name=f"{READING}sequence", daemon=True)
        self._thread.start()

    def push(self, chunk: Chunk) -> None:
        """Hand over the next chunk."""
        self._waiting.put(chunk)

    def abandon(self) -> None:
        """End the sequence where it stands; a chunk that waits is answered with an error."""
        self._waiting.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the thread, at most so long."""
        self._thread.join(seconds)

    def _run(self) -> None:
        error: Exception | None = None
        try:
            with closing(self._detector.stream(self._chunks(), fps=self._fps)) as parts:  # type: ignore[type-var]
                for part in parts:
                    self._give(part)
            self._give(Detections.empty(self._detector.spec.classes))
        except Exception as failure:  # of this sequence alone
            error = failure
        self._ended(self)  # before the answer: whoever has it may begin anew
        with suppress(Exception):  # of the server, which goes away
            if self._answer is not None:
                if error is None:
                    self._answer.done()
                else:
                    self._answer.failed(error)
        self._refuse_rest()

    def _chunks(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames of the chunks; when the next is asked for, all of the one before has been looked at."""
        while True:
            try:
                chunk = self._waiting.get(timeout=self._idle_s)
            except queue.Empty:
                chunk = None
            if chunk is None:
                raise InputError(f"{self._name}: no chunk came for {self._idle_s:g} s; begin it again with START")
            self._answer = chunk.answer
            yield chunk.frames
            if chunk.last:
                return
            self._answer = None
            chunk.answer.done()

    def _give(self, part: Detections) -> None:
        if self._answer is None:  # the sequence was idle for too long: nobody is there to be told
            return
        if self._answer.cancelled:
            raise InputError(f"{self._name}: the request was cancelled")
        self._answer.found(Detections(part.segments, part.labels, part.scores, part.classes, self._name))

    def _refuse_rest(self) -> None:
        """Answer chunks that came too late."""
        with suppress(queue.Empty, Exception):
            while True:
                chunk = self._waiting.get_nowait()
                if chunk is not None:
                    chunk.answer.failed(not_running(self._name))


class Sequences:
    """Follows the sequences of one instance, by their ids."""

    def __init__(self, make: Callable[[], Detector], most: int, idle_s: float, wait_s: float) -> None:
        """Start without sequences.

        Args:
            make: function that makes a detector for one sequence.
            most: largest number of sequences at a time.
            idle_s: longest wait for the next chunk of a sequence.
            wait_s: longest wait of a first chunk until fewer sequences are running.
        """
        self._make, self._most, self._idle_s, self._wait_s = make, most, idle_s, wait_s
        self._running: dict[SequenceId, Sequence] = {}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._running)

    def push(self, key: SequenceId, chunk: Chunk, *, first: bool, fps: float | None) -> None:
        """Hand a chunk to its sequence; a first one begins it, and ends an earlier sequence of the same id.

        While the most sequences are running, a first chunk waits, and with it this call.

        Args:
            key: id of the sequence.
            chunk: the chunk, whose answer gets all that follows.
            first: whether it begins the sequence.
            fps: frames per second of the frames; only the first chunk's is used.

        Raises:
            InputError: no frame rate with the first chunk, a later one of a sequence that is not running, or too many.
        """
        name = f"sequence {key}"
        with self._changed:
            running = self._running.get(key)
            if not first:
                if running is None:
                    raise not_running(name)
                running.push(chunk)
                return
            if running is not None:
                self._running.pop(key).abandon()
            if fps is None:
                raise InputError(f"{name}: FPS is missing in its first chunk; give the true rate of the frames")
            require_in_range("FPS", fps, FramesPerSecond)
            if not self._changed.wait_for(lambda: len(self._running) < self._most, self._wait_s):
                raise InputError(f"{name}: {self._most} sequences are running, the most there may be; try again later")
            begun = Sequence(self._make(), name, fps, self._idle_s, lambda ended: self._forget(key, ended))
            self._running[key] = begun
            begun.push(chunk)

    def close(self) -> None:
        """End all sequences."""
        with self._changed:
            running = list(self._running.values())
        for sequence in running:
            sequence.abandon()
        for sequence in running:
            sequence.join(JOIN_SECONDS)

    def _forget(self, key: SequenceId, ended: Sequence) -> None:
        with self._changed:
            if self._running.get(key) is ended:
                del self._running[key]
                self._changed.notify_all()


def not_running(name: str) -> InputError:
    """Return the error for a chunk of a sequence that is not running."""
    return InputError(
        f"{name}: is not running: it has not begun, has ended, failed, or was idle for too long; begin it with START"
    )


def as_frames(array: Any, largest: int) -> NDArray[np.uint8]:
    """Return the frames of a request as an array of its own, uint8 [T,H,W,3].

    Raises:
        InputError: another type or shape, or more bytes than `largest`.
    """
    frames = np.asarray(array)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape[1:]:
        raise InputError(
            f"FRAMES: got {frames.dtype} {list(frames.shape)}, expected uint8 [T,H,W,3] (RGB); at the END T may be 0"
        )
    if frames.nbytes > largest:
        raise InputError(f"FRAMES: got {frames.nbytes:,} bytes, expected at most {largest:,}; send shorter chunks")
    return frames.copy()  # the server's memory ends with the request
