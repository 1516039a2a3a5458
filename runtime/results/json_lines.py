"""Append JSON lines to a file per video."""

from __future__ import annotations

from pathlib import Path

from runtime.errors import InputError


class JsonLineFiles:
    """Appends lines to DIR/<video>.jsonl."""

    def __init__(self, folder: Path) -> None:
        """Make the folder (OSError: not possible); files are made with their first line."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, video: str, line: str) -> None:
        """Append a line to the file of a video, so that it is there if the process ends at once.

        The file is open only meanwhile, so there may be any number of videos.

        Raises:
            InputError: the name of the video has a path in it.
            OSError: the file cannot be written.
        """
        require_plain(video)
        path = self._folder / f"{video}.jsonl"
        with path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(f"{line}\n")


def require_plain(video: str) -> None:
    """Raise an InputError if the name of a video has a path in it, and so no file can have it."""
    if Path(video).name != video or "\\" in video:
        raise InputError(f"{video!r}: got a video name with a path in it, expected a plain name; rename it")
