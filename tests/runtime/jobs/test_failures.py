"""The file of the videos that failed."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from runtime.errors import InputError, MissingDependencyError, VideoError
from runtime.jobs.failures import Failure, FailureFile
from runtime.jobs.plan import plan_jobs


def lines(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]


def test_a_line_stays_until_its_video_succeeds(tmp_path: Path) -> None:
    a, b = plan_jobs(["a.mp4", "s3://user:secret@bucket/b.mp4"])
    file = FailureFile(tmp_path)
    file.settle("a")  # nothing to settle
    file.add(a, Failure.of(VideoError("a.mp4: broken\nin two lines")))
    file.add(b, Failure.of(FileNotFoundError(2, "No such file or directory", "b.mp4")))
    first, second = lines(tmp_path)
    assert (first["video"], first["error"], first["message"]) == ("a", "VideoError", "a.mp4: broken in two lines")
    assert (second["source"], second["error"]) == ("s3://bucket/b.mp4", "FileNotFoundError")
    assert "secret" not in (tmp_path / "failures.jsonl").read_text()
    assert datetime.fromisoformat(first["time"]).utcoffset() is not None
    file.add(a, Failure.of(MissingDependencyError("av", "", "reading")))  # again, for another reason
    assert [line["error"] for line in lines(tmp_path)] == ["FileNotFoundError", "MissingDependencyError"]
    assert FailureFile(tmp_path).names() == {"a", "b"}
    file.settle("a")
    assert [line["video"] for line in lines(tmp_path)] == ["b"]
    file.settle("b")
    assert not (tmp_path / "failures.jsonl").exists()


def test_half_a_line_is_none(tmp_path: Path) -> None:
    (job,) = plan_jobs(["a.mp4"])
    FailureFile(tmp_path).add(job, Failure("VideoError", "broken"))
    path = tmp_path / "failures.jsonl"
    path.write_text(path.read_text() + '{"video": "b", "sour')
    assert FailureFile(tmp_path).names() == {"a"}


def test_what_is_no_line_is_none(tmp_path: Path) -> None:
    (job,) = plan_jobs(["a.mp4"])
    file = FailureFile(tmp_path)
    file.add(job, Failure("VideoError", "broken"))
    path = tmp_path / "failures.jsonl"
    for odd in (
        b'{"video": "\xff\xfe"',
        b'{"video": ' + b"[" * 100_000,
        b'{"video": ["x"]}',
        b"null",
        b"5",
        b"\0" * 100,
    ):
        path.write_bytes(path.read_bytes() + odd + b"\n")
        assert file.names() == {"a"}
    file.settle("a")
    assert not path.exists()


def test_a_file_of_others_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "failures.jsonl").write_text("my own list\n")
    with pytest.raises(InputError, match="no result of afsd"):
        FailureFile(tmp_path).require_own()
