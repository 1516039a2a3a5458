"""Make the videos of the study of speed: one real scene at several resolutions and lengths, 30 frames per second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.common.files import atomic_path
from runtime.errors import VideoError
from runtime.inputs import open_input
from runtime.spec.model import ModelSpec
from runtime.video.sampling import open_frames
from runtime.windows import Window

RATE = 30
"""Frames per second of the files."""
SCENE_S = 10
"""Longest part of the source that is encoded, seconds; longer videos repeat it."""
CODEC = {"preset": "veryfast", "crf": "23", "bf": "2", "g": "60"}
"""Options of H.264, as of a video from the network."""


def make_video(source: Path, out: Path, height: int, seconds: int) -> Path:
    """Write an H.264 file of a scene that is encoded once and repeated, unless it exists, and return its path.

    Args:
        source: video of the scene.
        out: folder of the file, named <height>p_<seconds>s.mp4.
        height: pixels; the aspect ratio becomes 16:9.
        seconds: length of the file.

    Raises:
        VideoError: the source cannot be read, or FFmpeg's build writes no H.264.
    """
    path = out / f"{height}p_{seconds}s.mp4"
    if path.is_file():
        return path
    scene = out / f"{height}p_scene.mp4"
    width = round(height * 16 / 9 / 2) * 2
    try:
        if not scene.is_file():
            with atomic_path(scene) as unfinished:
                _encode(source, unfinished, (width, height))
        with atomic_path(path) as unfinished:
            _repeat(scene, unfinished, seconds)
    except av.FFmpegError as error:
        raise VideoError(f"{path}: cannot be written ({error.strerror}); install PyAV's own wheel") from None
    return path


def repeat_frames(video: Path, spec: ModelSpec, frames: int) -> Iterator[NDArray[np.uint8]]:
    """Yield `frames` frames [H,W,C] as the network sees them, the first window of the video over and over."""
    with closing(open_input(str(video), spec)) as opened:
        first = next(window for window in opened.windows() if isinstance(window, Window))
    window = first.frames[: first.length]
    return (window[index % len(window)] for index in range(frames))


def _encode(source: Path, path: Path, size: tuple[int, int]) -> None:
    """Encode the beginning of a video at a size (width, height)."""
    with open_frames(str(source), RATE, allow_truncated=True) as frames, av.open(path, "w", format="mp4") as file:
        stream: Any = file.add_stream("libx264", rate=RATE, options=CODEC)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for frame in islice(frames, RATE * SCENE_S):
            image = np.ascontiguousarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())


def _repeat(scene: Path, path: Path, seconds: int) -> None:
    """Copy the packets of a scene until the file is `seconds` long; nothing is encoded anew."""
    with av.open(path, "w", format="mp4") as file, av.open(scene) as first:
        stream = file.add_stream_from_template(first.streams.video[0])
        written, wanted = 0, seconds * RATE
        while written < wanted:
            with av.open(scene) as again:
                origin = again.streams.video[0]
                tick = Fraction(1, RATE) / (origin.time_base or Fraction(1, RATE))
                start, count = int(written * tick), 0
                for packet in again.demux(origin):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + start, packet.dts + start
                    packet.stream = stream
                    file.mux(packet)
                    count += 1
            written += count
