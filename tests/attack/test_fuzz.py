"""A short attack on every reader, and the inputs that once broke one.

`make attack MINUTES=…` is the long one. AFSD_ATTACK_SECONDS: seconds for each reader.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runtime.errors import InputError
from tests.attack import sandbox
from tests.attack.fuzz import lines_in_functions, run, table
from tests.attack.mutation import mutate_bytes, mutate_json
from tests.attack.sandbox import Outcome, Tally, Target, attack, make_input

pytest.importorskip("torch", reason="attacks on training's files need PyTorch")
from tests.attack.targets import TARGETS

SECONDS = float(os.environ.get("AFSD_ATTACK_SECONDS", "1"))
FOUND = sorted(Path(__file__).with_name("found").glob("*/*/what.json"))
"""Kept inputs: <reader>/<what happened>/<file>, with what.json beside."""


SHORT = [pytest.mark.thorough, pytest.mark.slow, pytest.mark.slow]
"""A third of the readers is attacked at every landing."""


@pytest.mark.parametrize(
    "target", [pytest.param(t, id=t.name.replace(" ", "-"), marks=SHORT[k % 3]) for k, t in enumerate(TARGETS)]
)
def test_a_short_attack(target: Target, tmp_path: Path) -> None:
    tally = run([target], SECONDS, seed=1, keep=tmp_path)[target.name]
    assert tally.attacks >= 10
    assert not tally.bad, [entry["what"] for entry in tally.found]


@pytest.mark.parametrize("what", FOUND, ids=["-".join(path.parts[-3:-1]) for path in FOUND])
def test_what_was_found_stays_mended(what: Path, tmp_path: Path) -> None:
    entry = json.loads(what.read_text(encoding="utf-8"))
    (file,) = (path for path in what.parent.iterdir() if path.name != what.name)
    content = file.read_bytes()
    (target,) = (target for target in TARGETS if target.name == entry["target"])
    again = replace(target, mutate=lambda data, rng: content)
    names, expected = make_input(target, tmp_path / "again")
    tally = Tally()
    assert file.name in names
    attack(again, tmp_path / "again", [file.name], expected, 1, range(1), tally)
    assert not tally.bad, tally.found


def _target(read: Any, *, artifact: bool = False) -> Target:
    def make(folder: Path) -> list[str]:
        (folder / "a").write_bytes(b"0123456789" * 10)
        return ["a"]

    return Target("x", make, read, mutate_bytes, (), artifact)


def _attacked(read: Any, folder: Path, *, artifact: bool = False) -> Tally:
    target, tally = _target(read, artifact=artifact), Tally()
    names, expected = make_input(target, folder / "valid")
    attack(target, folder / "valid", names, expected, 1, range(12), tally, folder / "kept")
    assert tally.attacks == 12
    return tally


class TestTheSandboxSees:
    """Readers with a planted fault: each kind of bad outcome is noticed."""

    def test_a_refusal(self, tmp_path: Path) -> None:
        def read(folder: Path) -> None:
            if (folder / "a").read_bytes() != b"0123456789" * 10:
                raise InputError("damaged")

        assert _attacked(read, tmp_path).outcomes == {Outcome.REFUSED: 12}

    def test_other_results(self, tmp_path: Path) -> None:
        tally = _attacked(lambda folder: (folder / "a").read_bytes(), tmp_path, artifact=True)
        assert tally.outcomes == {Outcome.OTHER_RESULT: 12}

    def test_a_traceback(self, tmp_path: Path) -> None:
        tally = _attacked(lambda folder: int((folder / "a").read_bytes()[1:5], 0) and 1 / 0, tmp_path)
        assert tally.outcomes == {Outcome.TRACEBACK: 12}
        assert any("ZeroDivisionError" in entry["what"] for entry in tally.found)
        assert list((tmp_path / "kept").glob("x/*/a"))

    def test_a_crash(self, tmp_path: Path) -> None:
        tally = _attacked(lambda folder: os.kill(os.getpid(), 11), tmp_path)
        assert tally.outcomes == {Outcome.SIGNAL: 12}
        assert tally.found[0]["what"] == "signal SIGSEGV"

    def test_a_hang(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def read(folder: Path) -> None:
            while True:
                pass

        monkeypatch.setattr(sandbox, "HANG_S", 0.05)
        assert _attacked(read, tmp_path).outcomes == {Outcome.HANG: 12}

    def test_memory(self, tmp_path: Path) -> None:
        tally = _attacked(lambda folder: bytearray(10 * 2**30), tmp_path)
        assert tally.outcomes == {Outcome.TRACEBACK: 12}
        assert "MemoryError" in tally.found[0]["what"]
        assert _attacked(lambda folder: bytes(bytearray(b"1") * 150_000_000), tmp_path / "b").peak_mib > 140

    def test_a_file_outside(self, tmp_path: Path) -> None:
        tally = _attacked(lambda folder: (folder / "../../../outside.txt").open("w"), tmp_path)
        assert tally.outcomes[Outcome.OUTSIDE] + tally.outcomes[Outcome.TRACEBACK] == 12
        assert tally.outcomes[Outcome.OUTSIDE]
        tally = _attacked(lambda folder: (folder / "inside.txt").write_text("x"), tmp_path / "b")
        assert tally.outcomes == {Outcome.ACCEPTED: 12}

    def test_a_process(self, tmp_path: Path) -> None:
        assert _attacked(lambda folder: os.system("true"), tmp_path).outcomes == {Outcome.LET_IN: 12}


def test_an_attack_follows_from_its_number() -> None:
    for mutate, data in ((mutate_bytes, bytes(range(200))), (mutate_json, b'{"a": [1, 2.5, {"b": "c"}]}')):
        made = {mutate(data, Random(f"1/{number}")) for number in range(300)}
        assert len(made) > 150
        assert mutate(data, Random("1/7")) == mutate(data, Random("1/7"))


def test_lines_in_functions() -> None:
    source = 'import x\n\n\ndef f(a):\n    """Say."""\n    if a:\n        return 1\n    return 2\n\n\ny = 3\n'
    assert lines_in_functions(source) == {6, 7, 8}


def test_the_table_sums() -> None:
    one, two = Tally(peak_mib=3), Tally(peak_mib=9)
    one.outcomes[Outcome.REFUSED] += 1000
    two.outcomes[Outcome.HANG] += 2
    lines = table({"a": one, "b": two}).splitlines()
    assert lines[2] == "| a | 1,000 | 1,000 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 3 |  |"
    assert lines[-1] == "| **all** | 1,002 | 1,000 | 0 | 0 | 0 | 0 | 2 | 0 | 0 | 9 |  |"
