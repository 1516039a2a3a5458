"""Watch several sources with one engine: windows, or frames, of all of them in, events out."""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from runtime.common.files import exists
from runtime.detector import Detector
from runtime.engines.pipeline import OverlappingEngine, as_overlapping
from runtime.engines.streaming import StreamingEngine
from runtime.errors import EngineError, InputError, VideoError
from runtime.inputs import AnyWindow
from runtime.live.clock import Clock
from runtime.live.delay import Delay, worst_delay
from runtime.live.events import Detected, Dropped, Event, Stopped
from runtime.live.inbox import POLL_SECONDS, Drops, Due, EndOfStretch, FrameInbox, Inbox, Stretch
from runtime.live.numbers import SourceNumbers, WatchNumbers
from runtime.live.options import WatchOptions
from runtime.live.source import Open, Source, may_be_live
from runtime.results.detections import Detections
from runtime.results.video_names import take_name
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import LIVE_CHUNK, STREAMING_CHUNK
from runtime.streaming.frames_to_windows import FramesToWindows
from runtime.timing import Timing
from runtime.video.readers.base import Reader
from runtime.video.readers.choice import open_reader
from runtime.video.sources import NamedSource, local_path, name_of

PENDING_WINDOWS = 2
"""Windows of a source that may wait for the engine; more would make detections later when the machine is too slow. For
a streaming network the frames of one window may wait, but at least so many chunks."""
MAX_BATCH = 8
"""Largest batch that is chosen by the number of sources."""
STOP_SECONDS = 1.5
"""Seconds after which a stopped watch looks at no further window."""
HANGING_SECONDS = 0.5
"""Seconds for which a stopped watch waits for readers that do not answer."""
ALIVE_SECONDS = 30.0
"""Seconds that a turn of the engine's loop, or a call of the engine in it, may take before the watch counts as
hanging."""


Note = Event | Drops | EndOfStretch | BaseException | None
"""What is handled beside windows; see `runtime.live.inbox.Entry`."""

_Flying = deque[tuple[list[tuple[Source, Due]], Any]]
"""Batches in flight, each with its ticket."""

_Complete = list[tuple[Source, Stretch, AnyWindow]]
"""Windows that are to be looked at, each with where it comes from."""


@dataclass
class _Tally:
    """Counts what was found in a source; written by the engine's loop alone."""

    windows: int = 0
    seconds: float = 0.0
    """End of the newest window that was looked at."""
    lag_s: float = 0.0
    """Seconds from the moment of that window's last frame to its results."""
    found: Counter[str] = field(default_factory=Counter)
    """Detections by class."""
    settlements: int = 0
    """Chains of candidates that were settled before their end."""


class Watcher:
    """Watches several sources; iterate over it, once, for the events.

    Each source is read in a thread of its own. The loop that runs the engine is the iteration itself, so a consumer
    that is slow makes live sources drop windows. Windows that are due go through the engine together, as many as the
    detector's batch size; those of live sources come first, in turn, and none waits for another.

    A streaming network takes a chunk of frames of each source in turn, with the state of that source, and the windows
    that the chunks complete go through its head together. Its state ends with a stretch, and where frames are dropped.

    The iteration ends when all sources have ended, or after `stop`. Closing it ends the reading without further events.
    """

    def __init__(
        self,
        detector: Detector,
        sources: Sequence[str | int | NamedSource],
        options: WatchOptions | None = None,
        *,
        clock: Clock | None = None,
        open_source: Open | None = None,
    ) -> None:
        """Check the model and the sources; nothing is opened yet.

        Args:
            detector: the model and how to read and detect; not used for anything else meanwhile.
            sources: URLs of streams, camera numbers, and files, which are read once and to their ends.
            options: see `WatchOptions`.
            clock: clock of frames and of days, in place of the machine's.
            open_source: function in place of the one that opens sources.

        Raises:
            InputError: the model sees features or whole videos, nms is "reference", or there are no sources.
            VideoError: a file is missing.
        """
        _check_model(detector)
        self._detector = detector
        self._options = WatchOptions() if options is None else options
        self._clock = Clock() if clock is None else clock
        self._changed = threading.Condition()
        self._network = detector.engine if isinstance(detector.engine, StreamingEngine) else None
        named = _name_sources(sources)
        self._chunk = None if self._network is None else _choose_chunk([source for source, _ in named])
        self._stop = False
        self._beat = time.monotonic()
        self._timing = Timing(detector.spec.sample_fps)
        self._running = False
        self._stopped_at: float | None = None
        self._turn = 0
        self._call_s = 0.0
        self._sources = [
            Source(
                source,
                name,
                detector,
                self._options,
                self._make_inbox(),
                open_source or self._open,
                self._clock,
                self._chunk,
            )
            for source, name in named
        ]
        self._tallies = {source: _Tally() for source in self._sources}
        self._current: dict[Source, Stretch] = {}
        self._done: set[Source] = set()

    @property
    def delay(self) -> Delay:
        """Longest times from the end of an action to its detection."""
        spec = self._detector.spec
        options = self._detector.options
        return worst_delay(
            spec,
            options.horizon(spec, endless=True),
            exclusive=options.exclusive != "none",
            merge_gap_s=options.merge_gap,
        )

    @property
    def names(self) -> list[str]:
        """Names of the sources in events; of two with one name, the second is numbered."""
        return [source.name for source in self._sources]

    @property
    def failed(self) -> bool:
        """Whether a source was given up."""
        return any(source.state == "failed" for source in self._sources)

    def stop(self) -> None:
        """End the watch: what is final is still given out, and the iteration ends within two seconds.

        May be called from a signal handler, since it takes no lock.
        """
        self._stop = True

    def __iter__(self) -> Iterator[Event]:
        """Read the sources, run the engine, and yield events.

        Raises:
            EngineError: the network failed or gave NaN; what is final is given out before.
        """
        if self._running:
            raise InputError("the watch has been started before; make a new Watcher")
        self._running = True
        pipe, flying = as_overlapping(self._detector.engine), _Flying()
        failure: EngineError | None = None
        for source in self._sources:
            source.start()
        try:
            while not self._over(flying):
                notes, batch = self._take(flying)
                try:
                    for source, note in notes:
                        yield from self._handle(source, note)
                    if batch and self._network is not None:
                        yield from self._take_frames(batch, self._network)
                    elif batch:
                        begun = time.monotonic()
                        with self._timing.engine():
                            flying.append((batch, pipe.submit(self._detector.stack([due.window for _, due in batch]))))
                        self._call_s = time.monotonic() - begun
                    while len(flying) > (pipe.depth - 1 if batch else 0):
                        yield from self._collect(pipe, flying)
                except EngineError as error:
                    failure = error
                    break
            while flying:
                try:
                    yield from self._collect(pipe, flying)
                except EngineError as error:
                    failure = failure or error
            for source in self._sources:
                if source not in self._done:
                    yield from self._abandon(source)
            if failure is not None:
                raise failure
        finally:
            for source in self._sources:
                source.stopped.set()
            for _, ticket in flying:  # the caller stopped iterating, or a batch failed: free the engine
                with suppress(EngineError):
                    pipe.collect(ticket)

    def numbers(self) -> WatchNumbers:
        """Return the numbers as they stand; may be called in any thread."""
        return WatchNumbers(
            tuple(self._numbers_of(source, self._tallies[source]) for source in self._sources),
            {
                "read": sum(source.counts.read_ms for source in self._sources) / 1000,
                "flow": sum(source.counts.flow_ms for source in self._sources) / 1000,
                "engine": self._timing.engine_ms / 1000,
                "post": self._timing.post_ms / 1000,
            },
            self.health()[0],
            self.loop_age(),
        )

    def _numbers_of(self, source: Source, tally: _Tally) -> SourceNumbers:
        return SourceNumbers(
            name=source.name,
            live=source.live,
            up=source.state == "reading" and source.fresh,
            frames=source.counts.frames,
            windows=tally.windows,
            dropped_frames=source.inbox.dropped_frames,
            dropped_windows=source.inbox.dropped_windows,
            gaps=source.counts.gaps,
            losses=source.counts.losses,
            reconnects=source.counts.reconnects,
            open_failures=source.counts.failures,
            settlements=tally.settlements,
            lag_s=tally.lag_s,
            reading_lag_s=source.late,
            detections={label: tally.found[label] for label in self._detector.spec.classes},
        )

    def loop_age(self) -> float:
        """Return the seconds since the engine's loop last turned; may be called in any thread.

        A turn is a batch of windows at most, or a moment of waiting, and what the consumer of the events takes.
        """
        return time.monotonic() - self._beat

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the engine's loop turns and a source is well: fresh, opened again, or at its end.

        One source of several that hangs does not make the watch unwell, since a restart would stop the others;
        `afsd_up` and "stale" in the details name it. May be called in any thread; the details are as JSON takes them.
        """
        alive = self.loop_age() < ALIVE_SECONDS
        stale = [source.name for source in self._sources if not source.fresh]
        states = {source.name: source.state for source in self._sources}
        well = alive and len(stale) < len(self._sources)
        return well, {"ok": well, "alive": alive, "stale": stale, "sources": states}

    def _make_inbox(self) -> Inbox:
        if self._chunk is None:
            return Inbox(self._changed, PENDING_WINDOWS)
        return FrameInbox(self._changed, max(-(-self._detector.spec.window_length // self._chunk), PENDING_WINDOWS))

    def _open(self, source: str | int) -> Reader:
        return open_reader(source, reader=self._detector.options.reader, read_seconds=self._options.stall_seconds)

    def _over(self, flying: _Flying) -> bool:
        """Whether the loop ends: all sources have ended, or the watch was stopped and its time is up."""
        now = self._beat = time.monotonic()
        if len(self._done) == len(self._sources) and not flying:
            return True
        if not self._stop:
            return False
        if self._stopped_at is None:
            self._stopped_at = now
            for source in self._sources:
                source.stopped.set()
        waited = now - self._stopped_at
        with self._changed:
            waiting = any(source.inbox.waiting for source in self._sources)
        return self._time_is_up() or (waited >= HANGING_SECONDS and not waiting and not flying)

    def _time_is_up(self) -> bool:
        """Whether a watch that was stopped has no time left for another call of the engine."""
        return self._stopped_at is not None and time.monotonic() - self._stopped_at + self._call_s >= STOP_SECONDS

    def _take(self, flying: _Flying) -> tuple[list[tuple[Source, Note]], list[tuple[Source, Due]]]:
        """Take what is to be handled and the next batch of windows; wait a moment if there is neither.

        What follows a window of a source is handled after the window, so it waits while the window is in flight.
        """
        busy = {source for batch, _ in flying for source, _ in batch}
        notes: list[tuple[Source, Note]] = []
        batch: list[tuple[Source, Due]] = []
        turn = self._sources[self._turn :] + self._sources[: self._turn]
        turn.sort(key=lambda source: not source.live)
        with self._changed:
            more = True
            while more:
                more = False
                for source in turn:
                    inbox = source.inbox
                    if not inbox.waiting:
                        continue
                    if isinstance(inbox.head, Due):
                        if len(batch) == self._detector.options.batch_size:
                            continue
                        self._turn = (self._sources.index(source) + 1) % len(self._sources)
                    elif source in busy:
                        continue
                    more = True
                    notes += [(source, drops) for drops in inbox.take_drops()]
                    entry = inbox.take()
                    if isinstance(entry, Due):
                        batch.append((source, entry))
                        busy.add(source)
                    else:
                        notes.append((source, entry))
            if not notes and not batch and not flying:
                self._changed.wait(POLL_SECONDS)
        return notes, batch

    def _collect(self, pipe: OverlappingEngine, flying: _Flying) -> Iterator[Event]:
        """End the oldest batch in flight and yield what is final."""
        batch, ticket = flying.popleft()
        begun = time.monotonic()
        with self._timing.engine():
            outputs = pipe.collect(ticket)
        self._beat = time.monotonic()
        self._call_s = max(self._call_s, self._beat - begun)
        for index, (source, due) in enumerate(batch):
            yield from self._look(source, due.stretch, due.window, outputs, index)

    def _take_frames(self, batch: list[tuple[Source, Due]], network: StreamingEngine) -> Iterator[Event]:
        """Run the backbone on a chunk of each source with its own state, and look at the windows that are complete."""
        complete: _Complete = []
        failure: EngineError | None = None
        for source, due in batch:
            stretch = due.stretch
            if stretch.streamed is None:
                assert self._chunk is not None
                stretch.streamed = FramesToWindows(network, self._detector.spec, self._chunk)
                stretch.begin = due.window.offset
            if self._time_is_up():
                break
            try:
                with self._engine_call():
                    for frame in due.window.frames:
                        complete += [(source, stretch, window) for window in stretch.streamed.push(frame) or ()]
            except EngineError as error:  # raised after what was found before
                failure = error
                break
        yield from self._look_at(complete)
        if failure is not None:
            raise failure

    def _finish_frames(self, source: Source, stretch: Stretch) -> Iterator[Event]:
        """End a streaming network's state, and look at the windows left, as far as there is time."""
        streamed, stretch.streamed = stretch.streamed, None
        if streamed is None or self._time_is_up():
            return
        with self._engine_call():
            windows = streamed.finish()
        yield from self._look_at([(source, stretch, window) for window in windows])

    def _look_at(self, windows: _Complete) -> Iterator[Event]:
        """Run the head of a streaming network on windows, in batches, and yield what is final."""
        size = self._detector.options.batch_size
        for first in range(0, len(windows), size):
            batch = windows[first : first + size]
            with self._engine_call():
                outputs = self._detector.engine.infer(self._detector.stack([window for _, _, window in batch]))
            for index, (source, stretch, window) in enumerate(batch):
                yield from self._look(source, stretch, window, outputs, index)

    @contextmanager
    def _engine_call(self) -> Iterator[None]:
        """Count the block as engine time, and as what the next call is expected to take."""
        begun = time.monotonic()
        with self._timing.engine():
            yield
        self._beat = time.monotonic()
        self._call_s = self._beat - begun

    def _handle(self, source: Source, note: Note) -> Iterator[Event]:
        """Yield the events of what a reading thread has handed over beside windows."""
        if isinstance(note, Event):
            yield note
        elif isinstance(note, Drops):
            stretch, zero = note.stretch, note.stretch.zero
            assert zero is not None  # only live sources drop windows and frames
            if self._network is not None:
                yield from self._end(source, stretch)
                stretch.finder = stretch.finder.anew()
            span = note.start / stretch.rate, note.end / stretch.rate
            yield Dropped(
                source.name,
                self._clock.unix(),
                note.windows,
                note.frames,
                (stretch.start_s + span[0], stretch.start_s + span[1]),
                (self._clock.unix_of(zero.moment + span[0]), self._clock.unix_of(zero.moment + span[1])),
            )
        elif isinstance(note, EndOfStretch):
            yield from self._end(source, note.stretch)
        elif isinstance(note, BaseException):
            raise note
        else:
            self._done.add(source)
            if source.state not in ("ended", "failed"):
                yield Stopped(source.name, self._clock.unix(), self._tallies[source].seconds)

    def _end(self, source: Source, stretch: Stretch) -> Iterator[Event]:
        """Yield the rest of the detections of a stretch, or of its part before dropped frames."""
        yield from self._finish_frames(source, stretch)
        self._current.pop(source, None)
        with self._timing.post():
            found = stretch.finder.finish()
        yield from self._report(source, stretch, found)

    def _look(
        self, source: Source, stretch: Stretch, window: AnyWindow, outputs: Mapping[str, NDArray[Any]], index: int
    ) -> Iterator[Event]:
        """Take the raw outputs of a window and yield the detections that are final."""
        tally = self._tallies[source]
        self._current[source] = stretch
        before = stretch.finder.settlements
        with self._timing.post():
            found = stretch.finder.push(window, outputs, index)
        if settled := stretch.finder.settlements - before:
            if not tally.settlements:
                warnings.warn(stretch.finder.settled(), stacklevel=2)
            tally.settlements += settled
        end_s = (stretch.begin + window.offset + window.length) / stretch.rate
        tally.windows += 1
        tally.seconds = stretch.start_s + end_s
        if stretch.zero is not None:
            tally.lag_s = self._clock.now() - stretch.zero.moment - end_s
        yield from self._report(source, stretch, found)

    def _abandon(self, source: Source) -> Iterator[Event]:
        """End a source whose thread has not ended: its windows are given up, what is final is given out."""
        self._done.add(source)
        if (stretch := self._current.pop(source, None)) is not None:
            yield from self._report(source, stretch, stretch.finder.finish())
        yield Stopped(source.name, self._clock.unix(), self._tallies[source].seconds)

    def _report(self, source: Source, stretch: Stretch, found: Detections) -> Iterator[Event]:
        start_s, zero, begin_s = stretch.start_s, stretch.zero, stretch.begin / stretch.rate
        for one in found:
            self._tallies[source].found[one.label] += 1
            span = begin_s + one.start_s, begin_s + one.end_s
            utc = None
            if zero is not None:
                utc = self._clock.unix_of(zero.moment + span[0]), self._clock.unix_of(zero.moment + span[1])
            segment = (start_s + span[0], start_s + span[1])
            yield Detected(source.name, self._clock.unix(), one.label, one.score, segment, utc)


def choose_batch(sources: int, spec: ModelSpec) -> int:
    """Return the number of windows of a batch: as the engine was built, or one per source, up to `MAX_BATCH`."""
    fixed = spec.inputs[0].shape[0]
    return fixed if isinstance(fixed, int) else min(sources, MAX_BATCH)


def _check_model(detector: Detector) -> None:
    spec = detector.spec
    if spec.features is not None:
        raise InputError("the model sees features; watch takes a model on frames (for features: afsd detect --stream)")
    if spec.sampling == "whole_video":
        raise InputError("the model sees whole videos, which a live source never is; watch takes a model on windows")
    if detector.options.nms == "reference":
        raise InputError("nms 'reference' needs the whole video; watch takes nms 'local'")


def _choose_chunk(sources: Sequence[str | int]) -> int:
    """Return the frames of a step, one number for all sources, since engines compile the step for one length."""
    return LIVE_CHUNK if any(may_be_live(source) for source in sources) else STREAMING_CHUNK


def _name_sources(sources: Sequence[str | int | NamedSource]) -> list[tuple[str | int, str]]:
    """Return each source with its name, numbered where an earlier source has it; VideoError: a file is missing."""
    if not sources:
        raise InputError("got no source, expected at least one file, URL or camera number")
    taken: set[str] = set()
    listed = [one if isinstance(one, NamedSource) else NamedSource(one) for one in sources]
    for one in listed:
        path = None if isinstance(one.source, int) else local_path(one.source)
        if path is not None and not exists(path):
            raise VideoError(f"{path}: file or folder not found")
    return [(one.source, take_name(one.name or name_of(one.source, keep_host=True)[0], taken)) for one in listed]
