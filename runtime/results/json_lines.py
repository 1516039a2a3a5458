"""Append JSON lines to a file per video."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from runtime.common.files import require_writable_folder
from runtime.common.locks import hold_file
from runtime.common.names import path_in
from runtime.errors import InputError

BEGINNINGS = (b'{"video": ', b'{"event": ')
"""First bytes of the lines of detections and events; by them a file is known as this project's."""


FAILURES = "failures.jsonl"
"""Name of the file with the videos of a folder that failed."""
ROWS = "detections.jsonl"
"""Name of the table with a row for each detection of all videos of a folder."""


class JsonLineFiles:
    """Appends lines to DIR/<video>.jsonl; those of a video "day1/cam1" to DIR/day1/cam1.jsonl."""

    def __init__(self, folder: Path) -> None:
        """Make the folder (InputError: not possible); files are made with their first line."""
        self._folder = folder
        self._ours: set[Path] = set()
        require_writable_folder(folder)

    def append(self, video: str, line: str) -> None:
        """Append a line to the file of a video, so that it is there if the process ends at once.

        The file is open only meanwhile, so there may be any number of videos, and of processes that append to it.

        Raises:
            InputError: the name of the video is none that a file can have, see `path_in`, or the file is somebody
                else's.
            OSError: the file cannot be written.
        """
        path = path_in(self._folder, video, ".jsonl", deep=True)
        if path.parent != self._folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        data = f"{line}\n".encode(errors="backslashreplace")
        with path.open("a+b", buffering=0) as file, hold_file(file):
            start = file.seek(0, os.SEEK_END)
            if start:
                if path not in self._ours:
                    file.seek(0)
                    if file.read(len(BEGINNINGS[0])) not in BEGINNINGS:
                        raise InputError(
                            f"{path}: is there already and holds no lines of afsd, so nothing is appended; "
                            "choose another --out"
                        )
                file.seek(start - 1)
                if file.read(1) != b"\n":  # a process that was killed has left half a line
                    data = b"\n" + data
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                file.truncate(start)
                error.filename = str(path)
                raise
            self._ours.add(path)


def is_ours(path: Path) -> bool:
    """Return whether a file of lines is this project's, by its first bytes."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(BEGINNINGS[0])) in BEGINNINGS
    except OSError:
        return False
