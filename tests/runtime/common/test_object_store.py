"""Files of an object store, by fsspec's memory store and what real stores say of their objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.common.object_store import TRIAL, ObjectStore
from runtime.errors import InputError, MissingDependencyError

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory() -> Iterator[Any]:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    yield memory
    memory.store.clear()


def test_files_are_put_listed_fetched_and_removed(memory: Any, tmp_path: Path) -> None:
    store = ObjectStore("memory://bucket/found/")
    assert store.list() == {}
    store.require_writable("choose another")
    assert store.list() == {}  # the trial is gone
    for name, text in (("a.json", "A"), (".afsd/records/a b%.json", "recörd")):
        (tmp_path / "f").write_text(text, encoding="utf-8")
        store.put(tmp_path / "f", name)
    memory.pipe("/bucket/found2/x", b"of another folder")
    assert store.list().keys() == {"a.json", ".afsd/records/a b%.json"}
    assert store.list()["a.json"] == store.state("a.json") != ""
    assert store.state("b.json") == ""
    assert memory.cat("/bucket/found/.afsd/records/a b%.json").decode() == "recörd"
    store.fetch_all({name: tmp_path / "here" / name for name in [*store.list(), "gone"]})
    assert (tmp_path / "here/.afsd/records/a b%.json").read_text(encoding="utf-8") == "recörd"
    assert not (tmp_path / "here/gone").exists()
    assert not store.fetch("gone", tmp_path / "f")
    assert not (tmp_path / "f").exists()  # what was fetched before is not taken for it
    store.remove("a.json")
    store.remove("a.json")
    assert store.list().keys() == {".afsd/records/a b%.json"}


@pytest.mark.parametrize(
    ("facts", "changed"),
    [
        ({"ETag": '"a1"', "LastModified": "Monday"}, {"ETag": '"b2"'}),
        ({"etag": "a1", "md5Hash": "x"}, {"etag": "b2"}),
        ({"mtime": 12.5}, {"mtime": 13.5}),
        ({"LastModified": "Monday"}, {"size": 5}),
    ],
)
def test_the_state_changes_with_what_a_store_says_of_the_content(
    facts: dict[str, Any], changed: dict[str, Any], memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/bucket/f", b"1234")
    said = {"name": "/bucket/f", "size": 4, "type": "file", **facts}
    monkeypatch.setattr(type(memory), "info", lambda *_, **__: dict(said))
    monkeypatch.setattr(type(memory), "find", lambda *_, **__: {"/bucket/f": dict(said)})
    store = ObjectStore("memory://bucket")
    first = store.state("f")
    assert first == store.list()["f"]
    if len(facts) > 1:  # of an object with a tag the time says nothing: a copy of the bucket has other times
        said["LastModified"] = "Tuesday"
        assert store.state("f") == first
    said.update(changed)
    assert store.state("f") == store.list()["f"] != first


class DeniedError(Exception):
    """Is an error of a store's own package, which is none of the system's."""


def test_errors_of_a_store_are_those_of_the_system_and_name_the_file_without_secrets(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object, **__: object) -> None:
        raise DeniedError("access\ndenied")

    for name in ("find", "info", "get_file", "put_file", "pipe_file", "rm_file"):
        monkeypatch.setattr(type(memory), name, deny)
    store = ObjectStore("memory://user:secret@bucket/found")
    assert store.label == "memory://bucket/found"
    with pytest.raises(InputError) as refused:
        store.require_writable("choose another out")
    assert str(refused.value) == (
        "memory://bucket/found: the results cannot be written there (access denied); choose another out"
    )
    for call, what, address in (
        (lambda: store.list(), "cannot be listed", "memory://bucket/found"),
        (lambda: store.state("a"), "cannot be looked at", "memory://bucket/found/a"),
        (lambda: store.fetch("a", tmp_path / "a"), "cannot be read", "memory://bucket/found/a"),
        (lambda: store.put(tmp_path / "a", "a"), "cannot be written", "memory://bucket/found/a"),
        (lambda: store.remove("a"), "cannot be removed", "memory://bucket/found/a"),
    ):
        with pytest.raises(OSError, match=r"access denied") as error:
            call()
        assert (error.value.filename, error.value.strerror) == (address, f"{what} (access denied)")


def test_one_may_write_and_not_remove(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(memory), "rm_file", lambda *_: (_ for _ in ()).throw(PermissionError("no")))
    store = ObjectStore("memory://bucket/found")
    store.require_writable("choose another")
    assert store.list().keys() == {TRIAL}


def test_a_store_without_its_package_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"nosuch://user|nosuch://bucket: cannot be opened \(.*nosuch.*\); check the"):
        ObjectStore("nosuch://bucket")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingDependencyError, match=r"writing to s3://bucket/x needs fsspec.*\.\[remote\]"):
        ObjectStore("s3://bucket/x")
