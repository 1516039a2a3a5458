"""Records that several processes write lose nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.common import locks
from runtime.common.files import read_json, write_json
from runtime.common.locks import LOCK, lock_folder
from runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


def add(folder: Path, names: list[str]) -> None:
    for name in names:
        with lock_folder(folder, "afsd test"):
            path = folder / "record.json"
            there = read_json(path, "record", InputError) if path.exists() else []
            write_json(path, [*there, name])


def test_what_several_processes_add_is_all_there(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.runtime.common.test_locks import add; "
        "add(Path(sys.argv[1]), [f'{sys.argv[2]}{k}' for k in range(30)])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "new")]
    processes = [subprocess.Popen([*command, letter], cwd=ROOT) for letter in "abcd"]
    assert [process.wait(60) for process in processes] == [0] * 4
    found = read_json(tmp_path / "new" / "record.json", "record", InputError)
    assert sorted(found) == sorted(f"{letter}{k}" for letter in "abcd" for k in range(30))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["record.json"]


def test_a_lock_that_is_held_names_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    with (
        lock_folder(tmp_path, "afsd test"),
        pytest.raises(InputError, match=r": in use by afsd test, process \d+ on .+ for more than 0\.1 s; wait"),
        lock_folder(tmp_path, "afsd test"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_file_that_a_dead_process_left_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("process 1 on another machine, for long gone")
    with lock_folder(tmp_path, "afsd test"):
        assert "process 1 on" not in (tmp_path / LOCK).read_text()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_file_in_the_place_of_a_lock_is_left_alone(tmp_path: Path, kind: str) -> None:
    """What a link leads to would be emptied, and what a pipe holds waited for."""
    victim, place = tmp_path / "victim", tmp_path / "out" / LOCK
    victim.write_text("precious")
    place.parent.mkdir()
    if kind == "link":
        place.symlink_to(victim)
    elif kind == "folder":
        place.mkdir()
    else:
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes with names here")
        os.mkfifo(place)
    with (
        pytest.raises(InputError, match="no file, where the lock of the folder is to be; remove it"),
        lock_folder(place.parent, "afsd test"),
    ):
        pass
    assert victim.read_text() == "precious"


def test_a_file_system_without_locks_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    add(tmp_path, ["a", "b"])
    (line,) = caplog.messages
    assert "the file system has no locks (Function not implemented); let one process at a time write there" in line
