"""The mutation tester: which faults it plants, that they take effect, and that a weak test is seen to be weak."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutation.grafting import graft
from tests.mutation.operators import list_mutants, plant

SOURCE = '''"""A docstring of 3 words."""
from dataclasses import dataclass
from functools import cache

LIMIT = 2


def clamp(x: "int" = 1, *, low=0):
    """Keep 2 numbers."""
    assert x != 7, "not 7"
    if x < low or not x:
        raise ValueError(f"{x + 1}")
    total = [max(x, LIMIT) + value for value in range(low, x)]
    total.append(-x)
    return total[1:] if x > 5 and low is None else None


@dataclass
class Box:
    size: int = 4

    @property
    def half(self):
        return self.size / 2


@cache
def remembered():
    return LIMIT
'''

EXPECTED = [
    "<module>::2 → 3 in LIMIT = 2",
    "<module>::2 → 1 in LIMIT = 2",
    "clamp::1 → 2 in x=1",
    "clamp::1 → 0 in x=1",
    "clamp::0 → 1 in low=0",
    "clamp::0 → -1 in low=0",
    "clamp::x < low or not x → x < low and (not x)",
    "clamp::x < low → x <= low",
    "clamp::x < low → x >= low",
    "clamp::not x → x",
    "clamp::raise ValueError(f'{x + 1}') → pass",
    "clamp::max(x, LIMIT) + value → max(x, LIMIT) - value",
    "clamp::max(x, LIMIT) → min(x, LIMIT)",
    "clamp::range(low, x) → range(x, low)",
    "clamp::total.append(-x) → pass",
    "clamp::-x → x",
    "clamp::return total[1:] if x > 5 and low is None else None → return None",
    "clamp::total[1:] if x > 5 and low is None else None → None if x > 5 and low is None else total[1:]",
    "clamp::x > 5 and low is None → x > 5 or low is None",
    "clamp::x > 5 → x >= 5",
    "clamp::x > 5 → x <= 5",
    "clamp::5 → 6 in x > 5",
    "clamp::5 → 4 in x > 5",
    "clamp::low is None → low is not None",
    "clamp::1: → :",
    "clamp::1 → 2 in 1:",
    "clamp::1 → 0 in 1:",
    "Box::4 → 5 in size: int = 4",
    "Box::4 → 3 in size: int = 4",
    "Box.half::return self.size / 2 → return None",
    "Box.half::self.size / 2 → self.size * 2",
    "Box.half::2 → 3 in self.size / 2",
    "Box.half::2 → 1 in self.size / 2",
    "remembered::return LIMIT → return None",
]


def test_the_faults_of_a_file() -> None:
    """Not in docstrings, annotations, assertions and messages."""
    found = list_mutants(SOURCE, "made.py")
    assert sorted(mutant.key for mutant in found) == sorted(f"made.py::{key}" for key in EXPECTED)
    assert [mutant.lines for mutant in found] == sorted(mutant.lines for mutant in found)
    for mutant in found:
        changed = ast.unparse(plant(SOURCE, mutant)).splitlines()
        whole = ast.unparse(ast.parse(SOURCE)).splitlines()
        assert len(changed) == len(whole)
        assert sum(a != b for a, b in zip(changed, whole, strict=True)) == 1, mutant.key
    functions = {mutant.key.split("::")[1]: mutant.function_lines for mutant in found}
    assert functions["<module>"] is None
    assert functions["clamp"] == (8, 15)


def test_equal_places_have_keys_of_their_own_that_stay_when_lines_move() -> None:
    keys = [mutant.key for mutant in list_mutants("def f(a):\n    a(1)\n    a(1)\n", "f.py")]
    assert keys.count("f.py::f::1 → 2 in a(1)") == keys.count("f.py::f::1 → 2 in a(1) #2") == 1
    assert len(keys) == len(set(keys)) == 6
    assert keys == [mutant.key for mutant in list_mutants("\n\n# moved\ndef f(a):\n    a(1)\n    a(1)\n", "f.py")]


@pytest.fixture
def made(tmp_path: Path) -> ModuleType:
    path = tmp_path / "made_module.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("made_module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["made_module"] = module
    spec.loader.exec_module(module)
    yield module  # type: ignore[misc]
    del sys.modules["made_module"]


def put(module: ModuleType, key: str) -> None:
    (mutant,) = (mutant for mutant in list_mutants(SOURCE, "made.py") if mutant.key == f"made.py::{key}")
    graft(module, plant(SOURCE, mutant))


def test_a_fault_reaches_who_imported_the_function_before(made: ModuleType) -> None:
    clamp, box, remembered = made.clamp, made.Box(), made.remembered
    assert (clamp(6, low=0), box.half, remembered()) == (None, 2, 2)
    put(made, "clamp::low is None → low is not None")
    assert clamp(6, low=0) == [7, 8, 9, 10, 11, -6]
    put(made, "clamp::1 → 2 in x=1")
    assert clamp.__defaults__ == (2,)
    assert clamp(6, low=0) is None  # the fault before is gone
    put(made, "clamp::0 → 1 in low=0")
    assert clamp.__kwdefaults__ == {"low": 1}
    put(made, "Box.half::2 → 1 in self.size / 2")
    assert box.half == 4
    put(made, "Box::4 → 5 in size: int = 4")
    assert made.Box().size == 5
    assert isinstance(made.Box(), type(box))
    put(made, "remembered::return LIMIT → return None")
    assert remembered() is None
    graft(made, ast.parse(SOURCE))
    assert (clamp(6), made.Box().half, remembered()) == (None, 2, 2)


def test_a_changed_constant_reaches_the_modules_that_have_it_by_name(made: ModuleType) -> None:
    other = ModuleType("made_other")
    other.LIMIT, other.NUMBER = made.LIMIT, made.LIMIT  # type: ignore[attr-defined]
    sys.modules["made_other"] = other
    try:
        put(made, "<module>::2 → 3 in LIMIT = 2")
    finally:
        del sys.modules["made_other"]
    assert (made.LIMIT, made.remembered(), other.LIMIT, other.NUMBER) == (3, 3, 3, 2)  # type: ignore[attr-defined]


def test_a_weak_test_is_seen_to_be_weak(tmp_path: Path) -> None:
    """Three functions: one tested at its edge, one away from it, one not at all."""
    pytest.importorskip("coverage")
    (tmp_path / "code.py").write_text("".join(f"def {n}(x):\n    return x < 3\n" for n in ("strong", "weak", "never")))
    (tmp_path / "test_code.py").write_text(
        "from code_under_test import strong, weak\n\n\n"
        "def test_strong():\n    assert (strong(2), strong(3)) == (True, False)\n\n\n"
        "def test_weak():\n    assert weak(0)\n\n\n"
        "def test_endless():\n    x = 2\n    while strong(x):\n        x += 1\n"
    )
    (tmp_path / "code.py").rename(tmp_path / "code_under_test.py")
    (tmp_path / "judge.py").write_text(
        "import json, pytest, sys\nfrom pathlib import Path\n"
        "from tests.mutation.operators import list_mutants\nfrom tests.mutation.server import Server\n"
        "source = Path('code_under_test.py').read_text()\n"
        "def work(server):\n"
        "    server.measure('digest')\n"
        "    server.require_equal(source, 'code_under_test.py')\n"
        "    found = {m.key: server.judge(source, 'code_under_test.py', m).status for m in list_mutants(source, 'c')}\n"
        "    Path('found.json').write_text(json.dumps(found))\n"
        "server = Server(['code_under_test.py'], Path('kept'), 4.0, 30.0, work)\n"
        "sys.exit(pytest.main(['-p', 'no:terminal', '-p', 'no:cacheprovider', 'test_code.py'], [server]))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "judge.py"], cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path}:{root}:{':'.join(sys.path)}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    faults = ("return x < 3 → return None", "x < 3 → x <= 3", "x < 3 → x >= 3", "3 → 4 in x < 3", "3 → 2 in x < 3")
    assert found == {f"c::strong::{fault}": "killed" for fault in faults} | {
        f"c::weak::{fault}": "killed" if fault in faults[::2][:2] else "survived" for fault in faults
    } | {f"c::never::{fault}": "unreached" for fault in faults}
