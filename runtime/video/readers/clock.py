"""Turn the time stamps of a container into seconds on the clock of a player."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

RESTART_SECONDS = 1.0
"""Step back from which on time stamps count as begun anew."""
LONGEST_GAP_SECONDS = 3600.0
"""Longest step of a file that is a pause; a longer one is a new beginning, or a damaged stamp that would cost days."""
LONGEST_LIVE_GAP_SECONDS = 10.0
"""The same of a live source whose stamps may begin anew; the clock on the wall says how long a longer pause was."""


class StreamClock:
    """Turns time stamps into seconds that never decrease.

    Containers round time stamps to ticks: Matroska to milliseconds, which is 0.6 ms beside a frame of 29.97 fps. A
    stamp within one tick of its place at the declared rate is put there, so that files of constant rate are sampled as
    if they were counted. Stamps that step back, as in files joined end to end, go on where the picture stood; so do
    those that step forward by too much for a gap. Those of a live source, whose camera has restarted, go on after as
    many seconds as have passed. A single damaged stamp is no new beginning: the next ones are where they would be.
    """

    def __init__(
        self,
        tick: float,
        rate: Fraction | None,
        start: float,
        restarts: bool = False,
        now: Callable[[], float] | None = None,
    ) -> None:
        """Start the clock.

        Args:
            tick: seconds per tick of the time base.
            rate: frames per second that the container declares; None if none.
            start: stamp, in seconds, of the start of the source.
            restarts: whether the stamps of the format may begin anew, as in MPEG transport streams.
            now: function that returns the seconds of the clock on the wall, for a live source; None for a file.
        """
        self.time = 0.0
        """Seconds at which the latest frame appears."""
        self.end = 0.0
        """Seconds at which the latest frame disappears, if it is the last."""
        self.times_restarted = 0
        """Number of times that stamps began anew and went on where the picture stood."""
        self.longest_jump = 0.0
        """Longest step forward, in seconds, that was taken for a new beginning."""
        self._former, self._restarted_at = 0.0, -math.inf
        self._tick = tick
        self._rate = float(rate) if rate else None
        if self._rate is not None and not 1 / LONGEST_GAP_SECONDS < self._rate < 0.5 / tick:  # not a rate of frames
            self._rate = None
        self._start = start
        self._restarts = restarts
        self._now = now
        self._arrived = 0.0
        self._first: float | None = None

    def advance(self, stamp: float | None, duration: int | None) -> None:
        """Take the time stamp and the duration, in ticks, of the next frame; None or 0 if the container has none."""
        if stamp is None:
            self._set(self.end, self._length_of(duration))
            return
        if self._first is None:
            self._first = stamp
            self._offset, _ = self._snap(stamp * self._tick - self._start, 0.0)
        since = (stamp - self._first) * self._tick
        place, length = self._snap(since, self._length_of(duration))
        time = self._offset + place
        gap = time - self.end if stamp != self._first else 0.0
        if abs(gap) > RESTART_SECONDS and self.time <= self._restarted_at + RESTART_SECONDS:
            before = self._former + place
            if abs(before - self.end) <= RESTART_SECONDS:  # a single stamp was damaged, not the order of the file
                self._offset, time, gap = self._former, before, 0.0
                self.times_restarted -= 1
        longest = LONGEST_LIVE_GAP_SECONDS if self._now is not None and self._restarts else LONGEST_GAP_SECONDS
        if gap > longest or time < self.time - RESTART_SECONDS:
            self.times_restarted += 1
            self.longest_jump = max(self.longest_jump, gap)
            self._former, self._restarted_at = self._offset, self.end
            resumed = self.end if self._now is None else max(self.time + self._now() - self._arrived, self.end)
            self._offset += resumed - time
            time = resumed
        self._set(max(time, self.time), length)

    def foresee(self, stamp: int) -> float | None:
        """Return the seconds at which a frame will appear if no stamp before it begins anew; None before the first."""
        if self._first is None:
            return None
        return self._offset + self._snap((stamp - self._first) * self._tick, 0.0)[0]

    def _snap(self, since: float, length: float) -> tuple[float, float]:
        if self._rate is None:
            return since, length
        place = round(since * self._rate) / self._rate
        if abs(place - since) > self._tick:
            return since, length
        usual = 1 / self._rate
        return place, usual if abs(length - usual) <= self._tick else length

    def _length_of(self, duration: int | None) -> float:
        if duration and duration * self._tick <= LONGEST_GAP_SECONDS:
            return duration * self._tick
        return 1 / self._rate if self._rate is not None else 0.0

    def _set(self, time: float, length: float) -> None:
        self.time, self.end = time, time + length
        if self._now is not None:
            self._arrived = self._now()


class Clocked:
    """Gives a reader the times of its clock."""

    _clock: StreamClock

    @property
    def time(self) -> float:
        """See `Reader`."""
        return self._clock.time

    @property
    def end(self) -> float:
        """See `Reader`."""
        return self._clock.end

    @property
    def longest_jump(self) -> float:
        """See `Reader`."""
        return self._clock.longest_jump
