"""Cut a live source into stretches without a gap, each of which is read as one video."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime.errors import SourceLostError, VideoError
from runtime.live.clock import Clock, StreamZero
from runtime.live.options import WatchOptions
from runtime.video.readers.base import Picture, Reader

LATEST_SECONDS = 10.0
"""Seconds, or twice the longest silence if that is more, by which frames may come late; then decoding is too slow."""


class StretchReader:
    """Reads one connection to a live source as one video after the other: a gap ends a video, `begin` starts the next.

    A gap is a time stamp that jumps ahead, or time stamps that begin anew. Its length is the jump, or, where frames
    arrive otherwise, the time that passed, since the time stamps of a source that has restarted say nothing.

    Every video has time 0 at its first frame, so whatever reads files reads stretches.
    """

    background = False
    endless: bool | None = False
    timed = True
    count: int | None = None
    duration: float | None = None
    longest_jump = 0.0

    def __init__(self, reader: Reader, clock: Clock, options: WatchOptions, stopped: Callable[[], bool]) -> None:
        """Take an open reader, which the caller closes.

        Args:
            reader: reader of the live source.
            clock: clock of the arrivals.
            options: its `gap_seconds` and `stall_seconds` are used.
            stopped: function that says whether to end as soon as the next frame is there.
        """
        self.name, self.label = reader.name, reader.label
        self.fps = reader.fps
        self._reader, self._clock, self._stopped = reader, clock, stopped
        self._gap_seconds = options.gap_seconds
        self._latest_s = max(LATEST_SECONDS, 2 * options.stall_seconds)
        self.time = self.end = 0.0
        self.arrived = clock.now()
        """Moment at which the latest frame arrived."""
        self.zero = StreamZero(self.arrived)
        """Moment of second 0 of the current stretch."""
        self.late = 0.0
        """Seconds by which the latest frame came later than the others of its stretch."""
        self.gap = (0.0, "")
        """Seconds and reason of the gap before the stretch that `begin` starts."""
        self.lost: VideoError | None = None
        """Error that ended the connection; None while it stands, and when `stopped` ended it."""
        self.over = False
        """Whether the connection has ended."""
        self.too_slow = False
        """Whether it was ended because decoding fell behind."""
        self._first = False
        self._origin = 0.0

    def begin(self) -> bool:
        """Wait for the first frame of the next stretch; return False if the connection ends before."""
        if not self._first and not self._advance():
            return False
        self._first = True
        self._origin, self.zero = self._reader.time, StreamZero(self.arrived)
        self.time, self.end, self.late = 0.0, self._reader.end - self._origin, 0.0
        return True

    def grab(self) -> bool:
        """See `Reader`; returns False at a gap, and where the connection ends."""
        if self._first:
            self._first = False
            return True
        ended, restarts = self._reader.end, _restarts(self._reader)
        if not self._advance():
            return False
        jump = self._reader.time - ended
        restarted = _restarts(self._reader) != restarts
        if restarted or jump > self._gap_seconds:
            passed = max(self.arrived - self.zero.moment - self.end, 0.0)
            by_stamps = not restarted and abs(jump - passed) <= self._gap_seconds
            reason = "the time stamps began anew" if restarted else f"the time stamps jumped by {jump:.1f} s"
            self.gap = jump if by_stamps else passed, reason
            self._first = True
            return False
        self.time, self.end = self._reader.time - self._origin, self._reader.end - self._origin
        self.late = self.zero.delay(self.arrived, self.time)
        if self.late > self._latest_s:
            self.too_slow, self.over = True, True
            self.lost = SourceLostError(
                f"{self.label}: decoding is {self.late:.0f} s behind, so the source is opened again where it is now"
            )
            return False
        return True

    @property
    def at_end(self) -> bool:
        """Whether the stretch has ended by a gap or with the connection."""
        return self._first or self.over

    def hold(self) -> Picture:
        """See `Reader`."""
        return self._reader.hold()

    def scan(self) -> tuple[int, float] | None:
        """See `Reader`."""
        return None

    def shortfall(self) -> str | None:
        """See `Reader`; a stretch lacks nothing."""
        return None

    def close(self) -> None:
        """Do nothing, since further stretches may follow."""

    def _advance(self) -> bool:
        """Grab the next frame of the source; return False, with the reason in `lost`, where the connection ends."""
        if self.over or self._stopped():
            self.over = True
            return False
        try:
            if not self._reader.grab():
                self.lost = SourceLostError(f"{self.label}: the stream ended or broke off")
        except VideoError as error:
            self.lost = error.with_traceback(None)  # which would hold this reader in a circle, and the decoder with it
        self.over = self.lost is not None
        if not self.over:
            self.arrived = self._clock.now()
        return not self.over


def _restarts(reader: Any) -> int:
    """Return how often a reader's time stamps began anew; 0 for readers that do not say."""
    return getattr(reader, "restarts", 0)
