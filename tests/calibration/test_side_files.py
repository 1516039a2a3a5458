"""A calibrated network and its side files change as one, wherever the change is broken off."""

from __future__ import annotations

import hashlib
import json
from itertools import count
from pathlib import Path

import pytest

from calibration.calibrate import RANGES, replace_with_side_files, settle_side_files
from export.comparison.quantisation import REPORT, find_report

SIDES = (REPORT, RANGES, ".png")


class Killed(BaseException):
    """Stands for the end of the process: nothing that follows is done."""


def write(folder: Path, content: str) -> str:
    """Write a network and its side files, which name it; return its SHA-256."""
    folder.mkdir(exist_ok=True)
    (folder / "m.onnx").write_text(content)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    for suffix in SIDES:
        (folder / f"m.onnx{suffix}").write_text(json.dumps({"sha256": sha256}))
    return sha256


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers the renames, and ends the process before that of the number in the list."""
    at, done, rename = [-1], count(), Path.replace

    def replace(self: Path, target: Path) -> Path:
        if next(done) == at[0]:
            raise Killed
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    return at


@pytest.mark.parametrize("number", range(8))
def test_every_report_is_that_of_its_network(number: int, kill: list[int], tmp_path: Path) -> None:
    old, new = write(tmp_path / "out", "old"), write(tmp_path / "made", "new")
    out = tmp_path / "out" / "m.onnx"
    kill[0] = number
    try:
        replace_with_side_files(tmp_path / "made" / "m.onnx", out, [Path(f"{out}{suffix}") for suffix in SIDES])
        killed = False
    except Killed:
        killed = True
    assert killed == (number < 7)  # three side files twice, and the network
    sha256 = new if out.read_text() == "new" else old
    assert (sha256 == new) == (number > 3)
    assert json.loads(find_report(out, sha256).read_text()) == {"sha256": sha256}
    settle_side_files(out)
    assert sorted(path.name for path in out.parent.iterdir()) == sorted(["m.onnx", *(f"m.onnx{s}" for s in SIDES)])
    assert {Path(f"{out}{suffix}").read_text() for suffix in SIDES} == {json.dumps({"sha256": sha256})}


def test_without_a_network_nothing_is_left_of_a_first_calibration(tmp_path: Path) -> None:
    (tmp_path / f".m.onnx.{'0' * 16}.png").touch()
    (tmp_path / ".m.onnx.other").touch()
    settle_side_files(tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == [".m.onnx.other"]
