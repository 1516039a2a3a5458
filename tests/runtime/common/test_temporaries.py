"""What a dead process left is swept; what a living one writes is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from runtime.common import temporaries
from runtime.common.files import atomic_path, require_writable_folder, write_text
from runtime.common.locks import lock_folder
from runtime.common.temporaries import LOCK, NAME, scratch_folder, sweep, temporary_file
from runtime.errors import InputError
from tests.processes import started

SCRIPT = """
import sys, time
from pathlib import Path
from runtime.common.temporaries import scratch_folder, temporary_file
with temporary_file(Path(sys.argv[1]), ".json") as file, scratch_folder(Path(sys.argv[1])) as folder:
    file.write_text("half")
    (folder / "part").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def writing(folder: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """A process that is writing a temporary file and a temporary folder."""
    return started([sys.executable, "-c", SCRIPT, str(folder)])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks of open files that are renamed")
def test_only_what_a_dead_process_left_is_swept(tmp_path: Path) -> None:
    write_text(tmp_path / "mine.json", "{}")
    (tmp_path / ".afsd-notes.json.bak").write_text("a name of other form")
    with writing(tmp_path) as process:
        alive = sorted(path for path in tmp_path.iterdir() if NAME.fullmatch(path.name))
        assert sorted(path.is_dir() for path in alive) == [False, True]
        sweep(tmp_path)
        assert all(path.exists() for path in alive)
        process.kill()
        process.wait()
        assert all(path.exists() for path in alive)
        sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".afsd-notes.json.bak", "mine.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks of open files that are renamed")
def test_a_temporary_swept_before_its_lock_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, swept = temporaries._try_lock, []

    def sweep_first(descriptor: int) -> bool | None:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].unlink()
        return lock(descriptor)

    monkeypatch.setattr(temporaries, "_try_lock", sweep_first)
    with temporary_file(tmp_path) as path:
        assert path.exists()
        assert path not in swept


def test_where_there_are_no_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporaries, "_try_lock", lambda _: None)
    young, old = tmp_path / ".afsd-aaaaa.npy", tmp_path / ".afsd-bbbbb"
    young.write_text("")
    old.mkdir()
    (old / "part").write_text("")
    os.utime(old, (time.time() - 90000,) * 2)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


@pytest.mark.parametrize("name", ["a" * 17, "a" * 12 + ".json", "b" * 20 + ".safetensors", "c" * 11 + ".v1.2.x"])
def test_a_temporary_name_is_not_longer_than_the_final_one(tmp_path: Path, name: str) -> None:
    with atomic_path(tmp_path / name) as temporary:
        assert NAME.fullmatch(temporary.name)
        assert len(temporary.name) <= max(16, len(name))


def test_a_name_that_is_too_long_fails_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"), atomic_path(tmp_path / ("x" * 256)):
        pytest.fail("the file was written first")


def test_a_scratch_folder_ends_with_its_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "new") as folder:
        assert folder.parent == tmp_path / "new"
        (folder / "part").write_text("")
    assert not list((tmp_path / "new").iterdir())


def test_file_and_folder_are_on_the_disk_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def note_replace(source: str, target: str) -> None:
        done.append("rename")
        replace(source, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux names the files behind descriptors")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    with atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
    assert done == [temporary.name, "rename", tmp_path.name]


def test_an_output_folder_is_looked_at_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    require_writable_folder(tmp_path / "new" / "deep")
    assert not list((tmp_path / "new" / "deep").iterdir())
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="got a file where a folder is needed for the results; choose another"):
            require_writable_folder(folder)
    with pytest.raises(InputError, match=r"cannot be written there \(.*too long.*\); use --out"):
        require_writable_folder(tmp_path / ("x" * 256), "use --out")
    with pytest.raises(InputError, match=r"/proc/afsd: the results cannot be written there"):
        require_writable_folder("/proc/afsd")


def test_the_lock_of_a_dead_command_is_swept_and_no_other(tmp_path: Path) -> None:
    for name, content in (("dead", b"afsd train, process 7 on host"), ("others", b"pid 7"), ("empty", b"")):
        (tmp_path / name).mkdir()
        (tmp_path / name / LOCK).write_bytes(content)
        sweep(tmp_path / name)
    assert [name for name in ("dead", "others", "empty") if (tmp_path / name / LOCK).exists()] == ["others", "empty"]
    with lock_folder(tmp_path / "held", "afsd train"):
        sweep(tmp_path / "held")
        assert (tmp_path / "held" / LOCK).exists()
