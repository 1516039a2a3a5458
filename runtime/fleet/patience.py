"""End the process of an actor whose video makes no progress: a drive, a server or a decoder hangs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runtime.jobs.running import LIFE_S
from runtime.jobs.workers import LIVES


class Watch:
    """Watches what an actor has seen of its video, and ends the process after too long a silence.

    No thread can end another one that hangs in a library, so the process ends; Ray starts the actor again.
    """

    def __init__(
        self,
        seen: Callable[[], object],
        patience: float,
        hung: Callable[[int, float], None],
        end: Callable[[int], None] = os._exit,
    ) -> None:
        """Begin to watch.

        Args:
            seen: returns what changes as long as the work goes on.
            patience: seconds without a change after which the process ends.
            hung: called before the end with the number of the video and the seconds of silence.
            end: ends the process.
        """
        self._seen, self._patience, self._hung, self._end = seen, patience, hung, end
        self._every = min(LIFE_S, patience / LIVES)
        self._lock = threading.Lock()
        self._key: int | None = None
        self._silence = self._allowance = 0.0
        self._before: object = None
        self._looked = 0.0
        threading.Thread(target=self._watch, name="afsd-patience", daemon=True).start()

    @contextmanager
    def over(self, key: int, allowance: float = 0.0) -> Iterator[None]:
        """Watch the work on a video, which may be silent for some further seconds at its beginning."""
        with self._lock:
            self._key, self._silence, self._allowance = key, 0.0, allowance
            self._before, self._looked = self._seen(), time.monotonic()  # what came before is of another video
        try:
            yield
        finally:
            with self._lock:  # from here on this video ends no process
                self._key = None

    def _watch(self) -> None:
        """Look now and then (the thread's body); where the machine was suspended, that counts as two looks at most."""
        while True:
            time.sleep(self._every)
            with self._lock:
                now, seen = time.monotonic(), self._seen()
                self._silence += min(now - self._looked, 2 * self._every)
                self._looked = now
                if seen != self._before:
                    self._before, self._silence, self._allowance = seen, 0.0, 0.0
                if self._key is not None and self._silence > self._patience + self._allowance:
                    self._hung(self._key, self._silence)
                    self._end(1)
                    return
