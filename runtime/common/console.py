"""Print results, errors, warnings and progress, and end every failure of a command with one line."""

from __future__ import annotations

import errno
import io
import json
import os
import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TextIO

import runtime
from runtime.common.stops import Stops, handle_signals
from runtime.common.text import LINE_ESCAPES, cut_to_columns, one_line, printable, without_secrets
from runtime.errors import AfsdError

EXIT_ERROR = 2
"""Exit status of a command that failed with an error of this project."""
EXIT_UNFORESEEN = 70
"""Exit status of a command that failed with an error that this project did not foresee (EX_SOFTWARE)."""
EXIT_HUNG = 75
"""Exit status of a process that ended itself because it hung: start it again (EX_TEMPFAIL)."""


USUAL_COLUMNS = 80
"""Width of a terminal that does not say how wide it is."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system for a disk, a share of it or a file that can take no more."""


class EscapingStream:
    """Writes text to a stream with control characters escaped and without secrets of URLs, whatever prints.

    A name must not move the cursor, and the complaint about a flag must not repeat a camera's password. Where the
    stream can take no more, as on a full disk, what follows is dropped: the work goes on.
    """

    def __init__(self, stream: TextIO) -> None:
        self.plain = stream
        self.failure: OSError | None = None
        """Reason for which text was dropped."""

    def write(self, text: str) -> int:
        """Write text; line feeds and tabs stay. URLs lose user, password and query.

        Raises:
            BrokenPipeError: the reader has gone.
        """
        return self.write_data(without_secrets(text)) and len(text)

    def write_data(self, text: str) -> int:
        """Write text of which nothing may be left out, such as JSON; see `write`."""
        with self._dropping():
            self.plain.write(text.translate(LINE_ESCAPES))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        with self._dropping():
            self.plain.flush()

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failure = self.failure or error
            _drop_rest(self.plain)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


def plain_stderr() -> TextIO:
    """Return stderr for what moves the cursor itself, such as progress."""
    stream: TextIO = sys.stderr.plain if isinstance(sys.stderr, EscapingStream) else sys.stderr
    return stream


def run_command(run: Callable[[], int]) -> int:
    """Run a command and return its exit status; every failure is one line on stderr.

    2: an error of this project or of the system; 128 + N: ended by signal N; 70: an error that nobody foresaw, whose
    traceback is in the log that the line names. What is printed is escaped.
    """
    accept_any_text()
    with _escaped_output() as (out, errors), handle_signals() as stops:
        try:
            status = _run_to_a_line(run, stops)
            if out.failure is not None and not status:
                print_error(AfsdError(f"standard output: {out.failure.strerror}; what was printed is not whole"))
                status = EXIT_ERROR
            for stream in (out, errors):
                _flush(stream)
        except KeyboardInterrupt as error:  # also one that comes while an error is printed
            stops.number = getattr(error, "number", signal.SIGINT)
            status = stops.status
            if status:
                stops.say()
            for stream in (out, errors):
                _flush(stream)
        stops.depth += 1  # a signal that comes now is too late
    return status


def _run_to_a_line(run: Callable[[], int], stops: Stops) -> int:
    """Run a command; print a failure as one line and return the exit status (KeyboardInterrupt: it was interrupted)."""
    try:
        status = run()
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of the output (head, less) has exited
        return 0
    except (AfsdError, OSError) as error:
        print_error(error)
    except MemoryError as error:
        print_error(error)
    except Exception as error:  # the last line of defence: a traceback is no message
        if stops.number:  # of a library that a signal interrupted
            stops.say()
            return stops.status
        _print_unforeseen(error)
        return EXIT_UNFORESEEN
    return EXIT_ERROR


def run_script(run: Callable[[], object]) -> int:
    """Print the result of `run` as a command's, see `run_command`."""

    def print_result() -> int:
        print(run())
        return 0

    return run_command(print_result)


def accept_any_text() -> None:
    """Let stdout and stderr print what their encoding lacks as \\x and \\u escapes, in place of an error.

    A dash, a label or a file's name would otherwise end a command on a terminal of ASCII or Latin-1. Streams that the
    shell has closed (>&-) are opened on nothing, since a file opened later would get what is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # the lowest free number is this one
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 — for as long as the process runs
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _escaped_output() -> Iterator[tuple[EscapingStream, EscapingStream]]:
    """Escape what is printed meanwhile; yield stdout and stderr."""
    before = sys.stdout, sys.stderr
    out, errors = (s if isinstance(s, EscapingStream) else EscapingStream(s) for s in before)
    sys.stdout, sys.stderr = out, errors
    try:
        yield out, errors
    finally:
        sys.stdout, sys.stderr = before


def _flush(stream: EscapingStream) -> None:
    """Flush a stream; where nobody takes the rest, drop it, or Python would complain at its exit."""
    try:
        stream.flush()
    except (OSError, ValueError):
        _drop_rest(stream.plain)


def _drop_rest(stream: TextIO) -> None:
    """Have what is still to be written to a stream go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def drop_output() -> None:
    """Have what is still printed on stdout go nowhere, since its reader has gone and the work goes on."""
    stream = sys.stdout
    _drop_rest(stream.plain if isinstance(stream, EscapingStream) else stream)


def print_json(content: object, indent: int | None = None) -> None:
    """Print JSON at once: letters as they are where stdout is Unicode, else escaped as JSON has it.

    Control characters are escaped as JSON has it, too, and nothing is left out: a label may be an address.
    """
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(content, indent=indent, ensure_ascii=not unicode) + "\n"
    stream: Any = sys.stdout
    (stream.write_data if isinstance(stream, EscapingStream) else stream.write)(text)
    stream.flush()


def print_error(error: Exception | str) -> None:
    """Print an error as one line."""
    _print_stderr(f"afsd: error: {one_line(error if isinstance(error, str) else describe_error(error))}")


def describe_error(error: BaseException) -> str:
    """Return the text of an error: for one of the system the file, the reason and what to do."""
    if isinstance(error, OSError) and error.filename is not None:
        advice = "make room there, or choose another place" if error.errno in FULL else "choose another"
        return without_secrets(f"{error.filename}: {error.strerror}; {advice}")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error.strerror}; raise the limit (ulimit -n), or give less to do at once, as with fewer --workers"
    if isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ENOMEM) and error.strerror:
        return f"no further process or memory is to be had ({error.strerror}); give it more, or less work"
    if isinstance(error, MemoryError):
        return f"out of memory ({one_line(error) or 'no more is free'}); give it more, or less work"
    return str(error)


def print_warning(message: Warning | str) -> None:
    """Print a warning as one line."""
    _print_stderr(f"afsd: warning: {one_line(message)}")


def print_note(message: str) -> None:
    """Print a note as one line of stderr."""
    _print_stderr(one_line(message))


def _print_stderr(line: str) -> None:
    with suppress(OSError, ValueError):  # nobody reads it
        print(line, file=sys.stderr, flush=True)


def _print_unforeseen(error: Exception) -> None:
    """Print an error that nobody foresaw as one line, with the path of a log of its traceback."""
    line, trace = describe_unforeseen(error)
    _print_stderr(f"afsd: error: {line}")
    for text in trace:
        _print_stderr(text)


def describe_unforeseen(error: Exception) -> tuple[str, list[str]]:
    """Write a log of the traceback of an error that nobody foresaw.

    Returns:
        One line, which names the log, and the lines of the traceback where no log can be written.
    """
    trace = "".join(traceback.format_exception(error))
    kind = f"{type(error).__name__}: {one_line(error)[:200]}" if str(error) else type(error).__name__
    try:
        log = _write_log(trace)
    except OSError:
        line = f"unforeseen {kind}; please report this line with the traceback below"
        return line, [printable(text) for text in without_secrets(trace).splitlines()]
    return f"unforeseen {kind}; the traceback is in {log}, please report this line with it", []


def _write_log(trace: str) -> str:
    """Write a traceback to a file in the folder for temporary files that only its owner can read."""
    number, path = tempfile.mkstemp(prefix="afsd-", suffix=".log")
    words = " ".join(map(repr, sys.argv))
    facts = f"afsd {runtime.__version__}, Python {platform.python_version()}, {platform.platform()}"
    with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123 — an open file
        file.write(without_secrets(f"{facts}\n{words}\n\n{trace}"))
    return path


_hidden = ContextVar("afsd_progress_hidden", default=False)


@contextmanager
def without_progress() -> Iterator[None]:
    """Show no progress while the block runs."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


def shows_progress() -> bool:
    """Return whether progress is shown: on a terminal, not in a log file, and not with -q."""
    return plain_stderr().isatty() and not _hidden.get()


def _columns(stream: TextIO) -> int:
    """Return the width of a terminal; where it does not say, the usual one."""
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    return USUAL_COLUMNS


class ProgressLine:
    """Shows progress on one line of stderr that is overwritten; shows nothing if stderr is not a terminal."""

    def __init__(self) -> None:
        self._stream = plain_stderr()
        self._visible = shows_progress()
        self._shown = False

    def show(self, text: str) -> None:
        """Replace the line; what the terminal has no room for is left out, since a second line would stay."""
        if self._visible:
            self._write(f"\r{cut_to_columns(one_line(text), _columns(self._stream) - 1)}\x1b[K")
            self._shown = True

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
