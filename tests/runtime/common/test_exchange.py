"""Two folders exchange their names in one step."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runtime.common.exchange import exchange


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges folders")
def test_each_gets_what_the_other_was(tmp_path: Path) -> None:
    one, other = tmp_path / "one ü", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "name").write_text(folder.name, encoding="utf-8")
    if not exchange(one, other):
        pytest.skip("this file system exchanges no folders")
    assert (one / "name").read_text(encoding="utf-8") == "other"
    assert (other / "name").read_text(encoding="utf-8") == "one ü"
    with pytest.raises(FileNotFoundError, match="missing"):
        exchange(one, tmp_path / "missing")
    assert (one / "name").is_file()


def test_another_system_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert exchange(tmp_path / "one", tmp_path / "other") is False
