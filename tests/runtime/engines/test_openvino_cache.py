"""Compiled models of OpenVINO that are kept: the same numbers, other entries for other models, no new failures."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import cli
from runtime.engines import open_engine
from runtime.engines.openvino import cache as openvino_cache
from runtime.engines.openvino.cache import default_folder
from runtime.errors import ArtifactWarning
from tests.conftest import Exported
from tests.tiny import CROP, LENGTH, write_tiny_openvino


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_openvino(tmp_path / "tiny.xml")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done for each engine: "import" of an entry, or "compile"."""
    openvino = pytest.importorskip("openvino")
    done: list[str] = []
    compile_model, import_model = openvino.Core.compile_model, openvino.Core.import_model

    def compile_spy(core: Any, *arguments: Any) -> Any:
        done.append("compile")
        return compile_model(core, *arguments)

    def import_spy(core: Any, *arguments: Any) -> Any:
        done.append("import")
        return import_model(core, *arguments)

    monkeypatch.setattr(openvino.Core, "compile_model", compile_spy)
    monkeypatch.setattr(openvino.Core, "import_model", import_spy)
    return done


def outputs(engine: Any) -> dict[str, np.ndarray]:
    frames = np.random.default_rng(1).integers(0, 256, (2, LENGTH, *CROP, 3), np.uint8)
    found: dict[str, np.ndarray] = engine.infer({"frames": frames, "lengths": np.array([LENGTH, 9], np.int32)})
    return found


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_the_second_start_takes_what_the_first_compiled(model: Path, cache: Path, imports: list[str]) -> None:
    plain = outputs(open_engine(model))
    for mode in ("latency", "throughput"):
        for step in ("compile", "import", "import"):
            imports.clear()
            engine: Any = open_engine(model, mode=mode, cache=cache)  # type: ignore[arg-type]
            assert imports == [step]
            assert engine.depth == open_engine(model, mode=mode).depth  # type: ignore[attr-defined, arg-type]
            assert same(outputs(engine), plain)
    assert len(list(cache.iterdir())) == 2
    assert cache.stat().st_mode & 0o777 == 0o700


def test_a_whole_network_from_the_cache_gives_the_same_bits(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    pytest.importorskip("torch")  # which exports the network
    exported: Exported = request.getfixturevalue("exported")
    """The small network of all layers: leaving the weights out of an entry changes its numbers, which none may."""
    engines = [open_engine(exported.openvino, cache=cache) for cache in (None, tmp_path / "c", tmp_path / "c")]
    spec = engines[0].spec
    frames = np.random.default_rng(1).integers(0, 256, (1, spec.window_length, *spec.crop_size, 3), np.uint8)
    given = {"frames": frames, "lengths": np.array([spec.window_length], np.int32)}
    plain, first, second = (engine.infer(given) for engine in engines)
    assert same(plain, first)
    assert same(plain, second)


def test_another_model_under_the_name_is_another_entry(
    model: Path, cache: Path, tmp_path: Path, imports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the weights change, and names and time stamps stay, the size of the .bin too: the digest tells them apart.

    (The .xml holds numbers that OpenVINO counts up in a process, so its size may change.)
    """
    before = outputs(open_engine(model, cache=cache))
    stamps = {path: path.stat() for path in (model, model.with_suffix(".bin"))}
    from tests import tiny

    of = tiny.weights
    monkeypatch.setattr(tiny, "weights", lambda: {name: -matrix for name, matrix in of().items()})
    monkeypatch.setattr(tiny, "_converted", {})
    write_tiny_openvino(model)
    assert model.with_suffix(".bin").stat().st_size == stamps[model.with_suffix(".bin")].st_size
    for path, stamp in stamps.items():
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    imports.clear()
    after = outputs(open_engine(model, cache=cache))
    assert imports == ["compile"]
    assert same(after, outputs(open_engine(model)))
    assert not same(after, before)


@pytest.mark.parametrize("threads", [None, 1])
def test_settings_are_part_of_the_key(model: Path, cache: Path, imports: list[str], threads: int | None) -> None:
    open_engine(model, cache=cache, threads=2)
    imports.clear()
    open_engine(model, cache=cache, threads=threads)
    assert imports == ["compile"]


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text", "folder", "foreign"])
def test_a_damaged_entry_is_compiled_anew(model: Path, cache: Path, imports: list[str], damage: str) -> None:
    plain = outputs(open_engine(model, cache=cache))
    (entry,) = cache.iterdir()
    content = entry.read_bytes()
    if damage == "folder":
        entry.unlink()
        entry.mkdir()
    else:
        blob = b"no blob" * 99
        entry.write_bytes(
            {
                "cut": content[: len(content) // 2],
                "bit": content[:-1] + bytes([content[-1] ^ 1]),
                "empty": b"",
                "text": blob,
                "foreign": hashlib.sha256(blob).digest() + blob,  # whole, and not OpenVINO's
            }[damage]
        )
    imports.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArtifactWarning)  # of the folder in the entry's place
        assert same(outputs(open_engine(model, cache=cache)), plain)
    assert imports == (["import", "compile"] if damage == "foreign" else ["compile"])
    if damage != "folder":
        assert entry.read_bytes() == content or len(entry.read_bytes()) == len(content)
        imports.clear()
        open_engine(model, cache=cache)
        assert imports == ["import"]


def test_a_folder_that_cannot_be_written_to_is_said_once(model: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            outputs(open_engine(model, cache=blocked / "cache"))
    (warning,) = caught
    assert issubclass(warning.category, ArtifactWarning)
    assert "cannot be kept there (Not a directory)" in str(warning.message)
    assert "--no-cache" in str(warning.message)


def test_a_model_that_openvino_cannot_write_runs_all_the_same(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino")

    def fail(compiled: Any) -> None:
        raise RuntimeError("Exception from somewhere.cpp:1:\nnot implemented")

    monkeypatch.setattr(openvino.CompiledModel, "export_model", fail)
    with pytest.warns(ArtifactWarning, match="not implemented"):
        engine = open_engine(model, cache=cache)
    assert same(outputs(engine), outputs(open_engine(model)))


def test_old_entries_go_and_files_of_others_stay(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_engine(model, cache=cache)
    (first,) = cache.iterdir()
    os.utime(first, (1, 1))
    other = cache / "others.blob"
    other.write_bytes(bytes(10**6))
    monkeypatch.setattr(openvino_cache, "KEPT_BYTES", int(2.5 * first.stat().st_size))
    open_engine(model, cache=cache, threads=1)
    assert len(list(cache.iterdir())) == 3
    open_engine(model, cache=cache, mode="throughput")
    assert not first.exists()
    assert other.exists()
    assert len(list(cache.iterdir())) == 3
    monkeypatch.setattr(openvino_cache, "KEPT_BYTES", 1000)  # less than one entry: nothing is written
    open_engine(model, cache=cache / "small")
    assert not (cache / "small").exists()


def test_files_that_nobody_verified_are_neither_kept_nor_taken(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their digest is what they claim: under it, changed weights would be taken for the model's from then on."""
    open_engine(model, cache=cache, verify=False)
    assert not cache.exists()
    open_engine(model, cache=cache)
    (entry,) = cache.iterdir()
    monkeypatch.setattr(openvino_cache, "_read", lambda _: pytest.fail("an entry was looked for"))
    open_engine(model, cache=cache, verify=False)
    assert [*cache.iterdir()] == [entry]


def test_several_processes_at_once(model: Path, cache: Path) -> None:
    code = f"from runtime import open_engine; open_engine({str(model)!r}, cache={str(cache)!r}); print('opened')"
    root = Path(__file__).resolve().parents[3]
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(4)
    ]
    for process in running:
        assert process.communicate(timeout=120)[0].decode() == "opened\n"
        assert process.returncode == 0
    assert len(list(cache.iterdir())) == 1


def test_the_commands_take_the_users_cache_folder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if sys.platform in ("win32", "darwin"):
        pytest.skip("the folder is by another convention there")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    folder = tmp_path / "xdg" / "afsd" / "openvino"
    assert default_folder() == folder
    video = str(tmp_path / "missing.mp4")
    cli.main(["detect", str(model), video, "--no-cache"])
    assert not folder.exists()
    cli.main(["detect", str(model), video, "--cache", str(tmp_path / "mine")])
    assert not folder.exists()
    assert len(list((tmp_path / "mine").iterdir())) == 1
    cli.main(["detect", str(model), video])
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "afsd" / "openvino"
    capsys.readouterr()
