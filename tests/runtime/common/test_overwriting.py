"""Files of others stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.common.overwriting import Recognise, json_with, require_own_file, text_that_begins
from runtime.errors import InputError


@pytest.mark.parametrize("recognise", [json_with("a"), text_that_begins("step,"), None])
def test_a_stranger_is_refused_and_what_holds_nothing_is_not(recognise: Recognise | None, tmp_path: Path) -> None:
    path = tmp_path / "x"
    require_own_file(path, recognise)
    path.touch()
    require_own_file(path, recognise)
    for content in (b"mine", b"{", b"[" * 100_000, b'{"b": 1}', b"\xff\xfe", b"[1]", b"Step,"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="no result of afsd, so it is not written over"):
            require_own_file(path, recognise)


def test_own_files_are_known(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"a": 1, "b": 2}')
    require_own_file(tmp_path / "x", json_with("a"))
    (tmp_path / "x").write_bytes(b"step,epoch\n")
    require_own_file(tmp_path / "x", text_that_begins("step,"))


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    (tmp_path / "y").mkdir()
    for name, what in (("x", "a pipe"), ("y", "a folder")):
        with pytest.raises(InputError, match=f"{name}: {what}.*where a file is to be written; choose"):
            require_own_file(tmp_path / name, None)
