"""The picture of the kinds of errors: its columns measured in pixels, and the flag."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.annotations.thumos14 import CLASS_IDS
from runtime.cli import main
from runtime.evaluation.error_kinds import HIT, KINDS, FalsePositiveResult
from runtime.evaluation.error_plot import COLOURS, FOOTER, HEADER, HEIGHT, MARGIN, draw_profile

NUMBERS = np.array([[40, 10, 10, 20, 15, 5], [0, 0, 0, 0, 0, 100]] + [[0] * 6] * 8)


def test_columns_are_as_high_as_the_shares() -> None:
    with np.errstate(invalid="ignore"):
        shares = NUMBERS / NUMBERS.sum(axis=1, keepdims=True)
    result = FalsePositiveResult(0.5, "activitynet", shares, NUMBERS.sum(axis=0), 0.5, np.zeros(len(KINDS)))
    image = draw_profile(result)
    column = image[HEADER : HEIGHT - FOOTER, MARGIN + 3].astype(int)  # left of the numbers
    for share, colour in zip(shares[0], COLOURS, strict=True):
        assert np.mean((column == colour).all(axis=1)) == pytest.approx(share, abs=0.01)
    assert (column[-1] == COLOURS[HIT]).all()
    assert (image[HEADER : HEIGHT - FOOTER, MARGIN + 3 * 65] == 255).all()  # no detection reaches the third


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Detections as text, the kit's folder."""
    kit = tmp_path / "annotation"
    kit.mkdir()
    for label in (*CLASS_IDS, "Ambiguous"):
        (kit / f"{label}_test.txt").write_text("video_1  0.0 10.0\n" if label == "Diving" else "")
    (tmp_path / "found.txt").write_text("video_1 0.5 10 26 0.9\nvideo_1 50 60 26 0.8\n")
    return [str(tmp_path / "found.txt"), str(kit)]


def test_the_flag_writes_the_picture(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *files, "--false-positives", "--plot", str(tmp_path / "errors.png")]) == 0
    assert cv2.imread(str(tmp_path / "errors.png")).shape == (HEIGHT, 960, 3)
    assert main(["evaluate", *files, "--plot", str(tmp_path / "other.png")]) == 2
    assert "--plot does nothing without --false-positives; give that, too" in capsys.readouterr().err
    assert not (tmp_path / "other.png").exists()


def test_no_detection_at_all(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every question has an answer, and the picture is drawn."""
    Path(files[0]).write_text("")
    further = ["--durations", "--proposals", "--false-positives", "--plot", str(tmp_path / "errors.png")]
    for rule in ("activitynet", "thumos14"):
        assert main(["evaluate", *files, *further, "--rule", rule]) == 0
        assert capsys.readouterr().out.splitlines()[1].split()[4:9] == ["0.00"] * 5
    assert main(["evaluate", str(tmp_path / "missing.txt"), files[1]]) == 2
    error = capsys.readouterr().err
    assert "missing.txt: file not found" in error
    assert error.count("\n") == 1
