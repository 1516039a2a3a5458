"""Flags that do nothing as a command is given: said in one line with exit status 2, by every verb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.cli import main

FOUND = {"results": {"v": [{"label": "jump", "score": 0.9, "segment": [0.0, 1.0]}]}}
TRUTH = {"database": {"v": {"annotations": [{"label": "jump", "segment": [0.0, 1.0]}]}}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("found.json").write_text(json.dumps(FOUND))
    Path("truth.json").write_text(json.dumps(TRUTH))
    Path("marks.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\njump\n")
    return tmp_path


EVALUATE = "evaluate found.json truth.json "
ALONE = {
    EVALUATE + "--threshold-tiou 0.6": "--threshold-tiou does nothing without --threshold or --write-threshold",
    EVALUATE + "--duration-edges 1,2": "--duration-edges does nothing without --durations or --format html",
    EVALUATE + "--proposal-rule thumos14": "--proposal-rule does nothing without --proposals",
    EVALUATE + "--false-positive-tiou 0.6": "--false-positive-tiou does nothing without --false-positives",
    EVALUATE + "--plot a.png": "--plot does nothing without --false-positives",
    EVALUATE + "--embed": "--embed does nothing without --format html",
    EVALUATE + "--out there": "--out does nothing without --format html",
    EVALUATE + "--feature-fold 1": "--feature-fold does nothing without --features",
    EVALUATE + "--labels-per-video 2": "--labels-per-video does nothing without --video-scores",
    EVALUATE + "--save a.json": "--save does nothing here: found.json holds detections",
    EVALUATE + "--features f": "--features does nothing here: found.json holds detections",
    EVALUATE + "--nms reference": "--nms does nothing here: found.json holds detections",
    EVALUATE + "--timing counted": "--timing does nothing here: found.json holds detections",
    EVALUATE + "--fps 25": "--fps is of times that are frames, and those of truth.json are seconds",
    "evaluate found.json marks.srt --subset val": "--subset does nothing here: marks.srt has no subsets",
    EVALUATE + "--fps 25 --fold 1": "--fps does nothing here: annotations with folds have seconds",
    "convert found.json out.srt --unit frames": "--unit is the unit of a table, and neither ActivityNet JSON nor Sub",
    "convert found.json out.csv --unit-in frames": "--unit-in is the unit of a table, and ActivityNet JSON is none",
    "convert found.json out.srt --media /data/": "--media: SubRip names no files of videos, as label-studio",
    "convert marks.srt out.json --score 0.5": "--score: no segment of marks.srt has a score",
    "features v.mp4 --out f --backbone b.xml --flow-method dis": "--flow-method does nothing without --flow-backbone",
    "benchmark m.onnx --video-runs 5": "--video-runs does nothing without --video",
    "calibrate m.onnx --videos v --percentile 99": "--percentile does nothing without --method percentile",
    "calibrate m.onnx --table t --clips 9": "--clips does nothing without --videos or --features",
    "calibrate m.onnx --videos v --subset val": "--subset does nothing without --annotations",
    "calibrate m.onnx --videos v --by restored": "--by does nothing without --max-drop or --trade-off",
    "calibrate m.onnx --videos v --steps 9": "--steps does nothing without --fine-tune",
    "prepare own data --flow-method dis": "--flow-method does nothing without --streams flow",
    "prepare own data --fps 5 --whole-video 9": "--fps does nothing here: --whole-video samples",
    "paper-tables modules --out t --runs 9": "--runs does nothing here: it is of the table speed",
    "paper-tables modules --out t --row a b": "--row does nothing here: it is of the table rows or speed",
}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("command", ALONE)
def test_a_flag_that_does_nothing_is_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().iterdir())
    assert main(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"afsd: error: {ALONE[command]}")
    assert err.count("\n") == 1
    assert sorted(Path().iterdir()) == before


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "flags",
    [
        "--threshold --threshold-tiou 0.6",
        "--threshold-tiou 0.5",  # the default, given in words
        "--durations --duration-edges 1,2",
        "--false-positives --false-positive-tiou 0.6 --plot errors.png",
        "--format html --out report --duration-edges 1,2 --false-positive-tiou 0.6",
        "--proposals --proposal-rule thumos14",
    ],
)
def test_beside_what_it_needs_it_is_taken(flags: str) -> None:
    assert main((EVALUATE + flags).split()) == 0


@pytest.mark.usefixtures("place")
def test_flags_of_tables_and_media_are_taken_where_there_are_some() -> None:
    assert main(["convert", "found.json", "marks.csv", "--unit", "frames", "--fps", "25"]) == 0
    assert main(["convert", "marks.csv", "back.json", "--unit-in", "frames", "--fps", "25"]) == 0
    assert main(["convert", "marks.csv", "back.srt", "--unit", "frames", "--fps", "25"]) == 0
    assert (
        main(["convert", "found.json", "tasks.json", "--to", "label-studio", "--fps", "25", "--media", "/data/"]) == 0
    )
    assert json.loads(Path("tasks.json").read_text())[0]["data"]["video"] == "/data/v.mp4"
