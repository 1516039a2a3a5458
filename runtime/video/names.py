"""What a user types for videos on the command line, as sources for `open_frames`."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from runtime.common.files import file_sha256
from runtime.errors import VideoError
from runtime.video.readers import is_url, natural_key

ID_PREFIX = "v_"
"""Before the ids of ActivityNet's videos in their file names."""

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"}
    | {".webm", ".wmv"}
)


def expand_sources(arguments: Sequence[str]) -> list[str | int]:
    """Files, URLs, camera numbers and folders → one source per video.

    A folder stands for the videos in it, in natural order; one without videos is a video of images. Text that is
    neither number, URL nor folder is a file, existing or not: opening it tells.
    """
    sources: list[str | int] = []
    for text in arguments:
        path = Path(text)
        if text.isdecimal() and not path.exists():
            sources.append(int(text))
        elif not is_url(text) and path.is_dir():
            sources += _videos_of(path) or [text]
        else:
            sources.append(text)
    return sources


def other_name(name: str) -> str:
    """ActivityNet calls video X's files v_X, and X only X in its annotations: each of the two for the other."""
    return name.removeprefix(ID_PREFIX) if name.startswith(ID_PREFIX) else f"{ID_PREFIX}{name}"


DIGITS = 16
"""Digits of a video's SHA-256 by which it is known."""


def video_digest(path: Path) -> str:
    """First digits of a file's SHA-256, by which a video is known under any name."""
    return file_sha256(path)[:DIGITS]


def known_as(name: str, known: Container[str]) -> str | None:
    """Under which of its two names a video is known; its own goes first. None: under neither."""
    return next((candidate for candidate in (name, other_name(name)) if candidate in known), None)


def find_video(folder: Path, name: str) -> Path:
    """The video file `name` in `folder`, whatever its format; else that of its `other_name`.

    Raises:
        VideoError: there is none.
    """
    for candidate in (name, other_name(name)):
        for suffix in sorted(VIDEO_SUFFIXES):
            for path in (folder / f"{candidate}{suffix}", folder / f"{candidate}{suffix.upper()}"):
                if path.is_file():
                    return path
    raise VideoError(f"{folder / name}: no such video; expected {name}.mp4 or another video file of that name")


def is_live(source: str | int) -> bool:
    """True for sources without an end: cameras and RTSP streams."""
    return isinstance(source, int) or source.lower().startswith(("rtsp://", "rtmp://", "udp://"))


def _videos_of(folder: Path) -> list[str | int]:
    videos = [path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    return [str(path) for path in sorted(videos, key=lambda path: natural_key(path.name))]
