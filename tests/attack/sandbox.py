"""Run attacks in forked children with limits, and see what became of each.

A child that crashes or hangs costs its attack alone: the parent notes it and forks the next child. What a child opens
to write, and what it starts, is watched by an audit hook.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import mmap
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from random import Random
from typing import Any

from runtime.errors import AfsdError
from tests.attack.mutation import Mutation

HANG_S = 20.0
"""Seconds without an outcome after which an attack counts as a hang."""
MEMORY_MIB = 2048
"""Address space that a child may take on top of what it starts with."""
FILE_MIB = 256
"""Largest file that a child may write."""


class Outcome(IntEnum):
    """What became of one attack."""

    RUNNING = 0
    REFUSED = 1
    """One of this project's errors: a line for the user."""
    ACCEPTED = 2
    """Read; for an artifact with the same results."""
    OTHER_RESULT = 3
    """An artifact that was read, with other results."""
    TRACEBACK = 4
    """An error that is none of this project's."""
    SIGNAL = 5
    HANG = 6
    OUTSIDE = 7
    """Something outside of the folder was written or removed."""
    LET_IN = 8
    """Something was run."""


BAD = tuple(outcome for outcome in Outcome if outcome >= Outcome.OTHER_RESULT)


@dataclass(frozen=True)
class Target:
    """Describes one reader and how it is attacked."""

    name: str
    make: Callable[[Path], Sequence[str]]
    """Function that writes valid input into a folder and returns the names of the files to attack."""
    read: Callable[[Path], Any]
    """Function that reads the folder's input; its result is compared for an artifact."""
    mutate: Mutation
    modules: tuple[str, ...]
    """Source files of the reader, whose coverage is measured."""
    artifact: bool = False
    """Whether a damaged input must be refused, or give the same result."""
    starts: bool = False
    """Whether reading may start processes."""


@dataclass
class Tally:
    """Counts the outcomes of the attacks on one target."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    peak_mib: float = 0.0
    """Largest resident memory of a child on top of what it starts with."""
    seconds: float = 0.0
    found: list[dict[str, Any]] = field(default_factory=list)
    """Bad outcomes with what is needed to repeat them."""

    @property
    def attacks(self) -> int:
        """Number of attacks."""
        return sum(self.outcomes.values())

    @property
    def bad(self) -> int:
        """Number of bad outcomes."""
        return sum(self.outcomes[outcome] for outcome in BAD)


def make_input(target: Target, folder: Path) -> tuple[Sequence[str], Any]:
    """Write the valid input in a child, since what that imports would start threads here.

    Returns:
        Names of the files to attack, and the text of the result that reading them has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    answer = folder.with_suffix(".json")
    pid = os.fork()
    if not pid:
        status, errors = 1, os.dup(2)
        gc.disable()  # what this process has left may wait for threads that the child has not
        try:
            names = list(target.make(folder))
            _enter(folder)
            result = _text(target.read(folder)) if target.artifact else ""
            answer.write_text(json.dumps([names, result]))
            status = 0
        except BaseException:
            os.write(errors, traceback.format_exc().encode())
        finally:
            os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise RuntimeError(f"{target.name}: the valid input could not be made or read")
    names, result = json.loads(answer.read_text())
    return names, result


def attack(
    target: Target,
    valid: Path,
    names: Sequence[str],
    expected: Any,
    seed: int,
    numbers: range,
    tally: Tally,
    keep: Path | None = None,
    coverage: Path | None = None,
) -> None:
    """Run the attacks of the given numbers, each of which follows from its number and the seed alone.

    Args:
        target: the reader.
        valid, names, expected: valid input, its files to attack, and its result (see `make_input`).
        seed: seed of all attacks.
        numbers: numbers of the attacks.
        tally: counts outcomes.
        keep: folder for the inputs of bad outcomes.
        coverage: file for the lines that were run; slower.
    """
    box = Path(tempfile.mkdtemp(prefix="attack-"))
    try:
        shutil.copytree(valid, box / "in")
        shared = mmap.mmap(-1, len(numbers) + 8)
        done = 0
        while done < len(numbers):
            begun = time.monotonic()
            pid = os.fork()
            if not pid:
                _run_child(target, box, names, expected, seed, numbers, done, shared, coverage)
            status, usage = _wait(pid, shared, len(numbers))
            tally.seconds += time.monotonic() - begun
            tally.peak_mib = max(tally.peak_mib, usage)
            reached = next((i for i in range(done, len(numbers)) if not shared[i]), len(numbers))
            if reached < len(numbers):
                shared[reached] = Outcome.HANG if status == "hang" else Outcome.SIGNAL
                _note(box, numbers[reached], str(status))
            for index in range(done, min(reached + 1, len(numbers))):
                tally.outcomes[Outcome(shared[index])] += 1
            done = reached + 1
            for entry in _events(box):
                entry |= {"target": target.name, "seed": seed}
                tally.found.append(entry)
                if keep is not None:
                    _keep(target, valid, names, entry, keep)
            _restore(box, valid)
    finally:
        shutil.rmtree(box, ignore_errors=True)


def mutated(target: Target, folder: Path, names: Sequence[str], seed: int, number: int) -> tuple[str, bytes]:
    """Return the name of the file that an attack changes, and its changed content."""
    rng = Random(f"{seed}/{target.name}/{number}")
    name = rng.choice(list(names))
    return name, target.mutate((folder / name).read_bytes(), rng)


def _run_child(
    target: Target, box: Path, names: Sequence[str], expected: Any, seed: int, numbers: range, first: int,
    shared: mmap.mmap, coverage: Path | None,
) -> None:  # fmt: skip
    """Run attacks in this child process, which does not return."""
    try:
        gc.disable()
        folder = box / "in"
        original = {name: (folder / name).read_bytes() for name in names}
        watch = _Watch(box, target.starts)
        _enter(folder)
        _limit()
        measured = _start_coverage(target, coverage)
        for index in range(first, len(numbers)):
            name, content = mutated(target, folder, names, seed, numbers[index])
            (folder / name).write_bytes(content)
            watch.seen.clear()
            outcome, words = _try(target, folder, expected)
            (folder / name).write_bytes(original[name])
            if watch.seen:
                outcome, words = watch.seen[0]
            if outcome in BAD:
                _note(box, numbers[index], words)
            shared[index] = outcome
        if measured is not None:
            measured.stop()
            measured.save()
    except BaseException:
        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def _try(target: Target, folder: Path, expected: Any) -> tuple[Outcome, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = target.read(folder)
            if target.artifact and _text(result) != expected:
                return Outcome.OTHER_RESULT, "other results"
    except AfsdError as error:
        if any(ord(letter) < 32 or letter == "\x7f" for letter in str(error).replace("\n", "")):
            return Outcome.ACCEPTED, ""  # printed escaped; see the attacks on flags
        return Outcome.REFUSED, ""
    except FoundError as error:
        return Outcome.TRACEBACK, str(error)
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "/tests/" not in f.filename][-3:]
        return Outcome.TRACEBACK, f"{type(error).__name__} at {' > '.join(own)}: {str(error)[:200]}"
    return Outcome.ACCEPTED, ""


class FoundError(Exception):
    """Reports that a command ended otherwise than with one line."""


class _Watch:
    """Sees what a child writes and starts (audit hook)."""

    def __init__(self, box: Path, starts: bool) -> None:
        self.seen: list[tuple[Outcome, str]] = []
        self._allowed = (f"{box}{os.sep}", "/dev/")
        self._starts = starts
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self._path(event, arguments[0])
        elif event in ("os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            self._path(event, arguments[-2] if event in ("os.mkdir",) else arguments[0])
            if event in ("os.rename", "os.link"):
                self._path(event, arguments[1])
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn") and not self._starts:
            self.seen.append((Outcome.LET_IN, f"{event} {str(arguments)[:100]}"))

    def _path(self, event: str, path: Any) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            try:
                full = os.path.realpath(os.fsdecode(path))
            except ValueError:  # a zero byte, which the system refuses
                return
            if not full.startswith(self._allowed) and "__pycache__" not in full:
                self.seen.append((Outcome.OUTSIDE, f"{event} {full}"))


def _enter(folder: Path) -> None:
    """Make the folder the working one, and keep what libraries print and write away from the terminal."""
    sys.dont_write_bytecode = True
    faulthandler.disable()
    os.chdir(folder)
    own = folder.parent / "tmp"
    own.mkdir(exist_ok=True)
    tempfile.tempdir = str(own)
    os.environ |= {"TMPDIR": str(own), "HOME": str(own), "XDG_STATE_HOME": str(own), "XDG_CACHE_HOME": str(own)}
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)


def _limit() -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * page
    for kind, size in ((resource.RLIMIT_AS, taken + MEMORY_MIB * 2**20), (resource.RLIMIT_FSIZE, FILE_MIB * 2**20)):
        resource.setrlimit(kind, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _wait(pid: int, shared: mmap.mmap, count: int) -> tuple[Any, float]:
    """Wait for a child; kill it when nothing has come of an attack for HANG_S seconds of its processor time or more."""
    reached, since, base = -1, time.monotonic(), _resident(pid)
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            words = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            return words, max(usage.ru_maxrss / 1024 - base, 0.0)
        now = count - bytes(shared[:count]).count(0)
        if now != reached:
            reached, since = now, time.monotonic()
        elif time.monotonic() - since > HANG_S:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hang", 0.0
        time.sleep(0.005)


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError):
        return 0.0


def _note(box: Path, number: int, words: str) -> None:
    with (box / "events.jsonl").open("a") as file:
        file.write(json.dumps({"number": number, "what": words}) + "\n")


def _events(box: Path) -> Iterator[dict[str, Any]]:
    path = box / "events.jsonl"
    if path.exists():
        for line in path.read_text().splitlines():
            yield json.loads(line)
        path.unlink()


def _restore(box: Path, valid: Path) -> None:
    shutil.rmtree(box / "in")
    shutil.copytree(valid, box / "in")


def _keep(target: Target, valid: Path, names: Sequence[str], entry: dict[str, Any], keep: Path) -> None:
    """Write the input of a bad outcome, once for each thing that went wrong."""
    kind = "".join(letter if letter.isalnum() else "-" for letter in entry["what"])[:80]
    folder = keep / target.name.replace(" ", "-") / kind
    if folder.exists():
        return
    folder.mkdir(parents=True)
    name, content = mutated(target, valid, names, entry["seed"], entry["number"])
    (folder / Path(name).name).write_bytes(content)
    (folder / "what.json").write_text(json.dumps(entry, indent=1))


def _start_coverage(target: Target, file: Path | None) -> Any:
    if file is None:
        return None
    import coverage

    measured = coverage.Coverage(data_file=str(file), data_suffix=True, include=list(target.modules), config_file=False)
    measured.start()
    return measured


def _text(value: Any) -> str:
    """Return a result as text that is equal for equal results; arrays count with every byte."""
    import hashlib

    import numpy as np

    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_text(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{hashlib.sha256(np.ascontiguousarray(value)).hexdigest()}"
    return repr(value)
