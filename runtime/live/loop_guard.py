"""Look whether a watch works: tell the supervisor while it does, and end the process if it hangs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from runtime.common.console import EXIT_HUNG, print_error
from runtime.common.supervisor import ALIVE, notify, watchdog_seconds
from runtime.errors import EngineError

LONGEST_LOOK_S = 1.0
"""Longest time in seconds between two looks at the loop."""
LOOKS = 4
"""Looks in the shortest time after which somebody acts."""
SAY_S = 0.5
"""Seconds that the last line may take: a loop that hangs may do so because nobody reads what is printed."""


class Guarded(Protocol):
    """Tells whether it works."""

    def loop_age(self) -> float:
        """Return the seconds since its loop last turned."""
        ...

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the loop turns and not all sources hang, and details."""
        ...


class LoopGuard:
    """Looks at a watch in a thread, for as long as the block lasts; a context manager.

    A supervisor that asks for signs of life gets them only while the loop turns and a source is well. So it ends and
    restarts a process whose engine hangs in a driver, whose output nobody reads, or whose readers all hang.
    """

    def __init__(
        self, watched: Guarded, hung_s: float | None = None, end: Callable[[float], object] | None = None
    ) -> None:
        """Take what is looked at.

        Args:
            watched: the watch.
            hung_s: seconds after which the process is ended here, for supervisors that act on its end alone, as
                Docker; None: it is not.
            end: function that ends the process, in place of the one with the status `EXIT_HUNG`.
        """
        self._watched, self._hung_s, self._end = watched, hung_s, end or end_hung
        self._watchdog_s = watchdog_seconds()
        shortest = min(seconds / LOOKS for seconds in (hung_s, self._watchdog_s, LOOKS * LONGEST_LOOK_S) if seconds)
        self._look_s = min(shortest, LONGEST_LOOK_S)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="afsd-loop-guard", daemon=True)

    def __enter__(self) -> LoopGuard:
        if self._hung_s or self._watchdog_s:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _run(self) -> None:
        """Look until the block ends (the thread's body)."""
        was_well = time.monotonic()
        while not self._done.wait(self._look_s):
            age, (well, _) = self._watched.loop_age(), self._watched.health()
            was_well = time.monotonic() if well else was_well
            if self._watchdog_s and well and age <= 2 * self._look_s:  # it has turned since the look before the last
                notify(ALIVE)
            hung = max(age, time.monotonic() - was_well)
            if self._hung_s and hung > self._hung_s and not self._done.is_set():
                self._end(hung)
                return


def end_hung(seconds: float) -> None:
    """Say that the watch hangs, and end the process at once with the status `EXIT_HUNG`."""
    error = EngineError(
        f"the watch hangs: its loop has not turned, or all its sources have been silent, for {seconds:.0f} s, so the "
        "process ends; its supervisor starts it again"
    )
    saying = threading.Thread(target=print_error, args=(error,), name="afsd-say", daemon=True)
    saying.start()
    saying.join(SAY_S)
    os._exit(EXIT_HUNG)
