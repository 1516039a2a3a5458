"""Run commands several at once on one output folder, and compare with running them one after the other.

python -m tests.attack.together --processes 3 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.attack.place import Place, new_place, print_faults, wait
from tests.attack.verbs import VERBS, Verb, fill_features, fill_prepare

Words = Callable[[Path, int], list[str]]
"""Function from the folder and the number of a process to its command."""


def _fill_prepare(work: Path) -> None:
    """Give each process an annotation file of its own videos, which all lie in one folder."""
    fill_prepare(work)
    entry = {"subset": "training", "annotations": [{"label": "a", "segment": [0.5, 2.0]}]}
    for k in range(3):
        (work / "out" / f"part{k}.json").write_text(json.dumps({"database": {f"v{k}": entry}}))


def _prepare(work: Path, k: int) -> list[str]:
    flags = ["--annotations", f"part{k}.json", "--size", "20", "--workers", "1"]
    return ["prepare", "own", str(work / "out"), *flags]


def _prepare_features(work: Path, _: int) -> list[str]:
    made = work / "given" / "set"
    return ["prepare", "features", "--features", str(made / "rgb"), "--annotations", str(made / "annotations.json"),
            "--out", str(work / "out"), "--stride", "4", "--window", "8"]  # fmt: skip


def _features(work: Path, k: int) -> list[str]:
    given = work / "given"
    words = ["features", *(str(given / "videos" / f"v{n}.avi") for n in (k, (k + 1) % 3))]  # each by two processes
    return [*words, "--backbone", str(given / "rgb.onnx"), "--out", str(work / "out")]


def _detect(work: Path, k: int) -> list[str]:
    given = work / "given"
    words = ["detect", str(given / "tiny.onnx"), *(str(given / "videos" / f"v{n}.avi") for n in (k, (k + 1) % 3))]
    return [*words, "--out", str(work / "out"), "--format", "json", "csv", "png"]


def _fill_evaluate(work: Path) -> None:
    VERBS["detect"].fill(work)
    entry = {"subset": "test", "annotations": [{"label": "jump", "segment": [0.5, 2.0]}]}
    (work / "given" / "truth.json").write_text(json.dumps({"database": {f"v{k}": entry for k in range(3)}}))


def _evaluate(work: Path, _: int) -> list[str]:
    given = work / "given"
    return ["evaluate", str(given / "tiny.onnx"), str(given / "truth.json"), "--save", str(work / "out" / "found.json")]


def _make_synthetic(work: Path, k: int) -> list[str]:
    flags = ["--videos", "1", "--size", "32", "--shortest", "2", "--longest", "3", "--workers", "1"]
    return ["make-synthetic", str(work / "out"), "--subset", f"part{k}", *flags]


def _train(work: Path, _: int) -> list[str]:
    return VERBS["train"].words(work)


def _cross_validate(work: Path, _: int) -> list[str]:
    _, config, *flags = VERBS["train"].words(work)
    flags[flags.index("data.fold=b")] = "optimiser.epochs=1"
    flags[flags.index("--out") + 1] = str(work / "out")
    return ["cross-validate", config, *flags, "--seeds", "1"]


RECORDS: dict[str, tuple[Callable[[Path], None], Words, tuple[str, ...]]] = {
    "features": (fill_features, _features, VERBS["features"].imports),
    "prepare own": (_fill_prepare, _prepare, VERBS["prepare"].imports),
    "prepare features": (VERBS["train"].fill, _prepare_features, ("training.preparation.prepare_features",)),
    "detect": (VERBS["detect"].fill, _detect, VERBS["detect"].imports),
    "evaluate --save": (_fill_evaluate, _evaluate, VERBS["detect"].imports),
    "make-synthetic": (lambda work: None, _make_synthetic, ("training.synthetic.videos", "tqdm")),
}
"""Commands that share a folder: all succeed, and nothing is lost."""
ALONE: dict[str, tuple[Callable[[Path], None], Words, tuple[str, ...]]] = {
    "train": (VERBS["train"].fill, _train, VERBS["train"].imports),
    "cross-validate": (VERBS["train"].fill, _cross_validate, VERBS["train"].imports),
}
"""Commands of which one at a time may work in a folder: the others are refused at once, by the name of the first."""
LAST_WINS = ("prepare_report.json", "folds.json", "candidates.npz", "all.csv")
"""Files that hold the facts of one command, its wall time, or the checksum of a checkpoint, whose bytes vary."""


def contents(folder: Path) -> dict[str, str]:
    """Map the files of a folder to their content, records whatever their order."""
    from tests.attack.fingerprints import fingerprints

    found = fingerprints(folder)
    for name in found:
        if name.endswith(".json") and not name.endswith(LAST_WINS):
            found[name] = json.dumps(json.loads((folder / name).read_text()), sort_keys=True)
    return {name: content for name, content in found.items() if not name.endswith(LAST_WINS)}


def attack(name: str, processes: int, rounds: int) -> list[str]:
    """Run a command of either table at once in several processes, for some rounds, and return what was wrong."""
    fill, words, imports = (RECORDS | ALONE)[name]
    faults: list[str] = []
    with new_place(Verb(fill, lambda work: words(work, 0), imports)) as place:
        place.reset()
        for k in range(processes if name in RECORDS else 1):
            place.require(place.command(words(place.work, k)), f"{name} fails alone")
        expected = contents(place.out)
        for _ in range(rounds):
            place.reset()
            faults += _round(place, [words(place.work, k) for k in range(processes)], name in ALONE)
            found = contents(place.out)
            faults += [f"{path}: other content" for path in expected.keys() | found.keys()
                       if expected.get(path) != found.get(path)]  # fmt: skip
            faults += [f"{path}: left" for path in place.hidden()]
    return faults


def _round(place: Place, commands: Sequence[list[str]], alone: bool) -> list[str]:
    """Run commands at once; return what is wrong with how they ended."""
    children = [place.start(words, log=f"said{k}") for k, words in enumerate(commands)]
    ends = [(wait(child), place.said(f"said{k}")) for k, child in enumerate(children)]
    if not alone:
        return [f"ended with {status}: {said}" for status, said in ends if status]
    late = ("in use by afsd", "holds a run already")
    won = [status for status, _ in ends if status == 0]
    refused = [said for status, said in ends if status == 2 and any(text in said for text in late)]
    if won and len(won) + len(refused) == len(ends) and any("process" in said for said in refused):
        return []
    return [f"expected the others to be refused by the name of the first: {ends}"]


def main(argv: Sequence[str] | None = None) -> int:
    """Attack the commands given, print a line for each, and return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verb", nargs="+", choices=(*RECORDS, *ALONE), default=[*RECORDS, *ALONE])
    parser.add_argument("--processes", type=int, default=3, choices=(2, 3))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(argv)
    failed = False
    for name in given.verb:
        faults = attack(name, given.processes, given.rounds)
        failed |= print_faults(
            f"{name:<17} rounds {given.rounds}  processes {given.processes}  faults {len(faults)}", faults
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
