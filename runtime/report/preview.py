"""Tell whether browsers play a video, and make a small copy that they play of one that they do not."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from runtime.common.sizes import file_size
from runtime.errors import InputError, VideoError, import_failure
from runtime.video.thumbnails import upright_frame

PLAYED = {
    ".mp4": ("h264", "av1", "vp9"),
    ".m4v": ("h264", "av1"),
    ".mov": ("h264",),
    ".webm": ("vp8", "vp9", "av1"),
    ".ogv": ("theora",),
}
"""Codecs that browsers play, by the suffix of the file."""
PLAYED_PIXELS = ("yuv420p", "yuvj420p")
"""Layouts of pixels that browsers play, 8 bits and half the colours."""
LINES = 360
"""Height of a copy in pixels; smaller videos keep theirs."""
RATE_PER_PIXEL, SMALL_RATE = 4, 250_000
"""Bits per second of a copy: for each pixel of its frames, and at least; fewer for a long video, so that it fits."""
LEAST_RATE = 150_000
"""Bits per second below which a copy shows too little."""
MILLISECOND = Fraction(1, 1000)
"""Unit of time stamps in WebM, in seconds."""
KEY_EVERY = 24
"""Frames between the key frames of a copy; browsers seek from them."""


def is_played(video: Path) -> bool:
    """Return whether browsers play a file; True for one that cannot be read, of which the page says so itself.

    Without PyAV the suffix decides.
    """
    codecs = PLAYED.get(video.suffix.lower())
    if codecs is None:
        return False
    try:
        import av
    except ImportError:
        return True
    try:
        with av.open(f"file:{video}") as container:
            codec = container.streams.video[0].codec_context
            return codec.codec.canonical_name in codecs and codec.pix_fmt in PLAYED_PIXELS
    except (av.error.FFmpegError, IndexError):
        return True


def seconds_that_fit(largest: int) -> float:
    """Return the length in seconds of the longest video whose copy fits into a number of bytes."""
    return largest * 8 / LEAST_RATE


def make_preview(video: Path, largest: int) -> bytes:
    """Return a copy of a video in VP8 (WebM), without sound, each frame at its time.

    Args:
        video: file of the video.
        largest: most bytes of the copy.

    Raises:
        VideoError: the video cannot be read.
        InputError: it is too long for a copy of the size.
        MissingDependencyError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise import_failure(error, "av", "", f"{video}: a copy that browsers play") from None
    try:
        with av.open(f"file:{video}") as container:
            length = (container.duration or 0) / av.time_base
            if length > seconds_that_fit(largest):
                raise InputError(
                    f"{video}: got {length / 60:.0f} minutes, of which a copy that browsers play has more than "
                    f"{file_size(largest)}; leave out --embed (embed=False), or cut it"
                )
            return _convert(container, int(0.8 * largest * 8 / max(length, 1)))
    except (av.error.FFmpegError, IndexError, StopIteration) as error:
        raise VideoError(f"{video}: cannot be converted for its page ({error}); leave out --embed") from None


def _convert(container: Any, most: int) -> bytes:
    import av

    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    start = (container.start_time or 0) / av.time_base
    frames = container.decode(stream)
    first = next(frames)
    turn = round(first.rotation / 90) % 4
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm") as copy:
        options = {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0"}
        out: Any = copy.add_stream("libvpx", rate=30, options=options)
        out.width, out.height = _copied_size(stream, turn)
        rate = max(RATE_PER_PIXEL * out.width * out.height, SMALL_RATE)
        out.pix_fmt, out.bit_rate, out.gop_size = "yuv420p", min(rate, most), KEY_EVERY
        out.codec_context.time_base = out.time_base = MILLISECOND
        latest = -1
        for frame in chain([first], frames):
            stamp = latest + 1 if frame.time is None else round(1000 * (frame.time - start))
            if stamp <= latest:
                continue
            latest = stamp
            upright = av.VideoFrame.from_ndarray(upright_frame(frame), format="rgb24") if turn else frame
            picture = upright.reformat(out.width, out.height, "yuv420p")
            picture.pts, picture.time_base, picture.pict_type = stamp, MILLISECOND, 0
            copy.mux(out.encode(picture))
        copy.mux(out.encode())
    return buffer.getvalue()


def _copied_size(stream: Any, turn: int) -> tuple[int, int]:
    """Return width and height of a copy, even numbers: as shown, since pixels may not be square and films may lie."""
    size, aspect = stream.codec_context, stream.sample_aspect_ratio
    shown = (size.width * float(aspect) if aspect else size.width, size.height)
    width, height = reversed(shown) if turn % 2 else shown
    scale = min(1.0, LINES / height)
    return max(round(width * scale / 2) * 2, 2), max(round(height * scale / 2) * 2, 2)
