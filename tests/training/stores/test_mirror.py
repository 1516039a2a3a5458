"""A data set of an object store is fetched once, by fsspec's memory store, and follows what changes there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from runtime.errors import InputError
from tests.training.feature_data import NETWORKS, SMALL, make_feature_set
from training.commands.train import add_train
from training.config.files import load_config
from training.stores.mirror import INDEX, mirror, mirror_data, mirror_folder


@pytest.fixture
def store() -> Iterator[Any]:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    yield memory
    memory.store.clear()


@pytest.fixture
def opened(store: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read from the store."""
    names: list[str] = []
    real = type(store).open

    def note(self: Any, path: str, *words: Any, **options: Any) -> Any:
        names.append(path)
        return real(self, path, *words, **options)

    monkeypatch.setattr(type(store), "open", note)
    return names


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != INDEX
    }


def test_only_what_is_new_or_changed_is_fetched(store: Any, opened: list[str], tmp_path: Path) -> None:
    store.pipe({"/set/annotations.json": b"{}", "/set/rgb/a.npy": b"aaaa", "/set/rgb/b.npy": b"bb"})
    folder = tmp_path / "mirror"
    assert mirror("memory://set", folder) == folder
    assert files(folder) == {"annotations.json": b"{}", "rgb/a.npy": b"aaaa", "rgb/b.npy": b"bb"}
    opened.clear()
    mirror("memory://set/", folder)
    assert opened == []
    store.pipe("/set/rgb/a.npy", b"AAAA")  # of the same size
    store.rm("/set/rgb/b.npy")
    opened.clear()
    (folder / "annotations.json").write_bytes(b"changed here")
    (folder / "frames").mkdir()
    (folder / "frames/own.npy").write_bytes(b"built here")
    mirror("memory://set", folder)
    assert sorted(opened) == ["/set/annotations.json", "/set/rgb/a.npy"]
    assert files(folder) == {"annotations.json": b"{}", "rgb/a.npy": b"AAAA", "frames/own.npy": b"built here"}


def test_what_was_fetched_before_a_failure_is_not_fetched_again(
    store: Any, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe({f"/set/{k}.npy": b"x" * k for k in range(1, 5)})
    real = type(store).open

    def fail(self: Any, path: str, *words: Any, **options: Any) -> Any:
        if path.endswith("3.npy"):
            raise PermissionError("denied\nin detail")
        return real(self, path, *words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "open", fail)
        with pytest.raises(InputError, match=r"^memory://set/3\.npy: cannot be fetched to .* \(denied"):
            mirror("memory://set", tmp_path)
    assert sorted(files(tmp_path)) == ["1.npy", "2.npy"]
    opened.clear()
    mirror("memory://set", tmp_path)
    assert opened == ["/set/3.npy", "/set/4.npy"]


def test_a_damaged_index_costs_time_alone(store: Any, tmp_path: Path) -> None:
    store.pipe("/set/a", b"a")
    mirror("memory://set", tmp_path)
    (tmp_path / INDEX).write_text("{")
    mirror("memory://set", tmp_path)
    assert files(tmp_path) == {"a": b"a"}


@pytest.mark.parametrize("name", ["../out", "a/../../out", INDEX, "a\\b"])
def test_names_that_lead_out_are_refused(name: str, store: Any, tmp_path: Path) -> None:
    store.store[f"/set/{name}"] = fsspec.implementations.memory.MemoryFile(store, f"/set/{name}", b"x")
    with pytest.raises(InputError, match=r"has a file .* which a mirror cannot hold"):
        mirror("memory://set", tmp_path / "mirror")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_had_is_one_line(store: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^memory://nothing: (cannot be listed|no files there)"):
        mirror("memory://nothing", tmp_path)
    with pytest.raises(InputError, match=r"^nosuch://set: cannot be opened \(.*check the address"):
        mirror("nosuch://user:secret@set", tmp_path)


@pytest.mark.thorough
def test_training_takes_a_url(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command itself, on features."""
    import argparse

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = make_feature_set(tmp_path / "set")
    store.pipe(
        {f"/bucket/set/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}
    )
    parser = argparse.ArgumentParser()
    add_train(parser.add_subparsers())
    own = ("data.root=memory://bucket/set", "data.fold=b", "run.max_steps=1")
    settings = [word for setting in (*SMALL, *NETWORKS["a2net_gtea"], *own) for word in ("--set", setting)]
    arguments = parser.parse_args(["train", "a2net_gtea", "--out", str(tmp_path / "out"), *settings])
    assert arguments.func(arguments) == 0
    assert (tmp_path / "out/last.ckpt").exists()
    assert mirror_folder("memory://bucket/set/") == next((tmp_path / "cache/afsd/data").iterdir())


def test_a_folder_stays_as_it_is() -> None:
    config = load_config("synthetic", ["data.root=data"])
    assert mirror_data(config) is config
