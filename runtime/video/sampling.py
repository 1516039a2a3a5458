"""Sample the frames of any source at the model's rate, by their time stamps or by counting them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Literal

from runtime.common.ranges import FramesPerSecond, require_in_range
from runtime.errors import InputError, VideoError, VideoWarning
from runtime.video.prefetch import Prefetch, ReadingTime
from runtime.video.readers.base import Frame, Picture, Reader, SkippingReader
from runtime.video.readers.choice import ReaderName, open_reader
from runtime.video.sources import FrameSource

FrameTiming = Literal["presented", "counted"]
"""Rule by which frames are sampled. "presented": by their time stamps, right for every file. "counted": the published
script's counter at the declared mean rate, for reproducing published numbers; the same frames in files of constant
rate. Sources without time stamps, and those whose rate is given, are always counted."""

FRAME_TIMINGS: tuple[FrameTiming, ...] = ("presented", "counted")

MAX_FPS = 1000.0
"""Rate from which on a declared rate is a time base (1000, 90000) and no rate of frames."""
MAX_COPIES = 36000
"""Most copies of a frame that a rate may ask for; more are the sign of a rate that is none."""
COUNTER_ROUNDING = 1e-9
"""Rounding error, in source frames, allowed to the counter of a slow source or of a whole video."""
STAMP_ROUNDING = 1e-6
"""Rounding error, in seconds, allowed to time stamps."""
TIMING_TOLERANCE = 0.2
"""Seconds by which the counted and the true end of a file may differ without a warning."""

Transform = Callable[[Generator[Frame, None, None]], Generator[Frame, None, None]]
"""Function from sampled frames to as many frames; its generator closes the given one when it is closed."""


class FrameCounter:
    """Decides which frames are kept by counting them, as for the published data (AFSD, RGB frames → npy).

    A frame is kept each time the counter reaches the interval fps / sample_fps, in source frames, which is then
    subtracted. From 30 fps to 10 fps this keeps frames 2, 5, 8, …; if the source is slower than the model, frames are
    repeated so that times stay right. The counter is a plain float, as in the published script, so that the number of
    samples is the same; it stays small, so its error does not grow.
    """

    def __init__(self, fps: float, sample_fps: float, whole: bool = False) -> None:
        """Start counting; `whole` means that the interval fits a number of samples, which rounding must not change."""
        self._step = fps / sample_fps
        # The published script refuses slow sources, so there a counter that misses the interval by rounding is kept.
        self._threshold = self._step - COUNTER_ROUNDING if whole or self._step < 1 else self._step
        self._counter = 0.0

    def copies(self) -> int:
        """Return how many times the next decoded frame is kept: 0, 1, or more for slow sources."""
        self._counter += 1.0
        kept = 0
        while self._counter >= self._threshold:
            self._counter -= self._step
            kept += 1
        return kept


class FrameSchedule:
    """Decides which frames are kept by their time stamps.

    Sample k is the frame on screen just before t = (k + 1) / sample_fps; before the first frame, it is the first one.
    In files of constant rate these are the frames that `FrameCounter` keeps.
    """

    def __init__(self, sample_fps: float) -> None:
        self._sample_fps = sample_fps
        self._given = 0

    def copies(self, until: float) -> int:
        """Return how many times the frame that is on screen until `until`, in seconds, is kept."""
        due = self._due(until)
        copies, self._given = max(due - self._given, 0), max(due, self._given)
        return copies

    def is_needed(self, time: float, until: float) -> bool:
        """Return whether a frame, not the first, is kept that is on screen from `time` until `until`."""
        return self._due(until) > self._due(time)

    def _due(self, until: float) -> int:
        """Return the number of samples before a moment."""
        return math.floor((until + STAMP_ROUNDING) * self._sample_fps)


class FrameStream(Iterator[Frame]):
    """Yields the sampled frames of one source in order; a context manager, made by `open_frames`.

    Iterating raises VideoError if the source breaks, ends early, or gives no frame at all.
    """

    def __init__(
        self,
        reader: Reader,
        fps: float,
        sample_fps: float,
        prepare: Callable[[Frame], Frame] | None,
        read_ahead: int,
        allow_truncated: bool,
        transform: Transform | None = None,
        max_frames: int | None = None,
        timing: FrameTiming = "counted",
        duration: float | None = None,
        declared_rate: bool = False,
    ) -> None:
        self.name = reader.name
        """Short name for results; empty for arrays and iterables."""
        self.endless = reader.endless
        """Whether the source has no end."""
        self.fps = fps
        """Frames per second of the source; the declared mean where the rate varies."""
        self.sample_fps = sample_fps
        """Frames per second of the sampled frames."""
        self.timing = timing
        """Rule by which frames are sampled."""
        self.duration = duration
        """Length of the source in seconds; None if it is not known beforehand."""
        self.expected = None if duration is None else int(duration * sample_fps)
        """Number of sampled frames expected, for progress only; None if the source declares no length."""
        self.keep_error = False
        """Whether a VideoError just ends the frames and waits in `error`, so that what came before can be used."""
        self.error: VideoError | None = None
        """Error that ended the frames, with `keep_error`."""
        self.reading = ReadingTime()
        """What reading the source has taken."""
        self._declared_rate = declared_rate
        self._reader = reader
        self._max_frames = max_frames
        self._allow_truncated = allow_truncated
        self._decoded = 0
        self._kept = 0
        self._started = False
        frames = self._sample(prepare)
        if transform is not None:
            frames = transform(frames)
        self._frames: Prefetch[Frame] | Generator[Frame, None, None] = (
            Prefetch(frames, read_ahead, self.reading) if reader.background else frames
        )

    def __next__(self) -> Frame:
        self._started = True
        try:
            frame = next(self._frames, None) if isinstance(self._frames, Prefetch) else self._read()
            if frame is None:
                self._check_end()
                raise StopIteration
        except VideoError as error:
            if not self.keep_error:
                raise
            self.error = error
            raise StopIteration from None
        self._kept += 1
        return frame

    def _read(self) -> Frame | None:
        """Return the next frame of a source that has no thread of its own, and count the time."""
        begun = time.perf_counter()
        try:
            return next(self._frames, None)
        finally:
            self.reading.work_s += time.perf_counter() - begun

    @property
    def ready(self) -> bool:
        """Whether the next frame is available without waiting; False for iterables, where this is unknown."""
        return self._frames.ready if isinstance(self._frames, Prefetch) else self._reader.count is not None

    @property
    def decoded(self) -> int:
        """Number of source frames read so far."""
        return self._decoded

    @property
    def declared(self) -> int | None:
        """Number of frames that the source declares; None if it declares none."""
        return self._reader.count

    @property
    def seconds(self) -> float:
        """Length of what was read so far, in seconds."""
        return self._reader.end if self.timing == "presented" else self._decoded / self.fps

    def close(self) -> None:
        """Stop reading and release the source; safe to call more than once."""
        if self._started:
            self._frames.close()
        else:
            self._reader.close()

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sample(self, prepare: Callable[[Frame], Frame] | None) -> Generator[Frame, None, None]:
        """Decode, keep and prepare frames; runs in the reading thread if there is one."""
        left = math.inf if self._max_frames is None else self._max_frames
        pictures = self._presented() if self.timing == "presented" else self._counted()
        try:
            for picture, copies in pictures:
                if left <= 0:
                    break
                frame = picture()
                kept = frame if prepare is None else prepare(frame)
                for _ in range(int(min(left, copies))):
                    yield kept
                left -= copies
        finally:
            pictures.close()
            self._reader.close()

    def _counted(self) -> Generator[tuple[Picture, int], None, None]:
        """Yield the frames that are kept, with the number of their copies."""
        counter = FrameCounter(self.fps, self.sample_fps, whole=self._max_frames is not None)
        while self._reader.grab():
            self._decoded += 1
            if copies := counter.copies():
                yield self._reader.hold(), copies

    def _presented(self) -> Generator[tuple[Picture, int], None, None]:
        """Yield the frames that are kept; each waits for the next one, which says how long it was on screen."""
        schedule = FrameSchedule(self.sample_fps)
        if isinstance(self._reader, SkippingReader):
            self._reader.skip(schedule.is_needed)
        waiting: Picture | None = None
        while self._reader.grab():
            self._decoded += 1
            if waiting is not None and (copies := schedule.copies(self._reader.time)):
                yield waiting, copies
            waiting = self._reader.hold()
        if waiting is not None and (copies := schedule.copies(self._reader.end)):
            yield waiting, copies

    def _check_end(self) -> None:
        """Raise or warn at the end of a source that is cut off, too short, or timed otherwise than counted."""
        label = self._reader.label
        missing = self._reader.shortfall()
        if missing is not None and (self._decoded == 0 or not self._allow_truncated):
            advice = " (use allow_truncated / --allow-truncated to take what is there)" if self._decoded else ""
            raise VideoError(f"{label}: {missing}{advice}")
        if self._kept == 0:
            raise VideoError(
                f"{label}: {self._decoded} frames in {self.seconds:.3g} s are less than one frame at the model's "
                f"{self.sample_fps:g} fps; expected a longer video"
            )
        if missing is not None:
            warnings.warn(f"{label}: {missing}", VideoWarning, stacklevel=3)
        if self.timing == "presented" and self._reader.longest_jump:
            warnings.warn(
                f"{label}: its time stamps jump by {self._reader.longest_jump / 3600:.1f} h, which is taken for a new "
                "recording or damage: later times go on without the jump",
                VideoWarning,
                stacklevel=3,
            )
        if self.timing == "counted" and self._reader.timed and self._declared_rate:
            late = abs(self._reader.end - self.seconds)
            if late > TIMING_TOLERANCE:
                warnings.warn(
                    f"{label}: counted at {self.fps:g} fps, its {self._decoded} frames end at {self.seconds:.1f} s, by "
                    f"their time stamps at {self._reader.end:.1f} s, so that times are off by {late:.1f} s or more; "
                    "use the timing 'presented'",
                    VideoWarning,
                    stacklevel=3,
                )


def open_frames(
    source: FrameSource,
    sample_fps: float,
    *,
    fps: float | None = None,
    channels: int = 3,
    prepare: Callable[[Frame], Frame] | None = None,
    read_ahead: int = 8,
    allow_truncated: bool = False,
    transform: Transform | None = None,
    max_frames: int | None = None,
    every_frame: bool = False,
    timing: FrameTiming = "presented",
    reader: ReaderName = "auto",
) -> FrameStream:
    """Open a source and yield its frames, uint8 [H,W,channels], sampled at `sample_fps`.

    Files, cameras, URLs and folders are decoded to RGB in a background thread, at most `read_ahead` frames ahead.

    Args:
        source: see `FrameSource`.
        sample_fps: frames per second wanted (the model's).
        fps: frames per second of the source, in place of its time stamps. Default: the time stamps; `sample_fps` for
            arrays, iterables and folders, which a VideoWarning says.
        channels: 3 for RGB; 2 for flow, which only arrays and iterables can hold.
        prepare: function applied to each kept frame, in the reading thread (resizing).
        read_ahead: maximum number of frames decoded ahead of the consumer.
        allow_truncated: give a VideoWarning instead of a VideoError for a file that is cut off or damaged.
        transform: function applied to the sampled, prepared frames, in the reading thread (optical flow).
        max_frames: sample the whole source in at most this many frames: `sample_fps` becomes
            fps·min(max_frames / count, 1) (AFSD on ActivityNet). The length must be known, or the source readable
            twice.
        every_frame: sample at the source's own mean rate; `sample_fps` is used only for sources without one.
        timing: see `FrameTiming`.
        reader: see `ReaderName`.

    Raises:
        VideoError: the source is missing, not a video, or counted without a usable frame rate. Raised while iterating:
            the source is damaged, cut off by more than half a second and 2 % of its length, or without frames;
            `SourceLostError` for a stream that broke off.
        InputError: arrays of a wrong dtype or shape, a rate that is not positive, flow wanted from a video, an unknown
            timing or reader, `max_frames` for a source of unknown length.
    """
    for name, rate in (("sample_fps", sample_fps), ("fps", fps)):
        require_in_range(name, rate, FramesPerSecond | None)
    if timing not in FRAME_TIMINGS:
        raise InputError(f"timing: got {timing!r}, expected one of {', '.join(FRAME_TIMINGS)}")
    opened = open_reader(source, channels, reader)
    try:
        presented = timing == "presented" and opened.timed and fps is None
        rate = _mean_rate(opened, sample_fps) if presented else _counting_rate(opened, fps, sample_fps)
        if every_frame:
            sample_fps = rate
        duration = opened.duration if presented else None if opened.count is None else opened.count / rate
        if max_frames is not None:
            count, duration = _length(opened, rate, presented)
            opened.count = count
            sample_fps = min(rate, max_frames / duration) if presented else rate * min(max_frames / max(count, 1), 1.0)
    except (VideoError, InputError):
        opened.close()
        raise
    return FrameStream(
        opened,
        rate,
        sample_fps,
        prepare,
        read_ahead,
        allow_truncated,
        transform,
        max_frames,
        "presented" if presented else "counted",
        duration,
        declared_rate=fps is None,
    )


def _counting_rate(reader: Reader, fps: float | None, sample_fps: float) -> float:
    """Return the rate at which frames are counted: as given, as declared, or the model's, which a warning says."""
    if fps is not None:
        if sample_fps / fps > MAX_COPIES:
            raise InputError(f"fps: got {fps:g}, at which one frame lasts {1 / fps:.3g} s; expected its true rate")
        return fps
    if not reader.timed:
        warnings.warn(
            f"{reader.label}: no frame rate is given, so they are taken as {sample_fps:g} per second, the model's own; "
            "give the true rate with fps / --fps",
            VideoWarning,
            stacklevel=4,
        )
        return sample_fps
    if reader.fps is None or not sample_fps / MAX_COPIES <= reader.fps < MAX_FPS:
        declared = "no frame rate" if reader.fps is None else f"{reader.fps:g} frames per second"
        raise VideoError(f"{reader.label}: declares {declared}; give the true rate with fps / --fps")
    return reader.fps


def _mean_rate(reader: Reader, sample_fps: float) -> float:
    """Return the mean rate of the source, or the model's where it is not known."""
    return reader.fps if reader.fps is not None and reader.fps < MAX_FPS else sample_fps


def _length(reader: Reader, rate: float, presented: bool) -> tuple[int, float]:
    """Return the number of frames and the seconds of a source: as declared, or by going through it once."""
    if reader.count is not None and not presented:
        return reader.count, reader.count / rate
    scanned = reader.scan()
    if scanned is None:
        if reader.count is not None:
            return reader.count, reader.count / rate
        raise InputError(
            f"{reader.label}: the model sees a whole video at once and must know its length; expected a file, "
            "a folder, or an array"
        )
    count, seconds = scanned
    return count, max(seconds if presented else count / rate, 1 / rate)
