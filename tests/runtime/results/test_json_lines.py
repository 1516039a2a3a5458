"""Lines that are appended: to files of this project, and to no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import InputError
from runtime.results.json_lines import JsonLineFiles


def test_lines_follow_those_of_a_run_before_also_of_one_that_was_killed(tmp_path: Path) -> None:
    for killed in ('{"event": "started", "video": "a"}\n', '{"video": "a", "label": "jum'):
        (tmp_path / "a.jsonl").write_text(killed)
        files = JsonLineFiles(tmp_path)
        files.append("a", '{"video": "a", "score": 1}')
        files.append("a", '{"video": "a", "score": 2}')
        lines = (tmp_path / "a.jsonl").read_text().splitlines()
        assert lines == [killed.rstrip(), '{"video": "a", "score": 1}', '{"video": "a", "score": 2}']


def test_lines_of_a_video_of_a_tree_lie_in_its_folder(tmp_path: Path) -> None:
    files = JsonLineFiles(tmp_path)
    for video in ("day1", "day1/cam1", "day1/cam1", "day2/cam1"):
        files.append(video, f'{{"video": "{video}"}}')
    lines = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.jsonl")}
    assert lines == {
        "day1.jsonl": '{"video": "day1"}\n',
        "day1/cam1.jsonl": '{"video": "day1/cam1"}\n' * 2,
        "day2/cam1.jsonl": '{"video": "day2/cam1"}\n',
    }
    for name in ("../x", "a/../../x", "a//x"):
        with pytest.raises(InputError, match="the name of a video is"):
            files.append(name, "{}")


@pytest.mark.parametrize("content", ["my notes\n", '{"title": "mine"}\n', "{}", "\n"])
def test_nothing_is_appended_to_a_file_of_others(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"a\.jsonl: is there already and holds no lines of afsd"):
        JsonLineFiles(tmp_path).append("a", '{"video": "a"}')
    assert (tmp_path / "a.jsonl").read_text() == content
