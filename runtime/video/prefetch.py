"""Run an iterator in a background thread, a bounded number of items ahead of its consumer."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Queue
from typing import TypeVar

T = TypeVar("T")

READING = "afsd-"
"""Beginning of the names of threads that read sources."""
CLOSE_SECONDS = 2.0
"""Longest wait for the producer when closing; a producer that hangs in a read (dead network stream) is abandoned."""


@dataclass
class ReadingTime:
    """Holds what reading a source has taken so far, wherever it ran; updated while it runs."""

    work_s: float = 0.0
    """Seconds of decoding, sampling, resizing and flow, waiting for a slow source included."""
    blocked_s: float = 0.0
    """Seconds that a reading thread waited because its consumer had frames enough."""
    cpu_s: float = 0.0
    """CPU seconds of the reading thread, its decoder's own threads not included; 0 until the thread has ended."""


class Prefetch(Iterator[T]):
    """Yields the items of a generator from a thread that runs at most `depth` items ahead.

    An exception of the generator is raised to the consumer, after the items before it. The thread starts at the first
    `next`; closing ends the thread, which closes the generator.
    """

    def __init__(self, items: Generator[T, None, None], depth: int, time_taken: ReadingTime | None = None) -> None:
        self._queue: Queue[tuple[T] | BaseException | None] = Queue(maxsize=max(depth, 1))
        self._stop = threading.Event()
        arguments = (items, self._queue, self._stop, ReadingTime() if time_taken is None else time_taken)
        self._worker = threading.Thread(target=_produce, args=arguments, name=f"{READING}frames", daemon=True)
        self._started = self._ended = False

    @property
    def ready(self) -> bool:
        """Whether the next item, or the end, is available without waiting."""
        return self._ended or not self._queue.empty()

    def __next__(self) -> T:
        if self._ended:
            raise StopIteration
        if not self._started:
            self._started = True
            self._worker.start()
        entry = self._queue.get()
        if isinstance(entry, tuple):
            return entry[0]
        self.close()
        if entry is None:
            raise StopIteration
        raise entry

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Stop the thread; safe to call more than once."""
        self._ended = True
        self._stop.set()
        deadline = time.monotonic() + CLOSE_SECONDS
        while self._worker.is_alive() and time.monotonic() < deadline:
            with suppress(Empty):
                self._queue.get_nowait()
            self._worker.join(timeout=0.01)


def _produce(
    items: Generator[T, None, None],
    queue: Queue[tuple[T] | BaseException | None],
    stop: threading.Event,
    taken: ReadingTime,
) -> None:
    """Fill the queue until the items or the consumer end (the thread's body); None marks the end."""
    end: BaseException | None = None
    begun = time.perf_counter()
    try:
        for item in items:
            made = time.perf_counter()
            taken.work_s += made - begun
            queue.put((item,))
            begun = time.perf_counter()
            taken.blocked_s += begun - made
            if stop.is_set():
                break
    except BaseException as error:
        end = error
    finally:
        items.close()
        taken.work_s += time.perf_counter() - begun
        taken.cpu_s = time.thread_time()
        queue.put(end)
