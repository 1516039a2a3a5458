"""The study that loads the service, on the tiny network: no request is lost, no result is wrong, no file is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")

from runtime.benchmark.service_load.judging import find_faults
from runtime.benchmark.service_load.kinds import KINDS
from runtime.benchmark.service_load.report import format_study
from runtime.benchmark.service_load.study import load
from tests.tiny import write_tiny_onnx
from tests.videos import write_video


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="reads /proc")
def test_nothing_is_lost_wrong_or_left(tmp_path: Path) -> None:
    model = write_tiny_onnx(tmp_path / "tiny.onnx", None)
    (tmp_path / "videos").mkdir()
    videos = [
        write_video(tmp_path / "videos" / f"{name}.mp4", frames=64, level=90 + 9 * k) for k, name in enumerate("abc")
    ]
    study = load(model, videos, requests=len(KINDS) + 10, at_once=8, workers=1, seed=1)
    assert find_faults(study) == []
    report = format_study(study)
    assert f"{len(KINDS) + 10} answered, 0 lost, 0 wrong" in report
    assert "exit status 0; temporary files left: 0" in report
    assert "× 408" in report
    assert "× 415" in report
