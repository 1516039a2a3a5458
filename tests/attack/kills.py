"""Kill commands at random moments, run them again, and compare with an undisturbed run.

    python -m tests.attack.kills --verb train detect --kills 200 --seed 1 [--signal KILL TERM]

Half of the kills fall at a random time, half before a random operation on a file.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.attack.fingerprints import UNREADABLE, fingerprints
from tests.attack.place import Place, new_place, wait, watch_files
from tests.attack.verbs import VERBS

STOP_S = 2.0
"""Seconds in which a command that gets SIGTERM must end."""


@dataclass
class Figures:
    """Counts what the kills of one verb did."""

    kills: int = 0
    late: int = 0
    """Kills that came when the command had ended."""
    bad: list[str] = field(default_factory=list)
    """Files that cannot be read or used after a kill, or old ones that are gone."""
    different: list[str] = field(default_factory=list)
    """Files that differ from an undisturbed run's after the command was run again."""
    slow: list[str] = field(default_factory=list)
    """Commands that hung, failed when run again, or took too long to end at a signal."""
    left: list[str] = field(default_factory=list)
    """Temporary files that are left after the next run."""
    lost: float = 0.0
    """Most of the work that a kill lost."""
    longest_s: float = 0.0
    """Longest time from a signal to the end."""
    seconds: float = 0.0

    def line(self, name: str) -> str:
        """Format the figures."""
        return (
            f"{name:<16} kills {self.kills:3} (late {self.late:2})  files bad {len(self.bad)}  "
            f"other results {len(self.different)}  work lost at most {self.lost:g} {VERBS[name].unit}  "
            f"temporary files {len(self.left)}  failed or slow {len(self.slow)}  longest end {self.longest_s:.2f} s  "
            f"{self.seconds / max(self.kills, 1):.2f} s per kill"
        )

    @property
    def faults(self) -> list[str]:
        """Return everything that should not be."""
        return [*self.bad, *self.different, *self.slow, *self.left]


def attack(name: str, kills: int, seed: int, numbers: Sequence[int]) -> dict[int, Figures]:
    """Kill a verb `kills` times with each signal; the seed decides what happens as far as the machine's speed allows.

    Returns:
        What the kills did, by the signal's number.
    """
    with new_place(VERBS[name]) as place:
        attack = _Attack(place)
        return {number: attack.run(kills, random.Random(f"{name} {seed}"), number) for number in numbers}


class _Attack:
    def __init__(self, place: Place) -> None:
        """Run the command undisturbed: twice, to know what differs by itself."""
        self.place, self.verb = place, place.verb
        first, began = place.undisturbed(), time.monotonic()
        self.new = place.undisturbed()
        self.seconds, self.operations = time.monotonic() - began, self._count_operations()
        self.varying = {path for path in self.new if path.endswith(self.verb.vary)} if self.verb.vary else set()
        unsteady = {path for path in first.keys() | self.new.keys() if first.get(path) != self.new.get(path)}
        if unsteady - self.varying:
            raise SystemExit(f"two undisturbed runs differ in {sorted(unsteady)}")

    def run(self, kills: int, rng: random.Random, number: int) -> Figures:
        """Kill the command `kills` times with a signal."""
        self.rng, self.number, self.figures = rng, number, Figures()
        began = time.monotonic()
        for k in range(kills):
            self.place.reset()
            self._kill(self.seconds, self.operations if k % 2 else 0)
            self._look()
        self.figures.kills, self.figures.seconds = kills, time.monotonic() - began
        return self.figures

    def _count_operations(self) -> int:
        place, path = self.place, self.place.folder / "operations"

        def count() -> None:
            from runtime.cli import main

            self.verb.patch()
            watched = watch_files(place.work)
            main(self.verb.words(place.work))
            path.write_text(str(watched()))

        place.reset()
        place.require(place.call(count), "operations cannot be counted")
        return int(path.read_text())

    def _kill(self, seconds: float, operations: int) -> None:
        """Run the command until it is killed, before one of its operations on files or at some moment."""
        at = self.rng.randrange(1, operations + 1) if operations else 0
        child = self.place.start(before=lambda: watch_files(self.place.work, at, self.number))
        began = 0.0
        if not at:
            time.sleep(self.rng.uniform(0, seconds))
            began = time.monotonic()
            os.kill(child, self.number)
        status = wait(child)
        if status == 0:
            self.figures.late += 1
        elif status not in (-self.number, 128 + self.number):  # before the command begins, the signal itself ends it
            self.figures.slow.append(f"ended with {status}: {self.place.said()}")
        if began:
            self.figures.longest_s = max(self.figures.longest_s, time.monotonic() - began)
            if time.monotonic() - began > STOP_S:
                self.figures.slow.append(f"took {time.monotonic() - began:.1f} s to end")

    def _look(self) -> None:
        """Look at what the kill left, run the command again, and compare."""
        verb, place, figures = self.verb, self.place, self.figures
        there = fingerprints(place.out)
        figures.bad += [f"{path}: cannot be read" for path, content in there.items() if content == UNREADABLE]
        figures.bad += [f"{path}: gone" for path in place.old if path not in there]
        if verb.check is not None and place.call(lambda: verb.check and verb.check(place.out)) != 0:
            figures.bad.append(f"not usable: {place.said()}")
        if verb.lost is not None:
            figures.lost = max(figures.lost, verb.lost(place.out))
        status = place.command(verb.again(place.work) if verb.again else ())
        if status != 0:
            figures.slow.append(f"run again, ended with {status}: {place.said()}")
            return
        after = fingerprints(place.out)
        paths = (after.keys() | self.new.keys()) - self.varying
        figures.different += [path for path in paths if after.get(path) != self.new.get(path)]
        figures.left += place.hidden()


def main(argv: Sequence[str] | None = None) -> int:
    """Attack the verbs given, print a line for each, and return 1 if anything was bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verb", nargs="+", choices=tuple(VERBS), default=list(VERBS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--signal", nargs="+", choices=("KILL", "TERM", "INT", "HUP"), default=["KILL"])
    given = parser.parse_args(argv)
    failed = False
    for name in given.verb:
        numbers = [getattr(signal, f"SIG{text}") for text in given.signal]
        for figures in attack(name, given.kills, given.seed, numbers).values():
            print(figures.line(name), flush=True)
            for fault in figures.faults:
                print(f"    {fault}", flush=True)
            failed |= bool(figures.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
