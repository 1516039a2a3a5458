"""Print errors, warnings and progress to stderr."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from types import TracebackType

from runtime.common.files import one_line
from runtime.errors import AfsdError

EXIT_ERROR = 2
"""Exit status of a command that failed with an error of this project."""


def accept_any_text() -> None:
    """Let stdout and stderr print what their encoding lacks as \\x and \\u escapes, in place of an error.

    A dash, a label or a file's name would otherwise end a command on a terminal of ASCII or Latin-1.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 — for as long as the process runs
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def print_json(content: object, indent: int | None = None) -> None:
    """Print JSON at once: letters as they are where stdout is Unicode, else escaped as JSON has it."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    print(json.dumps(content, indent=indent, ensure_ascii=not unicode), flush=True)


def print_error(error: Exception) -> None:
    """Print an error as one line."""
    if isinstance(error, OSError) and error.filename is not None:
        error = AfsdError(f"{error.filename}: {error.strerror}; choose another")
    print(f"afsd: error: {one_line(error)}", file=sys.stderr)


def run_script(run: Callable[[], object]) -> int:
    """Print the result of `run` and return 0; on an `AfsdError`, print one line to stderr and return 2."""
    accept_any_text()
    try:
        print(run())
    except AfsdError as error:
        print_error(error)
        return EXIT_ERROR
    return 0


def print_warning(message: Warning | str) -> None:
    """Print a warning as one line."""
    print(f"afsd: warning: {one_line(message)}", file=sys.stderr)


class ProgressLine:
    """Shows progress on one line of stderr that is overwritten; shows nothing if stderr is not a terminal."""

    def __init__(self) -> None:
        self._visible = sys.stderr.isatty()
        self._shown = False

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._visible:
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = True

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
