"""A folder in which commands run, each in a child that is forked from a process with all libraries loaded."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.attack.fingerprints import fingerprints
from tests.attack.verbs import Verb

LIMIT_S = 120.0
"""Seconds after which a command counts as hung."""
FILE_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
HUNG = -1
RECORDS = ".afsd"
"""Folder in which a command keeps what is its own."""

Before = Callable[[], object]
"""Function that is called in a child before its command."""


class Place:
    """Runs commands of one verb in `work`, which holds `given`, never written to, and `out`.

    `out` is at first a copy of `first`. What a child prints lies beside `work`.
    """

    def __init__(self, verb: Verb, folder: Path) -> None:
        """Import what the verb needs and fill the folders, in a child: the parent must start no threads."""
        self.verb, self.folder, self.work = verb, folder, folder / "work"
        for module in verb.imports:
            importlib.import_module(module)
        (self.work / "out").mkdir(parents=True)
        (self.work / "given").mkdir()
        self.require(self.call(lambda: verb.fill(self.work)), "cannot be set up")
        (self.work / "out").rename(folder / "first")
        self.old = fingerprints(folder / "first")

    @property
    def out(self) -> Path:
        return self.work / "out"

    def reset(self) -> None:
        """Give `out` its first content, in the folder that is there, which may be a file system of its own."""
        self.out.mkdir(exist_ok=True)
        for path in self.out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.folder / "first", self.out, dirs_exist_ok=True)

    def undisturbed(self) -> dict[str, str]:
        """Run the command, and return the fingerprints of its results."""
        self.reset()
        self.require(self.command(), "fails undisturbed")
        return fingerprints(self.out)

    def command(self, words: Sequence[str] = (), before: Before = lambda: None) -> int:
        """Run a command to its end and return its exit status."""
        return wait(self.start(words, before))

    def start(self, words: Sequence[str] = (), before: Before = lambda: None, log: str = "said") -> int:
        """Start a command, by default the verb's, in a child and return its process id."""

        def run() -> int:
            from runtime.cli import main

            self.verb.patch()
            before()
            return main(words or self.verb.words(self.work))

        return self._fork(run, log)

    def call(self, function: Callable[[], object]) -> int:
        """Call a function in a child and return 0, or the exit status of its failure."""

        def run() -> int:
            function()
            return 0

        return wait(self._fork(run, "said"))

    def said(self, log: str = "said") -> str:
        """Return the last line that a child printed."""
        lines = (self.folder / log).read_text(errors="replace").splitlines()
        return lines[-1] if lines else "nothing"

    def require(self, status: int, what: str) -> None:
        """End the attack unless a status is 0."""
        if status:
            raise SystemExit(f"{what}, status {status}:\n{(self.folder / 'said').read_text(errors='replace')}")

    def hidden(self) -> list[str]:
        """Return what lies in `out` that is neither a result nor a record: temporary files and locks."""
        return [str(path.relative_to(self.out)) for path in self.out.rglob(".*") if path.name != RECORDS]

    def _fork(self, run: Callable[[], int], log: str) -> int:
        """Run a function in a forked child, which ends with what it returns."""
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            return child
        status = 99
        gc.disable()  # as in `sandbox.make_input`
        try:
            said = os.open(self.folder / log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            sys.stdout, sys.stderr = (open(k, "w", buffering=1, closefd=False) for k in (1, 2))  # noqa: SIM115
            os.chdir(self.work)
            status = run()
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 98
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)


@contextmanager
def new_place(verb: Verb) -> Iterator[Place]:
    """Make a place for a verb in a new folder, which is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    try:
        yield Place(verb, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def print_faults(heading: str, faults: Sequence[str]) -> bool:
    """Print what an attack found, and return whether it found anything."""
    print("\n    ".join([heading, *faults]), flush=True)
    return bool(faults)


def wait(child: int) -> int:
    """Wait for a child and return its exit status, or minus the signal that ended it; kill it if it hangs."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return HUNG


def watch_files(folder: Path, at: int = 0, number: int = signal.SIGKILL) -> Callable[[], int]:
    """Count this process's operations on files below a folder, and send it a signal before number `at` (0: never).

    Operations are opening for writing, renaming, removing, and synchronising; the returned function gives their number.
    """
    count, inside = 0, str(folder)

    def step() -> None:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), number)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes, os.PathLike)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                name = os.fsdecode(path)
                if name.startswith(inside) or not name.startswith("/"):
                    step()
        elif event in FILE_EVENTS:
            step()

    fsync = os.fsync

    def synchronise(descriptor: int) -> None:
        step()
        fsync(descriptor)

    sys.addaudithook(audit)
    os.fsync = synchronise  # type: ignore[assignment]
    return lambda: count
