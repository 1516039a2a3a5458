"""Cut parts of a video by the frame, encoded anew as H.264 and AAC in MP4, by the time stamps of frames and sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import VideoError
from runtime.video.readers.base import Frame, SkippingReader
from runtime.video.readers.choice import open_reader
from runtime.video.readers.pyav import PyAVReader, import_av
from runtime.video.sources import url_for_ffmpeg

SUFFIX = ".mp4"
CODECS = ("libx264", "libopenh264", "mpeg4")
"""Encoders by preference; PyAV's wheels have the first."""
OPTIONS = {"libx264": {"preset": "veryfast", "crf": "18"}, "libopenh264": {"b": "8000000"}, "mpeg4": {"q": "3"}}
SOUND_RATE = 48_000
"""Samples of sound per second."""
TICKS = 90_000
"""Ticks of the picture's time base per second."""
NEAR_S = 0.001
"""Seconds by which a frame may overlap a cut and be no part of it: tools round to milliseconds."""
RESYNC_S = 0.05
"""Seconds by which sound may differ from its time stamps before it is put where they say."""
MOST_OPEN = 4
"""Most clips that are encoded at once."""
BT709, LIMITED = 1, 1
"""FFmpeg's numbers of the colours and the range of what is written."""

Sound = NDArray[np.float32]
"""Samples of two channels, [2,N]."""


class Encoder:
    """Writes frames and sound into a file."""

    def __init__(
        self, target: Path, size: tuple[int, int], fps: float | None, metadata: Mapping[str, str], *, sound: bool
    ) -> None:
        """Open a file.

        Args:
            target: path of the file.
            size: width and height; odd ones are rounded up.
            fps: usual rate of frames, by which the encoder shares out bits; frames may come at any time.
            metadata: title and comment.
            sound: whether it has sound.

        Raises:
            VideoError: FFmpeg's build has no encoder.
        """
        self._av = import_av()
        self._target = target
        self.size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        self._output = self._av.open(f"file:{target}", "w", options={"movflags": "+faststart"})
        self._output.metadata.update(metadata)
        name = next((codec for codec in CODECS if codec in self._av.codecs_available), None)
        if name is None:
            raise VideoError(f"FFmpeg's build has none of the encoders {', '.join(CODECS)}; leave out --exact")
        self._picture = self._output.add_stream(name, rate=Fraction(fps or 25.0).limit_denominator(1001))
        self._picture.width, self._picture.height, self._picture.pix_fmt = *self.size, "yuv420p"
        context = self._picture.codec_context
        context.time_base = Fraction(1, TICKS)
        context.options = OPTIONS[name]
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        self._sound = None
        if sound:
            self._sound = self._output.add_stream("aac", rate=SOUND_RATE)
            self._sound.layout = "stereo"
        self.samples = 0
        """Samples of sound that were written, or for which there is none."""
        self._latest = -1

    def add_frame(self, image: Frame, time_s: float) -> None:
        """Write a frame, RGB [H,W,3], at a time in the file; frames of another size get black bars."""
        image = fit(image, self.size)
        frame = self._av.VideoFrame.from_ndarray(image, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        self._latest = max(round(time_s * TICKS), self._latest + 1)
        frame.pts, frame.time_base = self._latest, Fraction(1, TICKS)
        self._output.mux(self._picture.encode(frame))

    def add_sound(self, samples: Sound) -> None:
        """Write samples behind those before."""
        if self._sound is not None and samples.shape[1]:
            frame = self._av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, self.samples, Fraction(1, SOUND_RATE)
            self._output.mux(self._sound.encode(frame))
        self.samples += samples.shape[1]

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file (VideoError: it cannot be)."""
        try:
            if error is None and self._latest >= 0:
                self._output.mux(self._picture.encode(None))
                if self._sound is not None and self.samples:
                    self._output.mux(self._sound.encode(None))
            self._output.close()
        except (self._av.error.FFmpegError, ValueError) as problem:
            if error is None:
                raise VideoError(f"{self._target}: cannot be written ({problem})") from None


@dataclass
class Part:
    """Is a part of a video that goes to an encoder."""

    start_s: float
    end_s: float
    open: Callable[[Frame, float | None], Encoder]
    """Function of the first frame and the usual rate of frames that returns the encoder, when the part begins."""
    close: Callable[[], None]
    """Function that is called when the part is finished."""
    encoder: Encoder | None = None
    offset: int = 0
    """Samples in the file before the part."""
    sound: Iterator[Sound] | None = None

    def take(
        self, image: Frame, appears: float, fps: float | None, sound: Callable[[float, float], Iterator[Sound]]
    ) -> None:
        """Write a frame, and the sound up to it."""
        if self.encoder is None:
            self.encoder = self.open(image, fps)
            self.offset = self.encoder.samples
            self.sound = sound(self.start_s, self.end_s)
        time = max(appears - self.start_s, 0.0)
        self._pull(round(time * SOUND_RATE))
        self.encoder.add_frame(image, self.offset / SOUND_RATE + time)

    def finish(self, end_s: float) -> None:
        """Write the rest of the sound, up to where the part or the video ends, and close the file."""
        if self.encoder is not None:
            wanted = round((min(self.end_s, end_s) - self.start_s) * SOUND_RATE)
            self._pull(wanted)
            missing = wanted - (self.encoder.samples - self.offset)
            if missing > 0:
                self.encoder.add_sound(np.zeros((2, missing), np.float32))
        self.close()

    def _pull(self, wanted: int) -> None:
        assert self.encoder is not None
        while self.sound is not None and self.encoder.samples - self.offset < wanted:
            block = next(self.sound, None)
            if block is None:
                self.sound = None
            else:
                self.encoder.add_sound(block)


def encode_parts(path: Path, parts: Sequence[Part]) -> int:
    """Read a video once and write the parts of it, each to its encoder.

    Returns:
        The number of parts that hold at least one frame.

    Raises:
        VideoError: the video cannot be read, or is cut off before the last part.
    """
    waiting = sorted(parts, key=lambda part: part.start_s)
    spans = [(part.start_s, part.end_s) for part in waiting]
    last_end = max((end for _, end in spans), default=0.0)
    written = 0
    with closing(open_reader(path)) as reader:
        if isinstance(reader, SkippingReader):
            reader.skip(lambda appears, until: any(s < until and appears < e for s, e in spans))
        shift = reader.start_stamp if isinstance(reader, PyAVReader) else 0.0

        def sound(start_s: float, end_s: float) -> Iterator[Sound]:
            return read_sound(path, shift, start_s, end_s)

        held: tuple[Callable[[], Frame], float] | None = None
        more = True
        while more and waiting:
            more = reader.grab()
            moment = reader.time if more else reader.end
            if held is not None:
                picture, appears = held
                chosen = [part for part in waiting if appears < part.end_s - NEAR_S and moment > part.start_s + NEAR_S]
                image = picture() if chosen else None
                for part in chosen:
                    assert image is not None
                    written += part.encoder is None
                    part.take(image, appears, reader.fps, sound)
                for part in [part for part in waiting if moment >= part.end_s - NEAR_S]:
                    part.finish(moment)
                    waiting.remove(part)
            held = (reader.hold(), moment) if more else None
        end = reader.end
        for part in waiting:
            part.finish(end)
        shortfall = None if end >= last_end else reader.shortfall()
        if shortfall:
            raise VideoError(f"{path}: {shortfall}")
    return written


def read_sound(path: Path, start_stamp_s: float, start_s: float, end_s: float) -> Iterator[Sound]:
    """Yield the sound of a part of a video at `SOUND_RATE`, silence where it has none; nothing for a video without."""
    av = import_av()
    with av.open(url_for_ffmpeg(str(path)), metadata_errors="replace") as container:
        stream = next(iter(container.streams.audio), None)
        if stream is None or stream.codec_context is None:
            return
        begin = start_stamp_s + start_s
        with suppress(av.error.FFmpegError, OSError):  # where it cannot be jumped into, all is read
            container.seek(round((begin - 1) / float(stream.time_base)), stream=stream, backward=True)
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SOUND_RATE)
        wanted = round((end_s - start_s) * SOUND_RATE)
        done, at = 0, None
        try:
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                place = round((frame.pts * float(frame.time_base) - begin) * SOUND_RATE)
                if at is None or abs(place - at) > RESYNC_S * SOUND_RATE:
                    at = place
                for piece in resampler.resample(frame):
                    block = piece.to_ndarray()
                    if at > done:  # a gap, or sound that begins later
                        silence = min(at, wanted) - done
                        yield np.zeros((2, silence), np.float32)
                        done += silence
                    kept = block[:, max(done - at, 0) : max(wanted - at, 0)]
                    at += block.shape[1]
                    if kept.shape[1]:
                        yield kept.astype(np.float32, copy=False)
                        done += kept.shape[1]
                if done >= wanted:
                    return
        except av.error.FFmpegError:  # damaged sound: the rest is silence
            return


def has_sound(path: Path) -> bool:
    """Return whether a video has sound that can be decoded (VideoError: it cannot be opened)."""
    av = import_av()
    try:
        with av.open(url_for_ffmpeg(str(path)), metadata_errors="replace") as container:
            return any(stream.codec_context is not None for stream in container.streams.audio)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error})") from None


def fit(image: Frame, size: tuple[int, int]) -> Frame:
    """Return a frame of a size, width and height: a row or column more by its neighbour's, else scaled, with bars."""
    height, width = image.shape[:2]
    more = (size[0] - width, size[1] - height)
    if more == (0, 0):
        return image
    if more in ((0, 1), (1, 0), (1, 1)):
        return np.pad(image, ((0, more[1]), (0, more[0]), (0, 0)), mode="edge")
    scale = min(size[0] / width, size[1] / height)
    inner = (max(round(width * scale), 1), max(round(height * scale), 1))
    scaled = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    fitted = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    fitted[top : top + inner[1], left : left + inner[0]] = scaled
    return fitted
