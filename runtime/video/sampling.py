"""Sample the frames of any source at the model's rate, as for the published data (AFSD, RGB frames → npy)."""

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
"""Source of frames: file, folder of images, URL, camera index, array [T,H,W,C], or iterable of frames [H,W,C] or chunks
[t,H,W,C]."""

MAX_FPS = 1000.0
"""Lowest declared rate that is taken for a time base (1000, 90000) instead of a frame rate."""
COUNTER_ROUNDING = 1e-9
"""Rounding error, in source frames, allowed to the counter of a slow source or of a whole video."""
COUNT_TOLERANCE = 0.02
"""Share of the declared frames that may be missing; a file that lacks more than this share and more than
COUNT_TOLERANCE_SECONDS counts as cut off."""
COUNT_TOLERANCE_SECONDS = 0.5
"""Seconds of the declared length that may be missing, since containers round their durations (see COUNT_TOLERANCE)."""


Transform = Callable[[Generator[Frame, None, None]], Generator[Frame, None, None]]
"""Function from sampled frames to as many frames; its generator closes the given one when it is closed."""


class VideoWarning(UserWarning):
    """Warns of a damaged video that was read as far as possible, as asked, or of one too short for the network."""


class FrameSampler:
    """Decides which decoded frames are kept, with a counter that grows by 1 per frame.

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
    ) -> None:
        self.name = reader.name
        """Short name for results; empty for arrays and iterables."""
        self.fps = fps
        """Frames per second of the source."""
        self.sample_fps = sample_fps
        """Frames per second of the sampled frames."""
        self.duration = None if reader.count is None else reader.count / fps
        """Length of the source in seconds; None if the source declares none."""
        self.expected = None if reader.count is None else int(reader.count * sample_fps / fps)
        """Number of sampled frames expected, for progress only; None if the source declares no length."""
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

    Files, cameras, URLs and folders are decoded to RGB in a background thread, at most `read_ahead` frames ahead.
    Frames of variable rate are counted at the mean rate, as in the published script.

    Args:
        source: see `FrameSource`.
        sample_fps: frames per second wanted (the model's).
        fps: frames per second of the source. Default: what the container declares; `sample_fps` for arrays,
            iterables and folders.
        channels: 3 for RGB; 2 for flow, which only arrays and iterables can hold.
        prepare: function applied to each kept frame, in the reading thread (resizing).
        read_ahead: maximum number of frames decoded ahead of the consumer.
        allow_truncated: give a VideoWarning instead of a VideoError for a file with fewer frames than it declares.
        transform: function applied to the sampled, prepared frames, in the reading thread (optical flow).
        max_frames: sample the whole source in at most this many frames: `sample_fps` becomes
            fps·min(max_frames / count, 1) (AFSD on ActivityNet). The number of frames must be known or countable.
        every_frame: sample at the source's own rate; `sample_fps` is used only for sources without one.

    Raises:
        VideoError: the source is missing, not a video, or has no usable frame rate. Raised while iterating: the source
            is damaged, cut off by more than half a second and 2 % of its frames, or without frames.
        InputError: arrays of a wrong dtype or shape, a rate that is not positive, flow wanted from a video,
            `max_frames` for a source of unknown length.
    """
    for name, rate in (("sample_fps", sample_fps), ("fps", fps)):
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise InputError(f"{name}: got {rate}, expected a positive number of frames per second")
    reader = _open_reader(source, channels)
    try:
        rate = _source_fps(reader, fps, sample_fps)
        if every_frame:
            sample_fps = rate
        if max_frames is not None:
            reader.count = _count_frames(reader, source)
            sample_fps = rate * min(max_frames / max(reader.count, 1), 1.0)
    except (VideoError, InputError):
        reader.close()
        raise
    return FrameStream(reader, rate, sample_fps, prepare, read_ahead, allow_truncated, transform, max_frames)


def _open_reader(source: Any, channels: int) -> Reader:
    """Check the arguments and return the reader for the kind of source."""
    if isinstance(source, (str, os.PathLike, int)) and channels != 3:
        raise InputError(f"{source}: a video holds no flow; expected precomputed flow, uint8 [T,H,W,2] (x, y)")
    if isinstance(source, int) and not isinstance(source, bool):
        if source < 0:  # OpenCV ends the process
            raise InputError(f"camera {source}: got a negative number, expected 0 for the first camera, 1 for the next")
        return CaptureReader(source)
    if isinstance(source, str) and is_url(source):
        return CaptureReader(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            return FolderReader(path)
        if not path.exists():
            raise VideoError(f"{path}: file or folder not found")
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
    """Return the source's rate: as given, as declared, or the model's for sources that have none."""
    if fps is not None:
        return fps
    if not isinstance(reader, CaptureReader):
        return sample_fps
    if reader.fps is None or not reader.fps < MAX_FPS:
        declared = "no frame rate" if reader.fps is None else f"{reader.fps:g} frames per second"
        raise VideoError(f"{reader.label}: declares {declared}; give the true rate with fps / --fps")
    return reader.fps


def _count_frames(reader: Reader, source: Any) -> int:
    """Return the number of frames of the source, as declared or counted by decoding the file once."""
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
