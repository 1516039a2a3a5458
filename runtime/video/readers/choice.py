"""Choose the reader of a source: PyAV for files and URLs, OpenCV for cameras and where it is named."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from runtime.common.files import describe_mode, exists, is_folder
from runtime.errors import InputError, VideoError
from runtime.video.readers.base import Reader
from runtime.video.readers.images import FolderReader
from runtime.video.readers.memory import ArrayReader
from runtime.video.readers.opencv import OpenCVReader
from runtime.video.readers.pyav import PyAVReader
from runtime.video.sources import STDIN, is_remote, local_path

ReaderName = Literal["auto", "pyav", "opencv"]
"""Library that reads files and URLs. "auto": PyAV, or OpenCV where PyAV is not installed."""

READERS: tuple[ReaderName, ...] = ("auto", "pyav", "opencv")


def open_reader(
    source: Any, channels: int = 3, reader: ReaderName = "auto", *, read_seconds: float | None = None
) -> Reader:
    """Check a source and return the reader for its kind.

    Args:
        source: see `FrameSource`; or a reader, which is returned as it is.
        channels: 3 for RGB; 2 for flow, which only arrays and iterables can hold.
        reader: see `ReaderName`.
        read_seconds: longest wait of PyAV for the next packet of a URL; None: its own.

    Raises:
        VideoError: the source is missing or no video.
        InputError: another type than `FrameSource`, flow wanted from a video, a negative camera, an unknown reader.
        MissingDependencyError: the named reader is not installed.
    """
    if reader not in READERS:
        raise InputError(f"reader: got {reader!r}, expected one of {', '.join(READERS)}")
    if isinstance(source, Reader):
        return source
    if isinstance(source, (str, os.PathLike, int)) and channels != 3:
        raise InputError(f"{source}: a video holds no flow; expected precomputed flow, uint8 [T,H,W,2] (x, y)")
    if isinstance(source, int) and not isinstance(source, bool):
        if source < 0:  # OpenCV ends the process
            raise InputError(f"camera {source}: got a negative number, expected 0 for the first camera, 1 for the next")
        return OpenCVReader(source)
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fspath(source), reader, read_seconds)
    if hasattr(source, "__array__") and not hasattr(source, "convert"):  # a PIL image is a single frame
        array = source if hasattr(source, "shape") else np.asarray(source)
        return ArrayReader([array], channels, len(array) if len(array.shape) == 4 else None, whole=True)
    if isinstance(source, Iterable) and not isinstance(source, (bytes, dict)):
        return ArrayReader(source, channels)
    raise InputError(
        f"frames: got {type(source).__name__}, expected a path, folder, URL, '-' for standard input, camera index, "
        "array or iterable of frames"
    )


def _open_path(source: str, reader: ReaderName, read_seconds: float | None) -> Reader:
    path = local_path(source)
    if path is not None:
        if is_folder(path):
            return FolderReader(path)
        require_video_file(path)
    if source == STDIN and sys.stdin is not None and sys.stdin.isatty():
        raise VideoError("standard input: a terminal; expected a video, as in: cat a.mkv | afsd detect MODEL -")
    if resolve_reader(reader) == "opencv":
        if source == STDIN or is_remote(source):
            raise InputError(f"{source}: OpenCV reads files and plain URLs only; use the reader pyav (pip install av)")
        return OpenCVReader(source)
    return PyAVReader(source) if read_seconds is None else PyAVReader(source, read_seconds=read_seconds)


def require_video_file(path: Path) -> None:
    """Check that a path is a file with content, before a reader opens it.

    Raises:
        VideoError: nothing is there, a pipe or device is, or the file is empty.
    """
    if not exists(path):
        raise VideoError(f"{path}: file or folder not found")
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):  # to open a pipe waits for a writer, and a device may have no end
        raise VideoError(
            f"{path}: {describe_mode(state.st_mode)}, no file; expected a video file, - for standard input, or the "
            "number of a camera"
        )
    if state.st_size == 0:
        raise VideoError(f"{path}: the file is empty")


def resolve_reader(reader: ReaderName) -> ReaderName:
    """Return the library that reads files and URLs, "auto" replaced by the one that is installed."""
    if reader != "auto":
        return reader
    return "pyav" if _has_pyav() else "opencv"


@cache
def _has_pyav() -> bool:
    return find_spec("av") is not None
