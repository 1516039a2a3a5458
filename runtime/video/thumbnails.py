"""Take small pictures of a video, evenly spread, for the strip above a timeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT = 90
"""Height of a thumbnail in pixels, twice that on the page, for fine screens."""
WIDEST = 240
"""Largest width of a thumbnail in pixels."""
NEAR = 0.25
"""Distance, as a share of the time between thumbnails, at which an earlier key frame is good enough."""
FORWARD_S = 4.0
"""Seconds between thumbnails up to which the video is read without jumps, since key frames are as far apart."""


def read_thumbnails(video: Path | None, count: int, duration_s: float) -> list[NDArray[np.uint8]]:
    """Return thumbnails, RGB [H,W,3], of the middles of `count` equal parts of a video, or none.

    The reader jumps from key frame to key frame, so a long video takes little longer than a short one. Thumbnails adorn
    a picture: of a video that cannot be read there are none.

    Args:
        video: file of the video, or None.
        count: number of thumbnails.
        duration_s: length of the video in seconds.
    """
    if video is None or not video.is_file() or not count or not duration_s > 0:
        return []
    times = [(k + 0.5) * duration_s / count for k in range(count)]
    try:
        pictures = list(_frames_at(video, times, NEAR * duration_s / count))
    except Exception:  # whatever FFmpeg says of a damaged file, or PyAV is not installed
        return []
    return pictures if len(pictures) == count else []


def _frames_at(video: Path, times: list[float], near: float) -> Iterator[NDArray[np.uint8]]:
    """Yield the frame, RGB [H,W,3], on screen at each time, or one that appeared at most `near` seconds before."""
    import av

    with av.open(f"file:{video}") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start = (container.start_time or 0) / av.time_base
        frames = container.decode(stream)
        latest: Any = None
        for time in times:
            if near > NEAR * FORWARD_S and (latest is None or start + time - latest.time > near):
                container.seek(round((start + time) * av.time_base), backward=True)
                frames = container.decode(stream)
            while latest is None or start + time - latest.time > near:
                frame = next(frames, None)
                if frame is None or (latest is not None and frame.time > start + time):
                    break
                latest = frame
            if latest is None:
                return
            yield _shrink(upright_frame(latest))


def upright_frame(frame: Any) -> NDArray[np.uint8]:
    """Return a frame as it is shown, RGB [H,W,3]: telephones film lying and note the turn."""
    return np.rot90(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), round(frame.rotation / 90) % 4)


def _shrink(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    scale = min(HEIGHT / height, WIDEST / width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
