"""What `afsd evaluate` writes into a model is the model's own, measured on all videos that it has not seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.cli import main
from runtime.commands.evaluation.threshold import selection_of
from runtime.detector import Detector
from runtime.engines.artifact import read_artifact
from runtime.results.detections import Detections, load_detections
from runtime.results.facts import VideoFacts, selection_facts
from runtime.spec.model import Quantization
from runtime.spec.training_videos import TrainingVideos
from runtime.video.names import video_digest
from tests.tiny import tiny_spec, write_tiny_onnx

NAMES = ("first", "second", "third")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three videos under videos/, their annotations, and the tiny network."""
    (tmp_path / "videos").mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = str(tmp_path / "videos" / f"{name}.avi")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (32, 24))
        for level in np.repeat(rng.integers(0, 256, 40), 3):
            writer.write(np.full((24, 32, 3), level, np.uint8))
        writer.release()
    entry = {"subset": "test", "annotations": [{"label": "jump", "segment": [0.5, 2.0]}]}
    (tmp_path / "truth.json").write_text(json.dumps({"database": dict.fromkeys(NAMES, entry)}))
    write_tiny_onnx(tmp_path / "m.onnx", None)
    return tmp_path


def judge(folder: Path, *flags: str, what: str = "m.onnx") -> int:
    loose = ("--threshold-tiou", "0.3") if {"--threshold", "--write-threshold"} & {*flags} else ()
    return main(["evaluate", str(folder / what), str(folder / "truth.json"), *loose, *flags])


def test_nothing_is_written_of_a_part_of_the_videos(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, run = folder / "m.onnx", Detector.run
    before, write = model.read_bytes(), ("--write-threshold", str(model))
    (folder / "videos" / "third.avi").write_bytes(b"junk")
    assert judge(folder, *write) == 2
    said = capsys.readouterr()
    assert "mAP % at tIoU" in said.out
    assert "nothing is written, since 1 of 3 videos could not be read" in said.err
    assert judge(folder, "--save", str(folder / "two.json")) == 2
    assert judge(folder, *write, what="two.json") == 2  # nor by way of the file
    assert "nothing is written, since 1 of the 3 videos have no entry among the detections (third)" in (
        capsys.readouterr().err
    )

    def interrupt(detector: Detector, source: Path) -> Detections:
        if source.stem == "second":
            raise KeyboardInterrupt
        return run(detector, source)

    monkeypatch.setattr(Detector, "run", interrupt)
    assert judge(folder, *write) == 130
    assert "nothing is written, since it ended after 1 of 3 videos" in capsys.readouterr().err
    assert model.read_bytes() == before


@pytest.mark.parametrize(
    ("facts", "flags"),
    [
        (VideoFacts(), ""),
        (VideoFacts(**selection_facts()), ""),
        (VideoFacts(**selection_facts("all", None, 0.9)), "--exclusive all, --min-length 0.9"),
        (VideoFacts(**selection_facts("none", 0.0)), "--merge-gap 0.0"),
    ],
)
def test_nothing_is_written_of_detections_that_were_thinned(
    facts: VideoFacts, flags: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        replace(Detections(np.array([[0.5, 2.0]]), np.zeros(1, np.int32), np.ones(1), ("jump",), name), facts=facts)
        for name in NAMES
    ]
    assert selection_of(found) == flags
    monkeypatch.setattr("runtime.commands.evaluate._read_detections", lambda *_: found)
    assert judge(folder, "--write-threshold", str(folder / "m.onnx"), what="found.json") == (2 if flags else 0)
    error = capsys.readouterr().err
    assert (f"the detections were selected by {flags}, so neither" in error) == bool(flags)
    assert (f"warning: the detections were selected by {flags}" in error) == bool(flags)
    assert (read_artifact(folder / "m.onnx").spec.operating_point is None) == bool(flags)


def test_scores_of_a_pair_or_of_another_model_too_are_no_threshold_of_the_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow, model = write_tiny_onnx(folder / "flow.onnx", tiny_spec("flow")), folder / "m.onnx"
    before, write = model.read_bytes(), ("--write-threshold", str(model))
    pair = ("--flow-engine", str(flow), "--flow-method", "dis")
    assert judge(folder, *pair, *write) == 2
    said = capsys.readouterr()
    assert said.out == ""  # before any work
    assert f"the scores are those of the pair with {flow}, and no file holds the pair" in said.err
    assert judge(folder, *pair, "--save", str(folder / "pair.json")) == 0
    assert {part.facts and part.facts.model for part in load_detections(folder / "pair.json")} == {
        f"{model} + flow.onnx"
    }
    assert judge(folder, *write, what="pair.json") == 2
    assert f"the detections are those of the pair {model} + flow.onnx" in capsys.readouterr().err
    videos = [str(folder / "videos" / f"{name}.avi") for name in NAMES]
    capsys.readouterr()
    assert main(["detect", str(model), *videos, *pair, "--json", "--score", "0"]) == 0
    (folder / "detected.json").write_text(capsys.readouterr().out)
    assert judge(folder, *write, what="detected.json") == 2
    assert f"the detections are those of the pair {model} + flow.onnx" in capsys.readouterr().err
    (folder / "scores.json").write_text("{}")
    assert judge(folder, "--video-scores", str(folder / "scores.json"), *write) == 2
    assert "so no threshold of the model; print the score with --threshold" in capsys.readouterr().err
    assert model.read_bytes() == before
    alone = write_tiny_onnx(folder / "action.onnx", tiny_spec(classes=("action",)))
    assert judge(folder, "--save", str(folder / "named.json")) == 0
    assert judge(folder, "--write-threshold", str(alone), what="named.json") == 2
    assert "the model knows 'action' alone" in capsys.readouterr().err


def test_a_file_of_detections_of_training_videos_is_said_to_be_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = {name: video_digest(folder / "videos" / f"{name}.avi") for name in NAMES}
    record = TrainingVideos({"other name": digests["first"], "second": digests["second"]}, 2)
    quantised = Quantization("openvino", "minmax", videos={"there": digests["third"]})
    model = write_tiny_onnx(folder / "seen.onnx", tiny_spec(training_videos=record, quantization=quantised))
    assert judge(folder, "--save", str(folder / "found.json"), "--force", what="seen.onnx") == 0
    capsys.readouterr()
    trained = "the model was trained on 2 of the 3 judged videos (first, second), so the result is far too good"
    calibrated = "the model was calibrated on 1 of the 3 judged videos (third)"
    assert judge(folder, what="found.json") == 0
    error = capsys.readouterr().err
    assert trained in error
    assert calibrated in error
    assert judge(folder, "--write-threshold", str(model), what="found.json") == 0
    assert capsys.readouterr().err.count(trained) == 1
    document = json.loads((folder / "found.json").read_text())
    (folder / "bare.json").write_text(json.dumps({"results": document["results"]}))
    assert judge(folder, what="bare.json") == 0
    assert capsys.readouterr().err == ""  # nobody says whose detections they are
    (folder / "videos").rename(folder / "elsewhere")
    assert judge(folder, "--write-threshold", str(model), what="bare.json") == 0
    assert "trained on 1 of the 3 judged videos (second)" in capsys.readouterr().err  # by the name alone


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--threshold --threshold-tiou 5", "--threshold-tiou: got 5.0, expected above 0, up to 1"),
        ("--threshold -1", "--threshold: got -1.0, expected 0 … 1"),
        ("--threshold nan", "--threshold: got nan"),
        ("--tiou 0.5,2", "--tiou: got 2.0"),
        ("--tiou 0:0.1:0.5", "--tiou: got 0.0"),
        ("--false-positives --false-positive-tiou 0.05", "--false-positive-tiou: got 0.05, expected above 0.1"),
        ("--durations --duration-edges 3,1", "--duration-edges: got '3,1', expected rising seconds"),
        ("--durations --duration-edges 0,1", "--duration-edges: got 0.0"),
        ("--format html --out R --threshold --false-positive-tiou 0.6", "a report judges at one tIoU"),
    ],
)
def test_numbers_are_checked_before_the_videos_are_run(
    flags: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        pytest.fail("a video was run")

    monkeypatch.setattr(Detector, "run", fail)
    words = [str(folder / "report") if word == "R" else word for word in flags.split()]
    assert main(["evaluate", str(folder / "m.onnx"), str(folder / "truth.json"), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_report_of_a_file_gives_classes_the_colours_that_one_of_the_model_gives(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model's classes are throw and jump, in this order, which is neither that of the names nor of the scores."""
    write_tiny_onnx(folder / "other.onnx", tiny_spec(classes=("throw", "jump")))
    report = ("--format", "html", "--out")
    flags = ("--save", str(folder / "found.json"), *report, str(folder / "a"))
    assert judge(folder, *flags, what="other.onnx") == 0
    assert judge(folder, *report, str(folder / "b"), what="found.json") == 0
    pages = [(folder / name / "first.html").read_text() for name in "ab"]
    rows = [page[page.index('"rows":') : page.index('"detections":')] for page in pages]
    assert rows[0] == rows[1]
    assert rows[0].startswith('"rows":[{"name":"throw","colour":"#0072b2"')


def test_a_report_begins_at_the_score_of_the_tiou_at_which_it_judges(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page counts the hits that the printed table has."""
    out = folder / "report"
    assert judge(folder, "--threshold", "--json", "--format", "html", "--out", str(out)) == 0
    chosen = json.loads(capsys.readouterr().out)["threshold"]["chosen"]
    page = (out / "index.html").read_text()
    start = page.index('"tiou":')
    assert page[start : start + 10].startswith('"tiou":0.3')
    assert f'"threshold":{chosen["threshold"]}' in page
