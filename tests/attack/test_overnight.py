"""A job over many videos that is killed leaves, when it is started again, the files of an undisturbed one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.attack.overnight import attack
from tests.tiny import write_tiny_onnx

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no groups of processes to kill")


@pytest.mark.parametrize(
    ("videos", "kills", "workers"),
    [
        pytest.param(12, 1, 0, marks=pytest.mark.thorough),
        pytest.param(36, 3, 2, marks=pytest.mark.slow),
        pytest.param(200, 5, 2, marks=pytest.mark.slow),
        pytest.param(200, 5, 0, marks=pytest.mark.slow),
    ],
)
def test_killed_and_started_again(tmp_path: Path, videos: int, kills: int, workers: int) -> None:
    model = write_tiny_onnx(tmp_path / "tiny.onnx", None)
    report = attack(tmp_path, model, videos, kills, seed=videos + workers, flags=["--workers", str(workers)])
    assert report.different == []
    assert report.files > 6 * videos  # the formats and the record of each, and what is of all
    assert max(report.unrecorded) <= max(workers, 1)  # what was in work
    assert report.records == sorted(report.records)  # what is done stays done
    assert report.last_summary.partition(":")[0] == report.summary.partition(":")[0]
