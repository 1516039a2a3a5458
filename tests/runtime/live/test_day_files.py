"""Files of a watch that runs for months: one a day, the old ones removed; or one, which logrotate moves away."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.errors import InputError
from runtime.live.day_files import DayFiles
from runtime.results.json_lines import JsonLineFiles

LINE = '{"event": "detection", "video": "cam"}'


def moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_day_begins_a_file_and_removes_what_is_older(tmp_path: Path) -> None:
    others = ("cam.2020-01-01.jsonl.gz", "cam2.2020-01-01.jsonl", "cam.2020-01-0x.jsonl", "cam.jsonl")
    for name in others:
        (tmp_path / name).write_text(f"{LINE}\n")
    (tmp_path / "cam.2020-01-02.jsonl").write_text("notes of somebody\n")
    (tmp_path / "cam.2020-01-03.jsonl").write_text(f"{LINE}\n")
    files = DayFiles(tmp_path, 2)
    kept = sorted((*others, "cam.2020-01-02.jsonl"))
    files.append("cam", LINE, moment("2026-11-29T23:59:59.9"))
    assert names(tmp_path) == sorted((*kept, "cam.2026-11-29.jsonl"))
    for day in ("2026-11-30T00:00:00", "2026-11-30T12:00:00", "2026-12-01T00:00:00", "2026-12-02T00:00:00"):
        files.append("cam", LINE, moment(day))
    assert names(tmp_path) == sorted((*kept, *(f"cam.2026-{day}.jsonl" for day in ("11-30", "12-01", "12-02"))))
    assert (tmp_path / "cam.2026-11-30.jsonl").read_text() == f"{LINE}\n{LINE}\n"


def test_without_end_nothing_is_removed(tmp_path: Path) -> None:
    files = DayFiles(tmp_path, 0)
    for year in (2026, 2056):
        files.append("a.b", LINE, moment(f"{year}-02-28"))
    assert names(tmp_path) == ["a.b.2026-02-28.jsonl", "a.b.2056-02-28.jsonl"]
    with pytest.raises(InputError, match="--keep-days: got -1, expected 0"):
        DayFiles(tmp_path, -1)


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    """As logrotate does without copytruncate: no signal, no line lost."""
    files = JsonLineFiles(tmp_path)
    for number in range(4):
        files.append("cam", f'{{"event": "x", "n": {number}}}')
        if number == 1:
            (tmp_path / "cam.jsonl").rename(tmp_path / "cam.jsonl.1")
    assert (tmp_path / "cam.jsonl.1").read_text() == '{"event": "x", "n": 0}\n{"event": "x", "n": 1}\n'
    assert (tmp_path / "cam.jsonl").read_text() == '{"event": "x", "n": 2}\n{"event": "x", "n": 3}\n'


def test_a_source_in_a_folder_has_its_days_there(tmp_path: Path) -> None:
    files = DayFiles(tmp_path, 1)
    for day in ("28", "29", "30"):
        files.append("hall/cam", LINE, moment(f"2026-11-{day}"))
    assert names(tmp_path) == ["hall"]
    assert names(tmp_path / "hall") == ["cam.2026-11-29.jsonl", "cam.2026-11-30.jsonl"]
