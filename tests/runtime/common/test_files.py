"""Files appear whole or not at all, and are read packed or not."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from runtime.common.files import atomic_path, read_text, text_suffix


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
