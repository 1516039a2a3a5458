"""Read one source in a thread of its own: a file once, a live source for ever, whatever happens to it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import runtime
from runtime.common.text import one_line
from runtime.detector import Detector
from runtime.errors import AfsdError, VideoError
from runtime.inputs import Input, open_input
from runtime.live.clock import Clock
from runtime.live.events import Ended, Event, Failed, Gap, Lost, Reconnected, Started
from runtime.live.inbox import Due, EndOfStretch, Inbox, Stretch
from runtime.live.options import WatchOptions
from runtime.live.stretches import StretchReader
from runtime.results.facts import selection_facts
from runtime.streaming.windows import FeatureWindow
from runtime.video.prefetch import READING
from runtime.video.readers.base import Reader
from runtime.video.sources import is_live, is_remote, is_url, local_path, name_of
from runtime.windows import Window

FIRST_RETRY_SECONDS = 0.5
"""Seconds until a lost source is opened again for the first time; they double with every attempt."""
STEADY_SECONDS = 10.0
"""Seconds for which a connection must give frames for the waiting to start anew with FIRST_RETRY_SECONDS."""
OPENING_SECONDS = 60.0
"""Seconds that opening a source may take before it counts as hanging."""

State = Literal["opening", "reading", "lost", "ended", "failed"]
"""State of a source; "lost" also while it was never there."""

Open = Callable[[str | int], Reader]
"""Function that opens a source."""


@dataclass
class SourceCounts:
    """Counts what was read of a source; written by its thread alone."""

    frames: int = 0
    """Sampled frames."""
    gaps: int = 0
    losses: int = 0
    """Times that the source was lost."""
    reconnects: int = 0
    """Times that a lost source came back."""
    failures: int = 0
    """Attempts to open the source that failed."""
    read_ms: float = 0.0
    """Time of waiting for frames, decoding and resizing them, and of optical flow."""
    flow_ms: float = 0.0
    """Time of optical flow."""


class Source:
    """Reads one source in a thread and puts its windows, or frames, and events into an inbox."""

    def __init__(
        self,
        source: str | int,
        name: str,
        detector: Detector,
        options: WatchOptions,
        inbox: Inbox,
        open_source: Open,
        clock: Clock,
        chunk: int | None = None,
    ) -> None:
        """Prepare to read; nothing is opened before `start`.

        Args:
            source: file, URL or camera number.
            name: name of the source in events.
            detector: holds the model and the options of reading.
            options: how a live source is read.
            inbox: takes what is read.
            open_source: function that opens the source.
            clock: clock of arrivals.
            chunk: number of frames that are handed over at a time to a streaming network; None: windows are.
        """
        self.source, self.name, self.inbox = source, name, inbox
        self.label = name_of(source)[1]
        self.state: State = "opening"
        self.counts = SourceCounts()
        self.stopped = threading.Event()
        """Set to end the reading."""
        self.live = is_live(source)
        """Whether the source has no end; of a web address this is known once it is open."""
        self.late = 0.0
        """Seconds by which the latest frame of a live source came late."""
        self._detector, self._options, self._open = detector, options, open_source
        self._clock, self._chunk = clock, chunk
        self._latest = clock.now()
        self._zero: float | None = None
        self._end_s = 0.0
        self._end_moment = self._latest
        self._failed_in_a_row = 0
        self._attempts = 0
        self._lost_at: float | None = None
        self._too_slow = False
        self._thread = threading.Thread(target=self._run, name=f"{READING}{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def fresh(self) -> bool:
        """Whether the source is well: frames come, or it has ended, or it is being opened again."""
        idle = self._clock.now() - self._latest
        if self.state == "reading":
            return not self.live or idle < 2 * self._options.stall_seconds
        return self.state != "failed" and (self.state != "opening" or idle < OPENING_SECONDS)

    def _run(self) -> None:
        """Read until the end (the thread's body)."""
        try:
            self._follow()
        except (AfsdError, OSError) as error:
            self.state = "failed"
            self.inbox.put(Failed(self.name, self._clock.unix(), self._end_s, one_line(error)))
        except BaseException as error:
            self.state = "failed"
            self.inbox.put(error)
        finally:
            self.inbox.put(None)

    def _follow(self) -> None:
        """Open the source and read it; open a live source again whenever it is lost."""
        returns = may_be_live(self.source)
        while not self.stopped.is_set():
            self.state, self._latest = "opening", self._clock.now()
            try:
                reader = self._open(self.source)
            except VideoError as error:
                if not returns:
                    raise
                self.counts.failures += 1
                self._wait(error)
                continue
            with closing(reader):
                self.live = self.live or bool(reader.endless)
                if not self.live:
                    self._read_once(reader)
                    return
                lost = self._read_connection(reader)
            if lost is not None:
                self._wait(lost)

    def _read_once(self, reader: Reader) -> None:
        """Read a file; its windows wait for room, so that none is dropped."""
        self._say_started(None)
        self.state = "reading"
        with closing(self._open_video(reader, self._options.fps)) as video:
            stretch = Stretch(self._detector.find_in(video), video.rate)
            try:
                for window in self._count(video):
                    if self.stopped.is_set():
                        break
                    if window is not None:
                        self.inbox.put(Due(stretch, window), self.stopped)
            finally:
                self._end_s = video.timing.video_seconds
                self.inbox.put(EndOfStretch(stretch))
        if not self.stopped.is_set():
            self.state = "ended"
            self._say(Ended, seconds=self._end_s)

    def _read_connection(self, reader: Reader) -> VideoError | None:
        """Read a live source until it is lost, and return the reason; None: the reading was stopped."""
        frames = StretchReader(reader, self._clock, self._options, self.stopped.is_set)
        begun: float | None = None
        while frames.begin():
            start_s = self._announce(frames)
            begun = frames.arrived if begun is None else begun
            damaged: VideoError | None = None
            with closing(self._open_video(frames)) as video:
                stretch = Stretch(self._detector.find_in(video, endless=True), video.rate, start_s, frames.zero)
                try:
                    for window in self._count(video):
                        self._latest, self.late = frames.arrived, frames.late
                        if window is not None:
                            self.inbox.put(Due(stretch, window))
                except VideoError as error:
                    if not frames.at_end:  # at its end a stretch may hold less than one sampled frame
                        damaged = error.with_traceback(None)
            self._end_s, self._end_moment = start_s + frames.end, frames.zero.moment + frames.end
            self.inbox.put(EndOfStretch(stretch))
            if begun is not None and frames.arrived - begun >= STEADY_SECONDS:
                self._failed_in_a_row = 0
            if damaged is not None:
                return damaged
        self.counts.failures += begun is None
        self._too_slow = frames.too_slow
        return frames.lost

    def _announce(self, frames: StretchReader) -> float:
        """Report the first frame of a stretch, with the gap before it, and return the start of the stretch."""
        now, zero = frames.arrived, self._zero
        utc = self._clock.unix_of(now)
        self._latest, self.state = now, "reading"
        lost_at, self._lost_at = self._lost_at, None
        if zero is None:
            self._zero = now
            self._say_started(utc)
            return 0.0
        if lost_at is None:
            seconds, reason = frames.gap
            start_s = self._end_s + seconds
        else:
            self.counts.reconnects += 1
            self._say(Reconnected, attempts=self._attempts, lost_s=round(now - lost_at, 3))
            start_s, reason = max(now - zero, self._end_s), "the source was lost"
            if self._too_slow:
                reason = "decoding was too slow"
                self.inbox.drop_frames(round((start_s - self._end_s) * self._detector.spec.sample_fps))
        self.counts.gaps += 1
        ended = self._clock.unix_of(self._end_moment)  # `utc` is late by what it took to open the source
        span = (self._end_s, start_s), (ended, ended + start_s - self._end_s)
        self._say(Gap, segment=span[0], utc=span[1], reason=reason)
        return start_s

    def _say_started(self, utc: float | None) -> None:
        """Report the first frame, with the model and the threshold, which no later line says."""
        options = self._detector.options
        self._say(
            Started,
            source=self.label,
            utc=utc,
            model=self._detector.model,
            threshold=options.min_score,
            version=runtime.__version__,
            **selection_facts(options.exclusive, options.merge_gap, options.min_length),
        )

    def _wait(self, error: VideoError) -> None:
        """Wait before the next attempt to open the source, longer each time, and report the loss once."""
        self._failed_in_a_row += 1
        longest = min(FIRST_RETRY_SECONDS * 2 ** min(self._failed_in_a_row - 1, 30), self._options.retry_seconds)
        seconds = longest * (1 + random.random()) / 2  # which keeps sources from coming back in step
        if self._lost_at is None:
            self._lost_at, self._attempts = self._clock.now(), 0
            self.counts.losses += 1
            self._say(Lost, seconds=self._end_s, reason=one_line(error), retry_s=round(seconds, 3))
        self.state = "lost"
        self._attempts += 1
        self._clock.sleep(self.stopped, seconds)

    def _open_video(self, reader: Reader, fps: float | None = None) -> Input:
        reading = self._detector.options
        return open_input(
            reader,
            self._detector.spec,
            flow_method=reading.flow_method,
            fps=fps,
            batch_size=1,
            allow_truncated=reading.allow_truncated,
            frame_timing="presented" if self.live else reading.frame_timing,
            chunk=self._chunk,
        )

    def _count(self, video: Input) -> Iterator[Window | None]:
        """Yield the windows of a video, or its chunks of frames, and count what is read."""
        frames, read_ms, flow_ms = self.counts.frames, self.counts.read_ms, self.counts.flow_ms
        for window in video.windows():
            assert not isinstance(window, FeatureWindow)  # a streaming network runs in the watcher's loop
            self.counts.frames = frames + video.timing.frames
            self.counts.read_ms = read_ms + video.timing.wait_ms
            self.counts.flow_ms = flow_ms + video.timing.flow_ms
            yield window

    def _say(self, kind: type[Event], **details: Any) -> None:
        self.inbox.put(kind(self.name, self._clock.unix(), **details))


def may_be_live(source: str | int) -> bool:
    """Whether a source has no end, or is the address of a server, of which this is known once it is open."""
    return is_live(source) or (
        isinstance(source, str) and is_url(source) and not is_remote(source) and local_path(source) is None
    )
