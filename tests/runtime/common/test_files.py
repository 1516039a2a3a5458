"""Files appear whole or not at all, and are read packed or not."""

from __future__ import annotations

import gzip
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtime.common import limits
from runtime.common.files import atomic_path, read_json, read_text, text_suffix
from runtime.errors import InputError


def test_the_file_appears_at_the_end_with_its_suffix(tmp_path: Path) -> None:
    target = tmp_path / "new" / "result.json"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")

    def fill_the_disk() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fill_the_disk()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["動" * 83 + ".json", "x" * 255, "a." + "é" * 126])
def test_a_name_that_just_fits_is_written(tmp_path: Path, name: str) -> None:
    """255 bytes are the most that file systems take, 252 to 255 these names: the temporary one must not be longer."""
    with atomic_path(tmp_path / name) as temporary:
        assert len(temporary.name.encode()) <= len(name.encode())
        temporary.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz"])
def test_a_text_is_read_packed_or_not_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in ("", "ä\n" * 1000):
        path.write_bytes(content.encode())
        assert read_text(path) == content
        path.write_bytes(gzip.compress(content.encode()))
        assert read_text(path) == content
    for damaged in (path.read_bytes()[:20], path.read_bytes()[:12] + bytes(30), b"\x1f\x8bnothing of the kind"):
        path.write_bytes(damaged)
        with pytest.raises(OSError, match=r"a gzip file that is damaged or cut off \("):
            read_text(path)


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.json", ".json"), ("b.x.JSON.GZ", ".json"), ("c.gz", ""), ("d", ""), ("v1.2/e", "")]
)
def test_the_suffix_of_a_packed_text_is_the_one_before(name: str, suffix: str) -> None:
    assert text_suffix(name) == suffix


@pytest.fixture
def no_file(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The path of what could be waited for, or read from, for ever."""
    with ExitStack() as stack:
        path = tmp_path / "x"
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "socket":
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
        elif request.param == "folder":
            path.mkdir()
        yield request.param if request.param.startswith("/") else str(path)


@pytest.mark.parametrize(
    ("no_file", "kind"),
    [
        ("pipe", "a pipe, no file"),
        ("socket", "a socket, no file"),
        ("folder", "a folder, no file"),
        ("/dev/zero", "a device, no file"),
    ],
    indirect=["no_file"],
)
def test_what_is_no_file_is_not_waited_for(no_file: str, kind: str) -> None:
    with pytest.raises(InputError, match=rf"^{no_file}: cannot be read \({kind}\); expected a list$"):
        read_json(no_file, "list", InputError)


DEEP = 100_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * DEEP + b"]" * DEEP, "not JSON (maximum recursion depth exceeded"),
        (b'{"a":' * DEEP, "not JSON (maximum recursion depth exceeded"),
        (b"[" + b"9" * 5000 + b"]", "not JSON (Exceeds the limit (4300 digits) for integer string conversion"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "not JSON ('c' is there twice; keep one of the two)"),
        (b'{"' + b"a" * 5000 + b'": 1, "' + b"a" * 5000 + b'": 2}', "' is there twice; keep one of the two)"),
        (b'{"a": "\xff"}', "not JSON ('utf-8' codec can't decode byte 0xff"),
        (b'{"a": 1}' + b" " * 300_000, "cannot be read (it holds more than 100,000 bytes, the most that is read)"),
        (gzip.compress(bytes(10_000_000)), "cannot be read (it holds more than 100,000 bytes, the most that is read)"),
        (b"", "not JSON (Expecting value: line 1 column 1 (char 0))"),
    ],
    ids=range(9),
)
def test_json_of_any_content_is_read_or_refused(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TEXT_BYTES", 100_000 if b"[[" not in content and b":{" not in content else 10**7)
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(path, "list", InputError)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1200


def test_a_name_with_a_zero_byte_is_no_file() -> None:
    with pytest.raises(InputError, match="file not found; expected a list"):
        read_json("a\0b", "list", InputError)
