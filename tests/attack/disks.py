"""Run commands where nothing, or not enough, can be written, and look at what they say and leave.

    python -m tests.attack.disks [--verb detect train …]

Three kinds: files that may only have a few kilobytes (RLIMIT_FSIZE), a file system that is too small, and one that is
read-only; the last two need the right to mount.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.attack.fingerprints import fingerprints
from tests.attack.place import Place, new_place, print_faults
from tests.attack.verbs import VERBS

LIMITS = (500, 3000, 20_000, 200_000)
"""Largest sizes of files in bytes."""
SHARES = (0.0, 0.3, 0.6, 0.9)
"""Sizes of the file system as shares of what the results take beside what was there at first."""
BLOCK = 4096


def attack(name: str, few: bool = False) -> tuple[int, list[str]]:
    """Run a verb under all limits, or a few of each kind; return the number of runs and what was wrong."""
    with new_place(VERBS[name]) as place:
        expected = place.undisturbed()
        attacks = [*_small_files(), *(_small_disks(place) if can_mount() else ())][:: 2 if few else 1]
        faults = [f"{label}: {fault}" for label, around in attacks for fault in _run(place, expected, around)]
        return len(attacks), faults


Around = Callable[[Place], "Surroundings"]
Surroundings = Iterator[Callable[[], object]]
"""Yields what a child calls first, while the place is limited."""


def _small_files() -> list[tuple[str, Callable[[Place], Surroundings]]]:
    def limited(size: int) -> Callable[[Place], Surroundings]:
        def around(place: Place) -> Surroundings:
            place.reset()
            yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        return around

    return [(f"files of at most {size} bytes", limited(size)) for size in LIMITS]


def _small_disks(place: Place) -> list[tuple[str, Callable[[Place], Surroundings]]]:
    first, whole = _blocks(place.folder / "first"), _blocks(place.out)

    def mounted(flags: str) -> Callable[[Place], Surroundings]:
        def around(place: Place) -> Surroundings:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", place.out], check=True)
            try:
                place.reset()
                subprocess.run(["mount", "-o", f"remount,{flags}", place.out], check=True)
                yield lambda: None
                subprocess.run(["mount", "-o", "remount,rw,size=1g", place.out], check=True)
                yield lambda: None
            finally:
                subprocess.run(["umount", "-l", place.out], check=True)

        return around

    sizes = [int(first + share * (whole - first) + 2) * BLOCK for share in SHARES]
    disks = [(f"a disk of {size} bytes", mounted(f"size={size}")) for size in sizes]
    return [*disks, ("a read-only disk", mounted("ro"))]


def _run(place: Place, expected: dict[str, str], around: Callable[[Place], Surroundings]) -> Iterator[str]:
    """Run a command once within limits and once without, and yield what is wrong."""
    surroundings = around(place)
    before = next(surroundings)
    status = place.command(before=before)
    said = (place.folder / "said").read_text(errors="replace")
    if status not in (0, 2):
        yield f"ended with {status}: {place.said()}"
    if status == 2 and "afsd: " not in said and "failed: " not in said:
        yield "no line says what failed"
    if "Traceback" in said:
        yield "a traceback"
    there = fingerprints(place.out)
    yield from (f"{path}: neither old nor new" for path in there if _is_wrong(path, there, expected, place.old))
    yield from (f"{path}: gone" for path in place.old if path not in there)
    yield from (f"{path}: left" for path in place.hidden())
    with suppress(StopIteration):
        next(surroundings)  # the limits are lifted
    status = place.command(place.verb.again(place.work) if place.verb.again else ())
    if status:
        yield f"run again, ended with {status}: {place.said()}"
    elif any(_is_wrong(path, fingerprints(place.out), expected, {}) for path in expected):
        yield "run again, other results"
    for _ in surroundings:
        pass


def _is_wrong(path: str, there: dict[str, str], expected: dict[str, str], old: dict[str, str]) -> bool:
    """Return whether a file is neither that of an undisturbed run nor an old one; records may be of a part."""
    if path.endswith(PARTS):
        return path not in there
    return there.get(path) not in (expected.get(path), old.get(path, ""))


PARTS = (
    ".xml", ".bin", ".engine", ".log", ".report.json", ".json", "metrics.csv", "last.ckpt",
)  # fmt: skip
"""Files that differ by themselves, or say how far a command has come."""


def _blocks(folder: Path) -> int:
    return sum(1 + -(-path.stat().st_size // BLOCK) if path.is_file() else 1 for path in folder.rglob("*"))


def can_mount() -> bool:
    """Return whether this process may mount file systems."""
    with _trial_folder() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return done.returncode == 0


@contextmanager
def _trial_folder() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def main(argv: Sequence[str] | None = None) -> int:
    """Attack the verbs given, print a line for each, and return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verb", nargs="+", choices=tuple(VERBS), default=list(VERBS))
    parser.add_argument("--few", action="store_true", help="every second limit alone")
    given = parser.parse_args(argv)
    failed = False
    for name in given.verb:
        runs, faults = attack(name, given.few)
        failed |= print_faults(f"{name:<16} runs {runs}  faults {len(faults)}", faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
