"""Append JSON lines to a file per video."""

from __future__ import annotations

from pathlib import Path

from runtime.results.video_names import require_plain


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
