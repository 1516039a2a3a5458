"""Run an iterator in a background thread, a bounded number of items ahead of its consumer."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import suppress
from queue import Empty, Queue
from typing import TypeVar

T = TypeVar("T")

CLOSE_SECONDS = 2.0
"""How long closing waits for a producer that hangs in a read (a dead network stream) before leaving it behind."""


def prefetch(items: Generator[T, None, None], depth: int) -> Generator[T, None, None]:
    """Yield what `items` yields, produced by a thread that runs at most `depth` items ahead.

    An exception of the producer is raised here, after the items before it. Closing this generator ends the thread
    and closes `items` in it.
    """
    queue: Queue[tuple[T] | BaseException | None] = Queue(maxsize=max(depth, 1))
    stop = threading.Event()
    worker = threading.Thread(target=_produce, args=(items, queue, stop), name="afsd-frames", daemon=True)
    worker.start()
    try:
        while (entry := queue.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        stop.set()
        deadline = time.monotonic() + CLOSE_SECONDS
        while worker.is_alive() and time.monotonic() < deadline:
            with suppress(Empty):
                queue.get_nowait()
            worker.join(timeout=0.01)


def _produce(
    items: Generator[T, None, None], queue: Queue[tuple[T] | BaseException | None], stop: threading.Event
) -> None:
    """Thread body: fill the queue until the items or the consumer end; None marks the end."""
    end: BaseException | None = None
    try:
        for item in items:
            queue.put((item,))
            if stop.is_set():
                break
    except BaseException as error:
        end = error
    finally:
        items.close()
        queue.put(end)
