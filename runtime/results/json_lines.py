"""Append JSON lines to a file per video."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from runtime.errors import InputError


class JsonLineFiles:
    """Appends lines to DIR/<video>.jsonl; a context manager that closes the files."""

    def __init__(self, folder: Path) -> None:
        """Make the folder (OSError: not possible); files are made with their first line."""
        self._folder = folder
        self._files: dict[str, TextIO] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, video: str, line: str) -> None:
        """Append a line to the file of a video, so that it is there if the process ends at once.

        Raises:
            InputError: the name of the video has a path in it.
            OSError: the file cannot be written.
        """
        if video not in self._files:
            if Path(video).name != video or "\\" in video:
                raise InputError(f"{video!r}: got a video name with a path in it, expected a plain name; rename it")
            self._files[video] = (self._folder / f"{video}.jsonl").open("a", encoding="utf-8")
        file = self._files[video]
        file.write(f"{line}\n")
        file.flush()

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def __enter__(self) -> JsonLineFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
