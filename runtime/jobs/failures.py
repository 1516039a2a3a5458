"""Keep the videos of a folder that failed in `failures.jsonl`, one line each, until they succeed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runtime.common.console import describe_error
from runtime.common.files import is_file, write_text
from runtime.common.locks import lock_folder
from runtime.common.overwriting import require_own_file, text_that_begins
from runtime.common.text import one_line
from runtime.jobs.plan import VideoJob
from runtime.jobs.records import OWN_FOLDER
from runtime.results.json_lines import FAILURES

FILE = FAILURES
"""Name of the file in the folder of the results."""
BEGINNING = '{"video": '
"""Beginning of each line, by which the file is known as this project's."""


@dataclass(frozen=True)
class Failure:
    """Holds why a video failed; can be sent to other processes."""

    kind: str
    """Type of the error, such as "VideoError"."""
    message: str
    """The error, as one line without secrets."""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe an error as the command line does."""
        return cls(type(error).__name__, one_line(describe_error(error)))


class FailureFile:
    """Adds and removes lines of a folder's file of failures, which several processes may share."""

    def __init__(self, out: Path, verb: str = "afsd detect") -> None:
        """Take the folder of the results; nothing is written yet.

        Args:
            out: the folder.
            verb: name of the command, for others that wait for the lock.
        """
        self.path, self._own, self._verb = out / FILE, out / OWN_FOLDER, verb

    def require_own(self) -> None:
        """Raise an InputError if a file of others is there."""
        require_own_file(self.path, text_that_begins(BEGINNING))

    def names(self) -> set[str]:
        """Return the names of the videos that failed (OSError: the file cannot be read)."""
        return set(self._read())

    def add(self, job: VideoJob, failure: Failure) -> None:
        """Write the line of a video, in place of an older one of its name (OSError: it cannot be written)."""
        line = {
            "video": job.name,
            "source": job.label,
            "error": failure.kind,
            "message": failure.message,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with lock_folder(self._own, self._verb):
            lines = self._read()
            lines.pop(job.name, None)
            lines[job.name] = json.dumps(line, ensure_ascii=False)
            self._write(lines)

    def settle(self, name: str) -> None:
        """Remove the line of a video that has succeeded; the last one takes the file with it (OSError: see `add`)."""
        if not is_file(self.path):
            return
        with lock_folder(self._own, self._verb):
            lines = self._read()
            if lines.pop(name, None) is not None:
                self._write(lines)

    def _read(self) -> dict[str, str]:
        """Return the lines by the names of their videos; what is no line of this project is none."""
        lines: dict[str, str] = {}
        if is_file(self.path):
            for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    name = json.loads(line)["video"]
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue
                if isinstance(name, str):
                    lines[name] = line
        return lines

    def _write(self, lines: dict[str, str]) -> None:
        if lines:
            write_text(self.path, "".join(f"{line}\n" for line in lines.values()))
        else:
            self.path.unlink(missing_ok=True)
