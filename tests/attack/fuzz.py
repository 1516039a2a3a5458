"""Attack every reader with changed inputs for some minutes: `python -m tests.attack.fuzz --minutes 2`.

Prints a table, keeps the inputs of whatever goes wrong, and ends with 1 if anything did.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.attack.sandbox import HANG_S, MEMORY_MIB, Outcome, Tally, Target, attack, make_input
from tests.attack.targets import TARGETS

BATCH_S = 2.0
"""Seconds after which the next reader has its turn."""
COVERED = 8
"""Every so many batches, the lines that are run are measured."""


def run(
    targets: Sequence[Target], seconds: float, seed: int, keep: Path | None = None, coverage: bool = False
) -> dict[str, Tally]:
    """Attack the targets in turn for some seconds.

    Args:
        targets: the readers.
        seconds: seconds in all; each target has its share.
        seed: seed of all attacks.
        keep: folder for inputs that something went wrong with.
        coverage: measure which lines of the readers are run.

    Returns:
        What became of the attacks, by the target's name.
    """
    with tempfile.TemporaryDirectory(prefix="attack-valid-") as text:
        base = Path(text)
        valid = {target.name: make_input(target, base / target.name.replace(" ", "-")) for target in targets}
        tallies = {target.name: Tally() for target in targets}
        sizes = dict.fromkeys(tallies, 10)
        numbers = dict.fromkeys(tallies, 0)
        end, turn = time.monotonic() + seconds, 0
        while time.monotonic() < end or not turn:
            for target in targets:
                if time.monotonic() >= end and turn:
                    break
                name = target.name
                measured = base / f"{target.name}.coverage" if coverage and turn % COVERED == 1 else None
                size = max(sizes[name] // 8, 10) if measured else sizes[name]
                begun, first = time.monotonic(), numbers[name]
                names, expected = valid[name]
                folder = base / name.replace(" ", "-")
                attack(target, folder, names, expected, seed, range(first, first + size), tallies[name], keep, measured)
                numbers[name] += size
                if measured is None:
                    took = max(time.monotonic() - begun, 0.01)
                    share = min(BATCH_S, seconds / len(targets))
                    sizes[name] = int(min(max(size * share / took, 10), 4 * size, 5000))
            turn += 1
        if coverage:
            for target in targets:
                tallies[target.name].found += _uncovered(target, base / f"{target.name}.coverage")
        return tallies


def _uncovered(target: Target, file: Path) -> list[dict[str, object]]:
    """Return, as one entry, how many lines inside functions of a target's modules were run."""
    import coverage

    measured = coverage.Coverage(data_file=str(file), config_file=False)
    parts = [str(path) for path in file.parent.glob(f"{file.name}.*")]
    if not parts:
        return []
    measured.combine(parts)
    run = total = 0
    data = measured.get_data()
    for path in sorted(data.measured_files()):
        inside = lines_in_functions(Path(path).read_text(encoding="utf-8"))
        run += len(inside & set(data.lines(path) or ()))
        total += len(inside)
    return [{"lines": run, "of": total}]


def lines_in_functions(source: str) -> set[int]:
    """Return the first line of every statement inside a function, docstrings left out."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for inner in ast.walk(node):
                if isinstance(inner, ast.stmt) and inner is not node:
                    constant = isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant)
                    if not constant and not isinstance(inner, (ast.FunctionDef, ast.Nonlocal, ast.Global)):
                        found.add(inner.lineno)
    return found


def table(tallies: dict[str, Tally]) -> str:
    """Return the outcomes as a table of Markdown, with a row of sums."""
    head = (
        "| reader | attacks | refused | read | other results | tracebacks | signals | hangs | outside | let in | "
        "peak MiB | lines run |\n|---|" + "--:|" * 11
    )
    rows = [_row(name, tally) for name, tally in tallies.items()]
    everything = Tally(peak_mib=max(tally.peak_mib for tally in tallies.values()))
    for tally in tallies.values():
        everything.outcomes += tally.outcomes
    return "\n".join([head, *rows, _row("**all**", everything)])


def _row(name: str, tally: Tally) -> str:
    columns = [
        Outcome.REFUSED, Outcome.ACCEPTED, Outcome.OTHER_RESULT, Outcome.TRACEBACK, Outcome.SIGNAL, Outcome.HANG,
        Outcome.OUTSIDE, Outcome.LET_IN,
    ]  # fmt: skip
    counts = " | ".join(f"{tally.outcomes[column]:,}" for column in columns)
    lines = next((f"{100 * entry['lines'] // max(entry['of'], 1)} %" for entry in tally.found if "lines" in entry), "")
    return f"| {name} | {tally.attacks:,} | {counts} | {tally.peak_mib:.0f} | {lines} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--readers", nargs="+", choices=[target.name for target in TARGETS], metavar="READER")
    parser.add_argument("--keep", type=Path, default=Path("runs/attack"), help="folder of inputs that went wrong")
    parser.add_argument("--coverage", action="store_true", help="measure which lines of the readers are run")
    arguments = parser.parse_args(argv)
    targets = [t for t in TARGETS if arguments.readers is None or t.name in arguments.readers]
    begun = time.monotonic()
    tallies = run(targets, 60 * arguments.minutes, arguments.seed, arguments.keep, arguments.coverage)
    print(table(tallies))
    print(
        f"\n{sum(t.attacks for t in tallies.values()):,} attacks in {(time.monotonic() - begun) / 60:.1f} minutes, "
        f"seed {arguments.seed}; a child may take {MEMORY_MIB} MiB and {HANG_S:g} s"
    )
    seen: set[str] = set()
    for tally in tallies.values():
        for entry in tally.found:
            if "what" in entry and (key := f"{entry['target']}: {entry['what'][:100]}") not in seen:
                seen.add(key)
                print(f"found: {entry['target']} --seed {entry['seed']} number {entry['number']}: {entry['what']}")
    return 1 if any(tally.bad for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
