"""Names from files make no file outside their folder, and none that a system takes for something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.common.names import path_in, require_safe_names
from runtime.errors import InputError

OUTSIDE = ["../x", "..", ".", "", "/x", "a/../../x", "a//x", "./x", "..\\x", "C:x", "C:\\x", "\\\\server\\x"]
UNFIT = ["a\0", "a\nb", "a\x1b[2J", "a\u2028b", "a\x9b", "CON", "nul", "Aux.old", "com1", "LPT9.a.b", "COM¹", "con "]


@pytest.mark.parametrize("name", OUTSIDE + UNFIT)
@pytest.mark.parametrize("deep", [False, True])
def test_a_name_that_is_no_files_is_refused_in_one_line(name: str, deep: bool) -> None:
    with pytest.raises(InputError, match=r"^the name of a video is .*, which .*: rename it$") as caught:
        path_in(Path("out"), name, ".json", deep=deep)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a.", "a ", "a/b "])
def test_nothing_that_windows_leaves_out_ends_a_name(name: str) -> None:
    with pytest.raises(InputError, match="ends with a dot or a space"):
        path_in(Path("out"), name, deep=True)
    assert path_in(Path("out"), name, ".json", deep=True) == Path("out") / f"{name}.json"


@pytest.mark.parametrize("name", ["a", "a.b", "動 –", "10:30", "..a", "-x", "console", "nul1", "\udcff", "x" * 300])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert path_in(Path("out"), name, ".json") == Path("out") / f"{name}.json"
    require_safe_names([name])


def test_folders_below_only_where_they_are_meant() -> None:
    assert path_in(Path("out"), "a/b", ".npy", deep=True) == Path("out/a/b.npy")
    with pytest.raises(InputError, match="has a path in it"):
        path_in(Path("out"), "a/b", ".npy")
