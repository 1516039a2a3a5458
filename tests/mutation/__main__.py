"""Plant faults in the arithmetic and print how many the tests notice: `make mutation`, or

    python -m tests.mutation --out runs/mutation --sample 40 --seed 1 --only runtime/windows.py

Verdicts are kept in the output folder: a run goes on where the last one ended, and does again what was not killed once
a test has changed. The exit status is 1 where fewer than LEAST of a group's faults are killed or explained
(`explained.json`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import pytest

from runtime.common.tables import align
from tests.mutation.operators import Mutant, list_mutants
from tests.mutation.server import Server, Verdict

LEAST = 0.9
"""Share of the faults that a test must notice, of those that change anything."""

EXPLAINED = Path(__file__).with_name("explained.json")
"""Faults that no test can notice, or need not: key → reason."""

RUNTIME = ("tests/runtime/test_detector.py", "tests/runtime/test_two_streams.py", "tests/runtime/test_whole_video.py")
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "decoding": (
        ("runtime/decoding",),
        ("tests/runtime/decoding", "tests/runtime/test_detector_on_features.py", "tests/test_golden_activitynet.py"),
    ),
    "suppression": (("runtime/suppression",), ("tests/runtime/suppression",)),
    "windows": (("runtime/windows.py",), ("tests/runtime/test_windows.py",)),
    "sampling": (("runtime/video/sampling.py",), ("tests/runtime/video",)),
    "evaluation": (("runtime/evaluation",), ("tests/runtime/evaluation",)),
    "parity": (("export/comparison/parity.py",), ("tests/export/comparison",)),
    "checkpoints": (("training/checkpoints",), ("tests/training/checkpoints",)),
    "calibration": (("calibration/ranges", "calibration/quantise"), ("tests/calibration",)),
}
"""Group → files to plant faults in, and their tests; those of RUNTIME belong to all of the runtime."""

LEFT_OUT = ("runtime/evaluation/error_plot.py",)
"""Drawing, whose numbers are colours and pixels."""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tests.mutation", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/mutation"), help="keeps verdicts (default: %(default)s)")
    parser.add_argument(
        "--group", nargs="+", choices=GROUPS, default=list(GROUPS), help="what is tested (default: all)"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="faults whose key contains one of these")
    parser.add_argument(
        "--sample", type=int, default=0, metavar="N", help="at most N faults per group, drawn by --seed"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no fault after this time")
    parser.add_argument(
        "--longest", type=float, default=2.0, metavar="SECONDS", help="leave out tests that take longer"
    )
    parser.add_argument("--budget", type=float, default=30.0, metavar="SECONDS", help="of tests for each fault")
    parser.add_argument(
        "--survivors", action="store_true", help="print every fault that was neither killed nor explained"
    )
    arguments = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", HYPOTHESIS_STORAGE_DIRECTORY="/dev/null")
    arguments.out.mkdir(parents=True, exist_ok=True)
    files = {path: group for group in arguments.group for path in _files(GROUPS[group][0])}
    chosen = _choose(files, arguments)
    verdicts = Verdicts(arguments.out / "verdicts.json")
    if any(verdicts.find(path, mutant) is None for path, mutant in chosen):

        def work(server: Server) -> None:
            started = time.monotonic()
            server.measure(_digest(["runtime", "training", "export", "calibration", "tests"], str(sorted(files))))
            _judge_all(server, chosen, verdicts, started + 60 * arguments.minutes)

        tests = {test for group in arguments.group for test in GROUPS[group][1]}
        if any(path.startswith("runtime/") for path in files):
            tests |= set(RUNTIME)
        server = Server(list(files), arguments.out, arguments.longest, arguments.budget, work)
        options = ["-p", "no:terminal", "-p", "no:xdist", "-p", "no:cacheprovider", "-W", "ignore"]
        status = pytest.main([*options, "-m", "not slow and not thorough and not gpu", *sorted(tests)], [server])
        if status != 0:
            return int(status)
    return _report(files, chosen, verdicts, arguments.survivors)


class Verdicts:
    """Keeps verdicts in a file: killed ones while the source is the same, others while the tests are, too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tests = _digest(["tests"])
        self._sources: dict[str, str] = {}
        self._known: dict[str, dict[str, str | int]] = json.loads(path.read_text()) if path.is_file() else {}

    def find(self, path: str, mutant: Mutant) -> Verdict | None:
        """Return the verdict on a fault if it still holds."""
        entry = self._known.get(mutant.key)
        if entry is None or entry["source"] != self._source(path):
            return None
        if entry["status"] != "killed" and entry["suite"] != self._tests:
            return None
        return Verdict(str(entry["status"]), int(entry["tests"]), str(entry["by"]))

    def add(self, path: str, mutant: Mutant, verdict: Verdict) -> None:
        """Keep a verdict."""
        self._known[mutant.key] = {**asdict(verdict), "source": self._source(path), "suite": self._tests}

    def write(self) -> None:
        """Write the file."""
        unfinished = self._path.with_suffix(".part")
        unfinished.write_text(json.dumps(self._known, indent=0, ensure_ascii=False))
        unfinished.replace(self._path)

    def _source(self, path: str) -> str:
        if path not in self._sources:
            self._sources[path] = _digest([path])
        return self._sources[path]


def _files(places: tuple[str, ...]) -> Iterator[str]:
    for place in map(Path, places):
        found = sorted(place.glob("*.py")) if place.is_dir() else [place]
        yield from (str(path) for path in found if str(path) not in LEFT_OUT and path.name != "__init__.py")


def _choose(files: dict[str, str], arguments: argparse.Namespace) -> list[tuple[str, Mutant]]:
    """Return the faults to judge, in the order of the files."""
    chosen = []
    for group in arguments.group:
        all_of_it = [
            (path, mutant)
            for path in files
            if files[path] == group
            for mutant in list_mutants(Path(path).read_text(), path)
            if not arguments.only or any(text in mutant.key for text in arguments.only)
        ]
        if arguments.sample and arguments.sample < len(all_of_it):
            drawn = random.Random(arguments.seed).sample(range(len(all_of_it)), arguments.sample)
            all_of_it = [all_of_it[index] for index in sorted(drawn)]
        chosen += all_of_it
    return chosen


def _judge_all(server: Server, chosen: list[tuple[str, Mutant]], verdicts: Verdicts, deadline: float) -> None:
    explained = json.loads(EXPLAINED.read_text()) if EXPLAINED.is_file() else {}
    print(
        f"{len(server.baseline.seconds)} tests, {len(server.baseline.failed)} fail without a fault", file=sys.__stderr__
    )
    counts, checked = Counter[str](), set[str]()
    for number, (path, mutant) in enumerate(chosen, 1):
        if verdicts.find(path, mutant) is not None or mutant.key in explained:
            continue
        if time.monotonic() > deadline:
            break
        if path not in checked:
            server.require_equal(Path(path).read_text(), path)
            checked.add(path)
        verdict = server.judge(Path(path).read_text(), path, mutant)
        counts[verdict.status] += 1
        verdicts.add(path, mutant, verdict)
        if verdict.status != "killed":
            print(f"{number}/{len(chosen)} {verdict.status} ({verdict.tests} tests) {mutant.key}", file=sys.__stderr__)
        if number % 20 == 0:
            verdicts.write()
    verdicts.write()
    print(f"judged {dict(counts)}", file=sys.__stderr__)


def _report(files: dict[str, str], chosen: list[tuple[str, Mutant]], verdicts: Verdicts, survivors: bool) -> int:
    explained = json.loads(EXPLAINED.read_text()) if EXPLAINED.is_file() else {}
    by_file: dict[str, Counter[str]] = {path: Counter() for path in files}
    for path, mutant in chosen:
        verdict = verdicts.find(path, mutant)
        status = "explained" if mutant.key in explained else verdict.status if verdict else "not judged"
        by_file[path][status] += 1
        if survivors and status in ("survived", "unreached"):
            print(f"{status}: {path}:{mutant.lines[0]}: {mutant.key.split('::', 1)[1]}")
    rows = [["", "faults", "killed", "survived", "unreached", "explained", "not judged", "killed %"]]
    good = True
    for group in dict.fromkeys(files.values()):
        total: Counter[str] = sum((by_file[path] for path in files if files[path] == group), Counter())
        rows += [_row(f"  {path}", by_file[path]) for path in files if files[path] == group and by_file[path]]
        rows.append(_row(group, total))
        judged = total["killed"] + total["survived"] + total["unreached"]
        good &= total["killed"] >= LEAST * judged
    rows.append(_row("all", sum(by_file.values(), Counter())))
    print(align(rows))
    keys = {mutant.key for path in files for mutant in list_mutants(Path(path).read_text(), path)}
    for key in explained:
        if key.split("::")[0] in files and key not in keys:
            print(f"explained, but no longer in the source: {key}")
    return 0 if good else 1


def _row(name: str, counts: Counter[str]) -> list[str]:
    judged = counts["killed"] + counts["survived"] + counts["unreached"]
    share = f"{counts['killed'] / judged:.1%}" if judged else "–"
    columns = ("killed", "survived", "unreached", "explained", "not judged")
    return [name, str(counts.total()), *(str(counts[column]) for column in columns), share]


def _digest(places: list[str], more: str = "") -> str:
    """Hash the Python files of some folders."""
    found = sha256(more.encode())
    for place in map(Path, places):
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found.update(str(path).encode() + path.read_bytes())
    return found.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
