"""Keep the time of live sources: a clock that tests can replace, and the wall-clock moment of a second of a stream."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

DRIFT_SECONDS = 600.0
"""Seconds after which a stream's zero is set anew, since the clock of a camera drifts by seconds a day."""


@dataclass(frozen=True)
class Clock:
    """Holds the two clocks of a machine, and how to wait."""

    now: Callable[[], float] = time.monotonic
    """Seconds that never step, from any start."""
    unix: Callable[[], float] = time.time
    """Unix time in seconds, which an administrator or NTP may step."""

    sleep: Callable[[threading.Event, float], object] = threading.Event.wait
    """Function that waits for an event, for some seconds at most."""

    def unix_of(self, moment: float) -> float:
        """Return the Unix time of a `moment` of `now`, by what the Unix clock says at present."""
        return self.unix() - (self.now() - moment)


class StreamZero:
    """Estimates the moment of a stream's second 0 from the arrival of its frames.

    A frame arrives at the moment that it shows, plus a delay that varies. The least delay of the last minutes is taken
    for none: a frame that arrives early, as in the burst of a server's buffer, moves the zero at once; a camera whose
    clock is slow moves it every DRIFT_SECONDS.
    """

    def __init__(self, arrived: float) -> None:
        """Start with the arrival of the frame of second 0."""
        self.moment = arrived
        """Moment of second 0, on the clock of arrivals."""
        self._least, self._since = math.inf, arrived

    def delay(self, arrived: float, seconds: float) -> float:
        """Take the arrival of the frame of `seconds`, and return by how much the frame is late."""
        late = arrived - self.moment - seconds
        if late < 0:
            self.moment += late
            self._least = late = 0.0
        self._least = min(self._least, late)
        if arrived - self._since >= DRIFT_SECONDS:
            self.moment += self._least
            late -= self._least
            self._least, self._since = math.inf, arrived
        return late
