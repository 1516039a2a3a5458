"""Follow sequences of frame chunks, each with a detector and a thread of its own, in bounded number and time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.common.ranges import FramesPerSecond, require_in_range
from runtime.detector import Detector
from runtime.errors import InputError, RequestCancelledError
from runtime.results.detections import Detections
from runtime.video.prefetch import READING

SequenceId = int | str
JOIN_SECONDS = 5.0
"""Longest wait for the sequences to stop when the server ends."""
BEGUN_ANEW = "ended by a new START of its id; give each stream an id of its own"
TOO_MUCH = "ended, since its chunks were more than this model holds"
ENDING = 2
"""Most threads for each sequence that may run: those that were begun anew or abandoned end only with their window."""


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
        self._reason: InputError | None = None
        self._thread = threading.Thread(target=self._run, name=f"{READING}sequence", daemon=True)
        self._thread.start()

    def push(self, chunk: Chunk) -> None:
        """Hand over the next chunk."""
        self._waiting.put(chunk)

    def abandon(self, why: str) -> None:
        """End the sequence where it stands; chunks that are looked at or wait are answered with an error that says why.

        Args:
            why: what follows the name of the sequence in the error.
        """
        self._reason = InputError(f"{self._name}: {why}")
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
        self._refuse_rest(error if self._answer is None else None)  # such as a rate that is none: nobody knows it yet

    def _chunks(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames of the chunks; when the next is asked for, all of the one before has been looked at."""
        while True:
            try:
                chunk = self._waiting.get(timeout=self._idle_s)
            except queue.Empty:
                raise InputError(
                    f"{self._name}: no chunk came for {self._idle_s:g} s; begin it again with START"
                ) from None
            if chunk is not None:
                self._answer = chunk.answer
            if chunk is None or self._reason is not None:
                raise self._reason or not_running(self._name)
            yield chunk.frames
            if chunk.last:
                return
            self._answer = None
            chunk.answer.done()

    def _give(self, part: Detections) -> None:
        if self._answer is None:  # the sequence was idle for too long: nobody is there to be told
            return
        if self._reason is not None:
            raise self._reason
        if self._answer.cancelled:
            raise RequestCancelledError(f"{self._name}: the request was cancelled")
        self._answer.found(Detections(part.segments, part.labels, part.scores, part.classes, self._name))

    def _refuse_rest(self, error: Exception | None) -> None:
        """Answer chunks that came too late; `error`: what ended the sequence, unless somebody was told."""
        with suppress(queue.Empty, Exception):
            while True:
                chunk = self._waiting.get_nowait()
                if chunk is not None:
                    chunk.answer.failed(self._reason or error or not_running(self._name))


class _Held:
    """Hands over what is found while a chunk is held, and says when it is held no more."""

    def __init__(self, answer: Answer, release: Callable[[], None]) -> None:
        self._answer, self._release = answer, release

    @property
    def cancelled(self) -> bool:
        """See `Answer`."""
        return self._answer.cancelled

    def found(self, detections: Detections) -> None:
        """See `Answer`."""
        self._answer.found(detections)

    def done(self) -> None:
        """See `Answer`."""
        self._release()
        self._answer.done()

    def failed(self, error: Exception) -> None:
        """See `Answer`."""
        self._release()
        self._answer.failed(error)


class Sequences:
    """Follows the sequences of one instance, by their ids, in bounded number and memory."""

    def __init__(self, make: Callable[[], Detector], most: int, idle_s: float, most_bytes: int) -> None:
        """Start without sequences.

        Args:
            make: function that makes a detector for one sequence.
            most: largest number of sequences at a time.
            idle_s: longest wait for the next chunk of a sequence.
            most_bytes: most bytes of chunks that are held at a time; a single one may have more.
        """
        self._make, self._most, self._idle_s, self._most_bytes = make, most, idle_s, most_bytes
        self._running: dict[SequenceId, Sequence] = {}
        self._alive = self._held = 0
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._running)

    def push(self, key: SequenceId, chunk: Chunk, *, first: bool, fps: float | None) -> None:
        """Hand a chunk to its sequence; a first one begins it, and ends an earlier sequence of the same id.

        Nothing waits here: a chunk for which there is no room is refused, and its sequence is ended, since a later one
        would leave a gap.

        Args:
            key: id of the sequence.
            chunk: the chunk, whose answer gets all that follows.
            first: whether it begins the sequence.
            fps: frames per second of the frames; only the first chunk's is used.

        Raises:
            InputError: no frame rate with the first chunk, a later one of a sequence that is not running, too many
                sequences, or too many bytes.
        """
        name = f"sequence {key}"
        with self._lock:
            running = self._running.get(key)
            if first and running is not None:
                self._running.pop(key).abandon(BEGUN_ANEW)
            if not first and running is None:
                raise not_running(name)
            if first:
                self._check_first(name, fps)
            if self._held and self._held + chunk.frames.nbytes > self._most_bytes:
                if not first:
                    self._running.pop(key).abandon(TOO_MUCH)
                raise InputError(
                    f"{name}: got a chunk of {chunk.frames.nbytes:,} bytes while {self._held:,} are held, expected at "
                    f"most {self._most_bytes:,} in all; send each chunk when the one before is answered; begin again"
                )
            if first:
                assert fps is not None  # _check_first
                running = Sequence(self._make(), name, fps, self._idle_s, lambda ended: self._forget(key, ended))
                self._running[key] = running
                self._alive += 1
            assert running is not None
            running.push(self._hold(chunk))

    def close(self) -> None:
        """End all sequences."""
        with self._lock:
            running = list(self._running.values())
        for sequence in running:
            sequence.abandon("ended, since the server takes the model away")
        for sequence in running:
            sequence.join(JOIN_SECONDS)

    def _check_first(self, name: str, fps: float | None) -> None:
        if fps is None:
            raise InputError(f"{name}: FPS is missing in its first chunk; give the true rate of the frames")
        require_in_range("FPS", fps, FramesPerSecond)
        if len(self._running) >= self._most or self._alive >= ENDING * self._most:
            raise InputError(f"{name}: {self._most} sequences are running, the most there may be; try again later")

    def _hold(self, chunk: Chunk) -> Chunk:
        """Count the bytes of a chunk until it is answered."""
        size = chunk.frames.nbytes

        def release() -> None:
            with self._lock:
                self._held -= size

        self._held += size
        return replace(chunk, answer=_Held(chunk.answer, release))

    def _forget(self, key: SequenceId, ended: Sequence) -> None:
        with self._lock:
            self._alive -= 1
            if self._running.get(key) is ended:
                del self._running[key]


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
