"""End a command at SIGINT, SIGTERM or SIGHUP: what is final is given out, and the process ends within two seconds.

The first signal raises `Stopped` in the main thread. Where that thread does not answer, since it is in a call of a
native library, another thread gives out what is final and ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE_S = 1.0
"""Seconds that the main thread has to end by itself."""
AGAIN_S = 2.0
"""Seconds after which another signal ends the process at once; sooner it is ignored, as supervisors send several."""
GIVE_OUT_S = 0.5
"""Seconds that giving out and printing may take after the grace; where nobody reads the output, they never end."""
FLUSH_S = 0.15
"""Seconds that the last line and the rest of the output may take."""
LONGEST_SAVE_S = 30.0
"""Seconds that saving, and a shielded block, may take after a signal."""
SIGNALS = tuple(number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)))


class Stopped(KeyboardInterrupt):
    """Is raised in the main thread when a signal asks the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Once:
    """Calls a function once, whichever thread comes first; the other waits until it has returned."""

    def __init__(self, call: Callable[[], object], longest_s: float = FLUSH_S) -> None:
        self._call, self._lock, self._called = call, threading.Lock(), False
        self.longest_s = longest_s
        """Seconds that the thread which ends the process waits for it."""

    def run(self) -> None:
        with self._lock:
            if not self._called:
                self._called = True
                self._call()


class Stops:
    """Holds the state of the signals of this process while a command runs; made by `handle_signals`."""

    def __init__(self) -> None:
        self.number = 0
        """Number of the signal that asked the command to end; 0: none has."""
        self.outputs: list[_Once] = []
        self.shielded = threading.RLock()
        self.shield_s = 0.0
        """Longest time in seconds that the shielded block of the moment may take after a signal."""
        self.depth = 0
        self.instead: Callable[[], None] | None = None
        self.again: _Once | None = None
        """What is done before a second signal ends the process."""
        self._at, self._pending = 0.0, False
        self._done = False
        self._wake = threading.Event()
        self._said = _Once(self._say)
        self.grace_s = GRACE_S
        self.silent = False
        """Whether nothing is printed of the signal."""

    @property
    def status(self) -> int:
        """Exit status: 128 and the number of the signal, or 0 where the signal is the normal end."""
        return 0 if self.instead is not None else 128 + self.number

    def say(self) -> None:
        """Print once, as one line of stderr, what ended the command."""
        self._said.run()

    def raise_pending(self) -> None:
        """Raise `Stopped` if a signal came while signals were held back."""
        if self._pending and not self.depth:
            self._pending = False
            raise Stopped(self.number)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals; those that the parent had set to be ignored stay so, as nohup asks."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        threading.Thread(target=self._watch, args=(reader,), name="afsd-stops", daemon=True).start()
        before = {number: signal.getsignal(number) for number in SIGNALS}
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        try:
            yield
        finally:
            self._done = True
            self._wake.set()
            for number, handler in before.items():  # a process that is ending is not disturbed by more signals
                default = handler in (signal.SIG_DFL, signal.default_int_handler)
                signal.signal(number, signal.SIG_IGN if self._at and default else handler)
            signal.set_wakeup_fd(wakeup)
            os.close(writer)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Take a signal in the main thread."""
        if self.number:
            if time.monotonic() - self._at > AGAIN_S:
                self._exit(self.status)
            return
        self.number, self._at = number, time.monotonic()
        if self.instead is not None:
            self.instead()
        elif _is_importing(frame):
            self._wake.set()
        else:
            self._pending = True
            self.raise_pending()

    def _watch(self, reader: int) -> None:
        """Read the signals, which arrive here whatever the main thread does (the thread's body)."""
        first = 0.0
        while data := os.read(reader, 1):
            if data[0] not in SIGNALS:
                continue
            if not first:
                first = time.monotonic()
                threading.Thread(target=self._end, args=(data[0],), name="afsd-end", daemon=True).start()
            elif time.monotonic() - first > AGAIN_S:
                self._exit(self.status if self.number else 128 + data[0])
        os.close(reader)

    def _end(self, number: int) -> None:
        """End the process unless the main thread does in time (a thread's body)."""
        self._wake.wait(self.grace_s)
        if self._done:
            return
        self.number = self.number or number
        if self.shielded.acquire(timeout=self.shield_s):
            for output in reversed(self.outputs):
                _run_in_time(output.run, output.longest_s)
        if self.instead is None:
            _run_in_time(self.say, FLUSH_S)
        _run_in_time(_flush_all, FLUSH_S)
        self._exit(self.status)

    def _exit(self, status: int) -> None:
        """End the process, after what is to be done before."""
        if self.again is not None:
            _run_in_time(self.again.run, self.again.longest_s)
        os._exit(status)

    def _say(self) -> None:
        if self.silent:
            return
        with suppress(OSError, ValueError):
            told = "interrupted" if self.number == signal.SIGINT else f"ended by {signal.Signals(self.number).name}"
            print(f"afsd: {told}", file=sys.stderr, flush=True)


def _run_in_time(call: Callable[[], object], longest_s: float) -> None:
    """Call a function in a thread, and wait for it at most for so many seconds."""
    thread = threading.Thread(target=call, name="afsd-give-out", daemon=True)
    thread.start()
    thread.join(longest_s)


def _flush_all() -> None:
    for stream in (sys.stderr, sys.stdout):
        with suppress(OSError, ValueError):
            stream.flush()


_current: Stops | None = None


@contextmanager
def handle_signals() -> Iterator[Stops]:
    """Have signals end what runs in the block; outside the main thread, and in another such block, do nothing."""
    global _current
    if _current is not None or threading.current_thread() is not threading.main_thread():
        yield _current or Stops()
        return
    _current = Stops()
    try:
        with _current.installed():
            yield _current
    finally:
        _current = None


def be_silent() -> None:
    """Have nothing printed of a signal that ends this command: another process of it says so."""
    if _current is not None:
        _current.silent = True


@contextmanager
def give_out_at_stop(give_out: Callable[[], object], longest_s: float = GIVE_OUT_S) -> Iterator[None]:
    """Call a function if a signal ends the block, once, to give out or save what is final by then.

    The function may be called from another thread while the block goes on (see `shield`). What it raises is printed.

    Args:
        give_out: the function.
        longest_s: seconds for which the end of the process waits for it; `LONGEST_SAVE_S` for one that prints nothing.
    """
    once = _Once(lambda: _report_errors(give_out), longest_s)
    outputs = [] if _current is None else _current.outputs
    outputs.append(once)
    try:
        yield
    except KeyboardInterrupt:
        once.run()
        raise
    finally:
        outputs.remove(once)


@contextmanager
def shield(longest_s: float = LONGEST_SAVE_S) -> Iterator[None]:
    """Let no signal interrupt the block, nor `give_out_at_stop` see its middle; the signal takes effect at its end.

    After a signal the block may take `longest_s` seconds: `GIVE_OUT_S` for one that prints.
    """
    stops = _current
    if stops is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    with stops.shielded:
        stops.depth, before, stops.shield_s = stops.depth + 1, stops.shield_s, longest_s
        try:
            yield
        finally:
            stops.depth, stops.shield_s = stops.depth - 1, before
    stops.raise_pending()


@contextmanager
def end_well_at_stop(
    end: Callable[[], None], grace_s: float, last: Callable[[], object] | None = None
) -> Iterator[None]:
    """Have the first signal in the block call `end`, after which the block ends by itself; the exit status is then 0.

    The process ends in any case after `grace_s` seconds, and at a second signal; before that, `last` is called, which
    may take as long as `GIVE_OUT_S`.
    """
    if _current is None:
        yield
        return
    _current.instead, _current.grace_s = end, grace_s
    _current.again = None if last is None else _Once(last, GIVE_OUT_S)
    try:
        yield
    finally:
        _current.again = None
        if not _current.number:
            _current.instead, _current.grace_s = None, GRACE_S


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported: native libraries abort the process at an error in their imports."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _report_errors(give_out: Callable[[], object]) -> None:
    from runtime.common.console import print_error

    try:
        give_out()
    except Exception as error:  # the other outputs are still to be given
        print_error(error)


def _forget() -> None:
    """Leave a forked process's signals to those who made it; Ctrl-C in a terminal reaches the whole group."""
    global _current
    if _current is not None:
        _current = None
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
