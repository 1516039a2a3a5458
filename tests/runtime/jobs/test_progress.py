"""The estimate of a job's hours, its line, and its summary."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from runtime.common.log import log_to_console
from runtime.jobs.plan import plan_jobs
from runtime.jobs.progress import Durations, JobProgress, duration, hours
from runtime.jobs.summary import Tally
from tests.videos import write_video


def test_lengths_come_from_containers_and_else_from_sizes(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_video(tmp_path / "a.mp4", frames=40)
    (tmp_path / "b.mp4").write_bytes(bytes(2 * (tmp_path / "a.mp4").stat().st_size))  # twice as long, by its size
    jobs = plan_jobs([str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), "s3://bucket/c.mp4"])
    durations = Durations(jobs)
    assert durations.of("b") is None or durations.of("b")
    deadline = time.monotonic() + 30
    while durations.of("a") is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert durations.of("a") == pytest.approx(4.0, abs=0.1)
    assert durations.of("b") == pytest.approx(8.0, abs=0.2)
    assert durations.of("c") == pytest.approx(4.0, abs=0.1)  # of unknown size: as the others
    durations.set("b", 6.0)
    assert durations.total(["a", "b"]) == pytest.approx(10.0, abs=0.1)
    durations.close()
    durations.close()


def test_the_line_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.jobs.progress.shows_progress", lambda: True)
    jobs = plan_jobs(["s3://b/a.mp4", "s3://b/b.mp4", "s3://b/c.mp4"])
    progress = JobProgress(jobs, skipped=7)
    began = progress._began
    progress.advance(jobs[0], 30.0)
    assert progress.text(began + 10) == "7 of 10 videos, 0.008 h of video, 3.0× real time, a 30 s"
    progress.end(jobs[0], 3600.0)
    progress.advance(jobs[1], 1800.0)
    assert progress.text(began + 600) == "8 of 10 videos, 1.50 of 3.00 h of video, 9.0× real time, 10 min to go, b 50%"
    progress.end(jobs[1], None)  # it failed: nothing more is to be seen of it
    assert progress.text(began + 600) == "9 of 10 videos, 1.00 of 2.00 h of video, 6.0× real time, 10 min to go"
    progress.close()


def test_nothing_is_looked_at_where_nobody_sees_it(capsys: pytest.CaptureFixture[str]) -> None:
    progress = JobProgress(plan_jobs(["a.mp4", "b.mp4"]))
    assert not progress.is_shown
    assert progress._durations is None
    progress.close()
    assert capsys.readouterr() == ("", "")


def test_a_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = plan_jobs(["s3://b/a.mp4", "s3://b/b.mp4"])
    with log_to_console(logging.INFO):
        progress = JobProgress(jobs)
        assert progress.is_shown
        progress.advance(jobs[0], 30.0)
        assert capsys.readouterr() == ("", "")  # not yet
        monkeypatch.setattr("runtime.jobs.progress.LOG_S", 0.0)
        progress.end(jobs[0], 3600.0)
        progress.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("1 of 2 videos, 1.00 of 2.00 h of video, ")
    with log_to_console(logging.WARNING):
        assert not JobProgress(jobs).is_shown


@pytest.mark.parametrize(("whole", "text"), [(600, "0.083"), (3600, "0.08"), (36000, "0.1")])
def test_lengths_in_hours(whole: float, text: str) -> None:
    assert hours(300, whole) == text


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (65, "1 min"), (3599, "1 h 00 min"), (36060, "10 h 01 min")])
def test_waits_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_summary_begins_alike_after_a_restart() -> None:
    whole = Tally(done=4, video_s=7200.0, wall_s=720.0)
    assert whole.line() == (
        "4 videos, 2 h: 4 done, 0 skipped, 0 failed; 2 h read in 720.0 s, 10.0 hours of video per hour "
        "(real-time factor 10.0)"
    )
    rest = Tally(done=1, skipped=3, video_s=1800.0, known_s=5400.0, wall_s=180.0)
    assert rest.line().partition(":")[0] == whole.line().partition(":")[0]
    none = Tally(skipped=4, known_s=7200.0, wall_s=0.1)
    assert none.line() == "4 videos, 2 h: 0 done, 4 skipped, 0 failed; none was read"
    assert none.failed_line() == ""
    some = Tally(done=1, failed=["day1/a", "day2/a", "b\n"], not_done=2)
    assert "3 failed, 2 not done; none was read" in some.line()  # in work or not
    assert some.failed_line() == "3 of 6 videos failed: day1/a, day2/a, 'b\\n'"
