"""Read decoded RGB frames one at a time from a file, camera, URL, folder of images or array.

Each reader advances with `grab` and converts with `retrieve`, so frames that are not kept cost no conversion.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError, VideoError

Frame = NDArray[np.uint8]
"""One frame, uint8 [H,W,C] 0–255: RGB or flow (x, y)."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class Reader(Protocol):
    """Reads the decoded frames of one source."""

    name: str
    """Short name for results: the file's stem, "camera0"; empty for arrays."""
    label: str
    """Name of the source in error messages."""
    fps: float | None
    """Frames per second that the source declares; None if it declares none."""
    count: int | None
    """Number of frames that the source declares; None if unknown."""
    background: bool
    """Whether reading takes enough work to deserve its own thread."""

    def grab(self) -> bool:
        """Advance to the next frame; return False at the end."""
        ...

    def retrieve(self) -> Frame:
        """Return the current frame."""
        ...

    def close(self) -> None:
        """Release files and devices."""
        ...


class CaptureReader:
    """Reads a video file, camera or URL through OpenCV."""

    background = True

    def __init__(self, source: str | int) -> None:
        import cv2

        self.name, self.label = _names(source)
        self._cv2 = cv2
        with _quiet(cv2):
            self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            raise VideoError(f"{self.label}: {_explain_failure(source)}")
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if fps > 0 else None
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if isinstance(source, str) and count >= 1 else None

    def grab(self) -> bool:
        return bool(self._capture.grab())

    def retrieve(self) -> Frame:
        decoded, image = self._capture.retrieve()
        if not decoded:
            raise VideoError(f"{self.label}: a frame could not be decoded; the file is damaged")
        rgb: Frame = self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB)
        return rgb

    def close(self) -> None:
        self._capture.release()


class FolderReader:
    """Reads a folder of images in natural order (frame2 before frame10)."""

    background = True
    fps: float | None = None

    def __init__(self, folder: Path) -> None:
        self.name, self.label = folder.resolve().name, str(folder)
        self._images = list_images(folder)
        if not self._images:
            raise VideoError(
                f"{folder}: the folder holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}), so it is no video; "
                "if it holds videos, give one of the files"
            )
        self.count: int | None = len(self._images)
        self._next = 0

    def grab(self) -> bool:
        self._next += 1
        return self._next <= len(self._images)

    def retrieve(self) -> Frame:
        import cv2

        path = self._images[self._next - 1]
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
        if image is None:
            raise VideoError(f"{path}: not a readable image; remove it or write it again")
        rgb: Frame = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return rgb

    def close(self) -> None:
        pass


class ArrayReader:
    """Reads frames [H,W,C] and chunks [t,H,W,C] from memory, in any mixture."""

    name = ""
    background = False
    fps: float | None = None

    def __init__(self, arrays: Iterable[Any], channels: int, count: int | None = None) -> None:
        self.label = "the frames"
        self.count = count
        self._channels = channels
        self._arrays = iter(arrays)
        self._chunk: Iterator[Frame] = iter(())
        self._frame: Frame = np.empty((0, 0, channels), np.uint8)

    def grab(self) -> bool:
        while (frame := next(self._chunk, None)) is None:
            array = next(self._arrays, None)
            if array is None:
                return False
            self._chunk = iter(as_chunk(array, self._channels))
        self._frame = frame
        return True

    def retrieve(self) -> Frame:
        return self._frame

    def close(self) -> None:
        close = getattr(self._arrays, "close", None)
        if close is not None:
            close()


def as_chunk(array: Any, channels: int, name: str = "frames") -> NDArray[np.uint8]:
    """Return a frame [H,W,C] or chunk [t,H,W,C] of uint8 as a chunk [t,H,W,C].

    Args:
        array: the frame or chunk.
        channels: C expected.
        name: name of the argument in messages.

    Raises:
        InputError: other dtype, dimensions or channels, or a frame without pixels.
    """
    value = np.asarray(array)
    kind = "RGB" if channels == 3 else "flow (x, y)"
    expected = f"expected uint8 0–255 [H,W,{channels}] or [T,H,W,{channels}] ({kind})"
    if value.dtype != np.uint8:
        raise InputError(f"{name}: got {value.dtype} {list(value.shape)}, {expected}; convert them first")
    if value.ndim not in (3, 4) or value.shape[-1] != channels or 0 in value.shape[-3:]:
        raise InputError(f"{name}: got shape {list(value.shape)}, {expected}")
    return value[None] if value.ndim == 3 else value


def list_images(folder: Path) -> list[Path]:
    """List the image files of a folder in natural order."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return sorted(found, key=lambda path: natural_key(path.name))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key under which runs of digits compare as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"([0-9]+)", name)]


def is_url(source: object) -> bool:
    """Whether `source` is a URL such as rtsp://host/stream or https://host/file.mp4."""
    return isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def _names(source: str | int) -> tuple[str, str]:
    """Return (short name, label for messages) of a file, URL or camera, without a URL's password and query."""
    if isinstance(source, int):
        return f"camera{source}", f"camera {source}"
    if is_url(source):
        parts = urlsplit(source)
        label = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        return Path(parts.path).stem or parts.hostname or "stream", label
    return Path(source).stem, source


def _explain_failure(source: str | int) -> str:
    if isinstance(source, int):
        return "camera not found, or in use by another program"
    if is_url(source):
        return "cannot be opened; check the address and that the server runs"
    if Path(source).stat().st_size == 0:
        return "the file is empty"
    return "not a video that OpenCV can open (unknown format, or cut off); try to play it, or convert it with ffmpeg"


@contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """Silence OpenCV's and FFmpeg's own messages while a capture is opened.

    FFmpeg reads its log level once, from an environment variable, when the process opens its first video; a value set
    by the user is kept. (Otherwise damaged files print a line per lost block during decoding.)
    """
    variable = "OPENCV_FFMPEG_LOGLEVEL"
    unset = variable not in os.environ
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    level = logging.getLogLevel() if logging else None
    if unset:
        os.environ[variable] = "-8"  # AV_LOG_QUIET
    if logging:
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        if unset:
            os.environ.pop(variable, None)
        if logging:
            logging.setLogLevel(level)
