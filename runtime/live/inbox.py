"""Hand over windows, or chunks of frames, from a reading thread to the engine, in bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from runtime.detector import Finder
from runtime.errors import InputError
from runtime.live.clock import StreamZero
from runtime.live.events import Event
from runtime.streaming.frames_to_windows import FramesToWindows
from runtime.windows import Window

POLL_SECONDS = 0.1
"""Longest sleep of a thread that waits for another, so that a signal is noticed."""


@dataclass(eq=False)
class Stretch:
    """Holds one stretch of a source without a gap, or a whole file, on its way through the engine."""

    finder: Finder
    """What turns raw outputs into detections."""
    rate: float
    """Sampled frames per second."""
    start_s: float = 0.0
    """Start in seconds from the first frame of the source."""
    zero: StreamZero | None = None
    """Moment of the start; None for a file."""
    seen: int = 0
    """Index of the frame, from the start of the stretch, up to which frames were seen or counted as dropped."""
    streamed: FramesToWindows | None = None
    """State of a streaming network; None before the first frame, and from dropped frames to the next one."""
    begin: int = 0
    """Index of the frame from which `finder` and `streamed` count: that after dropped frames, else 0."""

    def seconds(self, frame: float) -> float:
        """Return the seconds of the source at a frame of the stretch."""
        return self.start_s + frame / self.rate


@dataclass(frozen=True, eq=False)
class Due:
    """Holds a window that is to be looked at, or, of a streaming network, a chunk of frames that is to be taken."""

    stretch: Stretch
    window: Window


@dataclass(frozen=True, eq=False)
class EndOfStretch:
    """Marks the end of a stretch, where the rest of its detections is final."""

    stretch: Stretch


@dataclass
class Drops:
    """Counts dropped windows or frames of one stretch that are not reported yet."""

    stretch: Stretch
    start: int
    """First frame of the first of them."""
    end: int = 0
    """End of the last of them."""
    windows: int = 0
    """0 where frames are dropped, which no window holds yet."""
    frames: int = 0


Entry = Due | Drops | EndOfStretch | Event | BaseException | None
"""What a reading thread hands over; None: no more will come. An exception is an error of this project's code."""


class Inbox:
    """Holds what one reading thread has made, in order, until the engine takes it.

    A file's thread waits while `capacity` windows wait. A live source's thread never waits: the oldest window gives
    way, so the newest are seen. Frames of one window are always contiguous, and every detection lies in one window, so
    dropped windows need no new start; frames that are in no other window count as dropped.
    """

    def __init__(self, changed: threading.Condition, capacity: int) -> None:
        """Start empty.

        Args:
            changed: condition that all inboxes of a watch share; the engine's thread holds it while it looks.
            capacity: number of windows that may wait.
        """
        if capacity < 1:
            raise InputError(f"capacity: got {capacity}, expected at least 1 window")
        self._changed, self._capacity = changed, capacity
        self._entries: deque[Entry] = deque()
        self._windows = 0
        self._drops: list[Drops] = []
        self.dropped_windows = self.dropped_frames = 0
        """Numbers of dropped windows, and of frames that were seen in no window."""

    @property
    def head(self) -> Entry:
        """Entry that comes next; only while `waiting`."""
        return self._entries[0]

    @property
    def waiting(self) -> bool:
        """Whether an entry waits."""
        return bool(self._entries)

    def put(self, entry: Entry, stopped: threading.Event | None = None) -> None:
        """Add an entry; for a file, wait for room unless `stopped` is set, for a live source, make room.

        Args:
            entry: the entry.
            stopped: event that ends the waiting; None for a live source.
        """
        with self._changed:
            if not isinstance(entry, Due):
                self._append(entry)
            elif stopped is None:
                self._put_live(entry)
            else:
                while self._windows >= self._capacity and not stopped.is_set():
                    self._changed.wait(POLL_SECONDS)
                self._append(entry)
            self._changed.notify_all()

    def take(self) -> Entry:
        """Remove the entry that comes next and return it."""
        with self._changed:
            entry = self._entries.popleft()
            if isinstance(entry, Due):
                self._windows -= 1
                entry.stretch.seen = max(entry.stretch.seen, entry.window.offset + entry.window.length)
                self._changed.notify_all()
            return entry

    def take_drops(self) -> list[Drops]:
        """Return the drops since the last call."""
        drops, self._drops = self._drops, []
        return drops

    def drop_frames(self, count: int) -> None:
        """Count frames that were left out before they were decoded."""
        with self._changed:
            self.dropped_frames += count

    def _append(self, entry: Entry) -> None:
        self._windows += isinstance(entry, Due)
        self._entries.append(entry)

    def _put_live(self, due: Due) -> None:
        """Add a window of a live source, and drop the oldest one if there is no room."""
        self._append(due)
        if self._windows > self._capacity:
            self._drop()

    def _drop(self) -> None:
        """Drop the oldest window, and count its frames that are in no window before or after it."""
        index, gone = next((i, entry) for i, entry in enumerate(self._entries) if isinstance(entry, Due))
        del self._entries[index]
        self._windows -= 1
        stretch, window = gone.stretch, gone.window
        end = window.offset + window.length
        following = (e.window.offset for e in self._entries if isinstance(e, Due) and e.stretch is stretch)
        until = min(next(following, end), end)
        if not self._drops or self._drops[-1].stretch is not stretch:
            self._drops.append(Drops(stretch, window.offset))
        drops, lost = self._drops[-1], max(until - max(stretch.seen, window.offset), 0)
        stretch.seen = max(stretch.seen, until)
        drops.end, drops.windows, drops.frames = end, drops.windows + 1, drops.frames + lost
        self.dropped_windows += 1
        self.dropped_frames += lost


class FrameInbox(Inbox):
    """Holds chunks of frames for a streaming network, whose state needs every frame.

    A live source that fills it drops the chunks that come now, until the engine has taken all that wait; then a new
    state begins. So what is seen between two drops is contiguous, and at least as long as the inbox. The dropped frames
    are one entry, in their place.
    """

    def __init__(self, changed: threading.Condition, capacity: int) -> None:
        """See `Inbox`; `capacity` is in chunks."""
        super().__init__(changed, capacity)
        self._open: Drops | None = None

    def take(self) -> Entry:
        """See `Inbox`; dropped frames that are taken are complete, since frames are kept from then on."""
        with self._changed:
            entry = super().take()
            if entry is self._open:
                self._open = None
            return entry

    def _put_live(self, due: Due) -> None:
        """Add a chunk, or count its frames as dropped if there is no room, or if earlier ones were dropped."""
        if self._open is None and self._windows < self._capacity:
            self._append(due)
            return
        if self._open is None or self._open.stretch is not due.stretch:
            self._open = Drops(due.stretch, due.window.offset)
            self._append(self._open)
        self._open.end = due.window.offset + due.window.length
        self._open.frames += due.window.length
        self.dropped_frames += due.window.length
