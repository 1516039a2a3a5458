"""Frames of any source, sampled at the model's rate as the published data was (AFSD, RGB frames → npy)."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError, VideoError
from runtime.video.prefetch import Prefetch
from runtime.video.readers import ArrayReader, CaptureReader, FolderReader, Frame, Reader, is_url

FrameSource = str | os.PathLike[str] | int | NDArray[np.uint8] | Iterable[NDArray[np.uint8]]
"""File, folder of images, URL, camera index, array [T,H,W,C], or iterable of frames [H,W,C] or chunks [t,H,W,C]."""

MAX_FPS = 1000.0
"""A declared rate from here on is a time base (1000, 90000), not a frame rate."""
COUNTER_ROUNDING = 1e-9
"""Source frames by which the counter of a slow source, or of a whole video, may miss the step."""
COUNT_TOLERANCE = 0.02
"""Share of the declared frames that may be missing before a file counts as cut off ..."""
COUNT_TOLERANCE_SECONDS = 0.5
"""... or this many seconds, whichever is more: containers round their durations."""


Transform = Callable[[Generator[Frame, None, None]], Generator[Frame, None, None]]
"""Sampled frames → frames, as many; closes what it was given when it is closed."""


class VideoWarning(UserWarning):
    """A video is damaged but was read as far as it goes, as asked; or it is too short for what looks at it."""


class FrameSampler:
    """Which decoded frames are kept: a counter grows by 1 per frame, and keeps one each time it reaches the step.

    step = fps / sample_fps source frames. At 30 fps and 10 fps this keeps frames 2, 5, 8, …; when the source is
    slower than the model, frames are repeated so that time stays right. The counter is a plain float, as in the
    published script, so that the number of samples is the same; it stays small, so its error does not grow.
    """

    def __init__(self, fps: float, sample_fps: float, whole: bool = False) -> None:
        """Start counting; `whole`: the step was made to fit a number of samples, which rounding shall not change."""
        self._step = fps / sample_fps
        # The published script refuses slow sources, so there a counter that misses the step by rounding may be kept.
        self._threshold = self._step - COUNTER_ROUNDING if whole or self._step < 1 else self._step
        self._counter = 0.0

    def copies(self) -> int:
        """How many times the next decoded frame is kept: 0, 1, or more for slow sources."""
        self._counter += 1.0
        kept = 0
        while self._counter >= self._threshold:
            self._counter -= self._step
            kept += 1
        return kept


class FrameStream(Iterator[Frame]):
    """The sampled frames of one source, in order; made by `open_frames`. A context manager: closing ends the reading.

    Iterating raises VideoError when the source breaks, ends early, or gives no frame at all.
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
    ) -> None:
        self.name = reader.name
        """Short name for results; empty for arrays and iterables."""
        self.fps = fps
        """Frames per second of the source."""
        self.sample_fps = sample_fps
        """Frames per second of what this gives."""
        self.duration = None if reader.count is None else reader.count / fps
        """Seconds, as far as the source declares its length."""
        self.expected = None if reader.count is None else int(reader.count * sample_fps / fps)
        """Number of sampled frames to come, as far as the source declares its length; for progress only."""
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
            Prefetch(frames, read_ahead) if reader.background else frames
        )

    def __next__(self) -> Frame:
        self._started = True
        try:
            frame = next(self._frames)
        except StopIteration:
            self._check_complete()
            raise
        self._kept += 1
        return frame

    @property
    def ready(self) -> bool:
        """Whether the next frame is there already, as far as can be told: an iterable may take its time with any."""
        return self._frames.ready if isinstance(self._frames, Prefetch) else self._reader.count is not None

    @property
    def decoded(self) -> int:
        """Source frames read so far."""
        return self._decoded

    @property
    def declared(self) -> int | None:
        """Source frames that the source declares; None where it does not."""
        return self._reader.count

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
        """Decode, keep, prepare; runs in the reading thread where there is one."""
        sampler = FrameSampler(self.fps, self.sample_fps, whole=self._max_frames is not None)
        left = math.inf if self._max_frames is None else self._max_frames
        try:
            while left > 0 and self._reader.grab():
                self._decoded += 1
                copies = sampler.copies()
                if copies:
                    frame = self._reader.retrieve()
                    kept = frame if prepare is None else prepare(frame)
                    for _ in range(copies):
                        yield kept
                    left -= copies
        finally:
            self._reader.close()

    def _check_complete(self) -> None:
        label, decoded, declared = self._reader.label, self._decoded, self._reader.count
        if decoded == 0 and isinstance(self._reader, ArrayReader):
            raise InputError("frames: got none, expected at least one frame")
        if decoded == 0:
            raise VideoError(f"{label}: no frame could be decoded; the file is empty or damaged")
        if self._kept == 0:
            raise VideoError(
                f"{label}: {decoded} frames at {self.fps:g} fps are less than one frame at the model's "
                f"{self.sample_fps:g} fps; expected a longer video"
            )
        if declared is None or declared - decoded <= max(
            COUNT_TOLERANCE * declared, COUNT_TOLERANCE_SECONDS * self.fps
        ):
            return
        message = (
            f"{label}: only {decoded} of {declared} declared frames can be decoded; the file is cut off or damaged"
        )
        if not self._allow_truncated:
            raise VideoError(f"{message} (use allow_truncated / --allow-truncated to take what is there)")
        warnings.warn(message, VideoWarning, stacklevel=3)


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
) -> FrameStream:
    """Open a source and yield its frames, uint8 [H,W,channels], sampled at `sample_fps`.

    Files, cameras, URLs and folders are decoded in a background thread, at most `read_ahead` frames ahead, and
    come as RGB. Frames of variable rate are counted at the mean rate, as the published script does.

    Args:
        source: file, folder of images, URL, camera index, array [T,H,W,C], iterable of frames or chunks.
        sample_fps: frames per second wanted (the model's).
        fps: frames per second of the source. Default: what the container declares; `sample_fps` for arrays,
            iterables and folders.
        channels: 3 for RGB; 2 for flow, which only arrays and iterables can hold.
        prepare: applied to each kept frame, in the reading thread (resizing).
        read_ahead: frames decoded ahead of the consumer.
        allow_truncated: a file with fewer frames than it declares gives a VideoWarning instead of a VideoError.
        transform: applied to the sampled, prepared frames, in the reading thread (optical flow).
        max_frames: the whole source in at most so many frames: `sample_fps` is fps·min(max_frames / count, 1)
            (AFSD on ActivityNet). Needs a source whose number of frames is known or can be counted.
        every_frame: at the source's own rate; `sample_fps` then serves sources without one.

    Raises:
        VideoError: nothing there, not a video, or no usable frame rate. Raised while iterating: damaged, cut off
            by more than half a second and 2 % of its frames, or without frames.
        InputError: arrays of a wrong dtype or shape, a rate that is not positive, flow wanted from a video,
            max_frames for a source of unknown length.
    """
    for name, rate in (("sample_fps", sample_fps), ("fps", fps)):
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise InputError(f"{name}: got {rate}, expected a positive number of frames per second")
    reader = _reader(source, channels)
    try:
        rate = _source_fps(reader, fps, sample_fps)
        if every_frame:
            sample_fps = rate
        if max_frames is not None:
            reader.count = _count(reader, source)
            sample_fps = rate * min(max_frames / max(reader.count, 1), 1.0)
    except (VideoError, InputError):
        reader.close()
        raise
    return FrameStream(reader, rate, sample_fps, prepare, read_ahead, allow_truncated, transform, max_frames)


def _reader(source: Any, channels: int) -> Reader:
    """The reader for any kind of source, its arguments checked."""
    if isinstance(source, (str, os.PathLike, int)) and channels != 3:
        raise InputError(f"{source}: a video holds no flow; expected precomputed flow, uint8 [T,H,W,2] (x, y)")
    if isinstance(source, int) and not isinstance(source, bool):
        return CaptureReader(source)
    if isinstance(source, str) and is_url(source):
        return CaptureReader(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            return FolderReader(path)
        if not path.exists():
            raise VideoError(f"{path}: no such file or folder")
        return CaptureReader(str(path))
    if hasattr(source, "__array__"):
        array = np.asarray(source)
        return ArrayReader([array], channels, len(array) if array.ndim == 4 else None)
    if isinstance(source, Iterable) and not isinstance(source, (bytes, dict)):
        return ArrayReader(source, channels)
    raise InputError(
        f"frames: got {type(source).__name__}, expected a path, folder, URL, camera index, array or iterable of frames"
    )


def _source_fps(reader: Reader, fps: float | None, sample_fps: float) -> float:
    """The source's rate: as given, as declared, or the model's for sources that have none of their own."""
    if fps is not None:
        return fps
    if not isinstance(reader, CaptureReader):
        return sample_fps
    if reader.fps is None or not reader.fps < MAX_FPS:
        declared = "no frame rate" if reader.fps is None else f"{reader.fps:g} frames per second"
        raise VideoError(f"{reader.label}: declares {declared}; give the true rate with fps / --fps")
    return reader.fps


def _count(reader: Reader, source: Any) -> int:
    """Frames of the source, as declared or counted by decoding a file once more."""
    if reader.count is not None:
        return reader.count
    if not isinstance(source, (str, os.PathLike)) or is_url(source):
        raise InputError(
            f"{reader.label}: the model sees a whole video at once and must know its number of frames; "
            "expected a file, a folder, or an array"
        )
    with closing(CaptureReader(str(source))) as counter:
        count = 0
        while counter.grab():
            count += 1
    return count
