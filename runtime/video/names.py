"""Match videos with their files by name and content."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from runtime.common.files import file_sha256
from runtime.errors import VideoError
from runtime.video.sources import VIDEO_SUFFIXES

ID_PREFIX = "v_"
"""Prefix of ActivityNet's video ids in file names."""


def other_name(name: str) -> str:
    """Return X for v_X and v_X for X: ActivityNet's files are named v_X, its annotations X."""
    return name.removeprefix(ID_PREFIX) if name.startswith(ID_PREFIX) else f"{ID_PREFIX}{name}"


DIGITS = 16
"""Number of SHA-256 digits that identify a video."""


def video_digest(path: Path) -> str:
    """Return the first digits of a file's SHA-256, which identify a video whatever its name."""
    return file_sha256(path)[:DIGITS]


def find_name(name: str, known: Container[str]) -> str | None:
    """Return `name` if it is in `known`, else its `other_name` if that is, else None."""
    return next((candidate for candidate in (name, other_name(name)) if candidate in known), None)


def find_video(folder: Path, name: str) -> Path:
    """Find the video file `name`, or else its `other_name`, in `folder`, whatever its format.

    Raises:
        VideoError: neither is there.
    """
    for candidate in (name, other_name(name)):
        for suffix in sorted(VIDEO_SUFFIXES):
            for path in (folder / f"{candidate}{suffix}", folder / f"{candidate}{suffix.upper()}"):
                if path.is_file():
                    return path
    raise VideoError(f"{folder / name}: video not found; expected {name}.mp4 or another video file of that name")
