"""`afsd evaluate` of an engine: what detection alone would give, judged by the same rule."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.cli import main
from runtime.detector import Detector
from runtime.engines.artifact import read_artifact
from runtime.results.detections import Detections
from runtime.spec.model_card import OperatingPoint
from tests.tiny import tiny_spec, write_tiny_onnx


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos under videos/, their annotations, and the tiny network."""
    folder = tmp_path_factory.mktemp("set")
    (folder / "videos").mkdir()
    rng = np.random.default_rng(0)
    database = {}
    for name in ("first", "second"):
        writer = cv2.VideoWriter(
            str(folder / "videos" / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (32, 24)
        )
        for level in np.repeat(rng.integers(0, 256, 40), 3):
            writer.write(np.full((24, 32, 3), level, np.uint8))
        writer.release()
        database[name] = {"subset": "test", "annotations": [{"label": "jump", "segment": [0.5, 2.0]}]}
    (folder / "truth.json").write_text(json.dumps({"database": database}))
    write_tiny_onnx(folder / "tiny.onnx", None)
    return folder


def test_an_engine_is_judged_like_the_file_of_its_detections(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, saved = str(folder / "truth.json"), folder / "found.json"
    assert main(["evaluate", str(folder / "tiny.onnx"), truth, "--save", str(saved), "--json"]) == 0
    by_engine = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(saved), truth, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == by_engine
    assert set(json.loads(saved.read_text())["results"]) == {"first", "second"}


def test_files_of_others_are_not_written_over(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, picture = tmp_path / "truth.json", tmp_path / "mine.png"
    truth.write_bytes((folder / "truth.json").read_bytes())
    picture.write_bytes(b"my own")
    command = ["evaluate", str(folder / "tiny.onnx"), str(truth), "--videos", str(folder / "videos")]
    for flags in (["--save", str(truth)], ["--false-positives", "--plot", str(picture)]):
        assert main([*command, *flags]) == 2
        assert "is there already and no result of afsd, so it is not written over" in capsys.readouterr().err
    assert truth.read_bytes() == (folder / "truth.json").read_bytes()
    assert picture.read_bytes() == b"my own"
    for _ in range(2):
        assert main([*command, "--save", str(tmp_path / "found.json")]) == 0
    assert main([*command, "--false-positives", "--plot", str(picture), "--overwrite"]) == 0
    assert main([*command, "--false-positives", "--plot", str(picture)]) == 0


def test_a_result_that_cannot_be_saved_is_shown(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(path: Path, _: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    command = ["evaluate", str(folder / "tiny.onnx"), str(folder / "truth.json")]
    assert main(command) == 0
    table = capsys.readouterr().out
    monkeypatch.setattr("runtime.commands.evaluate.write_results", fill_the_disk)
    assert main([*command, "--save", str(tmp_path / "found.json")]) == 2
    assert capsys.readouterr() == (
        table,
        f"afsd: error: {tmp_path}/found.json: No space left on device; make room there, or choose another place\n",
    )
    assert main([*command, "--save", str(folder / "truth.json" / "found.json")]) == 2
    assert "got a file where a folder is needed for the results" in capsys.readouterr().err


def test_videos_that_were_finished_at_a_signal_are_judged_and_saved(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, saved = Detector.run, tmp_path / "found.json"

    def interrupt(detector: Detector, source: Path) -> Detections:
        if source.stem == "second":
            raise KeyboardInterrupt
        return run(detector, source)

    monkeypatch.setattr(Detector, "run", interrupt)
    command = ["evaluate", str(folder / "tiny.onnx"), str(folder / "truth.json"), "--save", str(saved), "--json"]
    assert main(command) == 130
    out, err = capsys.readouterr()
    assert err == "afsd: warning: ended after 1 of 2 videos; the result is that of these\nafsd: interrupted\n"
    assert set(json.loads(saved.read_text())["results"]) == {"first"}
    document = json.loads((folder / "truth.json").read_text())
    del document["database"]["second"]
    (tmp_path / "first.json").write_text(json.dumps(document))
    assert main(["evaluate", str(saved), str(tmp_path / "first.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out)


def test_the_only_subset_is_taken(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"subset": "testing", "annotations": [{"label": "jump", "segment": [0.5, 2.0]}]}
    (tmp_path / "one.json").write_text(json.dumps({"database": {"first": entry}}))
    (tmp_path / "two.json").write_text(json.dumps({"database": {"first": entry, "b": {**entry, "subset": "x"}}}))
    found = tmp_path / "found.json"
    found.write_text(json.dumps({"results": {"first": [{"label": "jump", "score": 0.9, "segment": [0.5, 2.0]}]}}))
    assert main(["evaluate", str(found), str(tmp_path / "one.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["average_mAP"] == 1.0
    assert main(["evaluate", str(found), str(tmp_path / "two.json")]) == 2
    assert "no video of subset 'test'; the file has 'testing', 'x'" in capsys.readouterr().err


def test_packed_files_are_judged_like_plain_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {
        "truth.json": json.dumps(
            {"database": {"v": {"subset": "test", "annotations": [{"label": "Diving", "segment": [0.5, 2.0]}]}}}
        ),
        "truth.csv": "video,type,start,end\r\nv,Diving,0.5,2.0\r\n",
        "found.json": json.dumps({"results": {"v": [{"label": "Diving", "score": 0.9, "segment": [0.6, 2.0]}]}}),
        "found.txt": "v.mp4 0.6 2.0 26 0.9\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, newline="")
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    judged = {}
    for found in ("found.json", "found.txt", "found.json.gz", "found.txt.gz"):
        for truth in ("truth.json", "truth.csv", "truth.json.gz", "truth.csv.gz"):
            assert main(["evaluate", str(tmp_path / found), str(tmp_path / truth), "--json"]) == 0
            judged[found, truth] = json.loads(capsys.readouterr().out)["average_mAP"]
    assert set(judged.values()) == {1.0}
    (tmp_path / "found.txt.gz").write_bytes((tmp_path / "found.txt.gz").read_bytes()[:15])
    assert main(["evaluate", str(tmp_path / "found.txt.gz"), str(tmp_path / "truth.json")]) == 2
    assert "found.txt.gz: cannot be read as text" in capsys.readouterr().err


def test_the_test_videos_of_a_fold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"annotations": [{"label": "jump", "segment": [0.5, 2.0]}]}
    splits = {"1": {"train": ["a"], "test": ["b"]}, "2": {"train": ["b"], "test": ["a"]}}
    splits |= {"3": {"train": ["a"], "test": []}, "4": {"train": [], "test": ["a", "c"]}}
    path, found = tmp_path / "truth.json", tmp_path / "found.json"
    path.write_text(json.dumps({"database": {"a": entry, "b": entry}, "splits": splits}))
    found.write_text(json.dumps({"results": {"a": [{"label": "jump", "score": 0.9, "segment": [0.5, 2.0]}]}}))
    for flags, expected in ((["--fold", "2"], 1.0), ([], 0.5)):
        assert main(["evaluate", str(found), str(path), *flags, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["average_mAP"] == pytest.approx(expected)
    for flags, message in (
        (["--fold", "9"], "no fold '9'; the file has 1, 2, 3, 4"),
        (["--fold", "3"], "fold 3 tests nothing"),
        (["--fold", "4"], "fold 4 tests c, expected annotated videos"),
        (["--fold", "1", "--subset", "test"], "leave one out"),
        (["--fold", "1"], f"expected any of the 1 judged by fold 1 of {path}, such as 'b'; give both the same names"),
    ):
        assert main(["evaluate", str(found), str(path), *flags]) == 2
        assert message in capsys.readouterr().err
    path.write_text(json.dumps({"database": {"a": entry}, "splits": {"1": {"train": ["a"]}}}))
    assert main(["evaluate", str(found), str(path), "--fold", "1"]) == 2
    assert 'splits: 1: expected {"train"' in capsys.readouterr().err


def test_a_missing_video_is_named_before_any_is_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = folder / "empty"
    empty.mkdir()
    assert main(["evaluate", str(folder / "tiny.onnx"), str(folder / "truth.json"), "--videos", str(empty)]) == 2
    error = capsys.readouterr().err
    assert "first" in error
    assert error.count("\n") == 1


def test_another_frame_rate_than_the_files_is_one_warning(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"annotations": [{"label": "jump", "segment": [0.5, 2.0]}]}
    truth = tmp_path / "truth.json"
    arguments = ["evaluate", str(folder / "tiny.onnx"), str(truth), "--videos", str(folder / "videos"), "--json"]
    for first, second in ((None, None), (30, 29.97), (25, 30), (24, 60)):
        rates = {"first": first, "second": second}
        database = {name: {**entry, **({"fps": fps} if fps else {})} for name, fps in rates.items()}
        truth.write_text(json.dumps({"database": database}))
        assert main(arguments) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if "rate" in line]
        wrong = sum(fps in (24, 25, 60) for fps in (first, second))
        assert len(lines) == min(wrong, 1)
        if wrong:
            assert f"{wrong} of 2 videos have another frame rate than their annotations say" in lines[0]
            assert f"first is annotated with {first} fps and its file has 30;" in lines[0]


def test_the_best_score_is_printed_and_written_into_the_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, truth = tmp_path / "m.onnx", str(folder / "truth.json")
    model.write_bytes((folder / "tiny.onnx").read_bytes())
    command = ["evaluate", str(model), truth, "--threshold-tiou", "0.3"]
    assert main([*command, "--threshold", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    best = printed["threshold"]["best"]
    assert best == printed["threshold"]["chosen"]
    assert read_artifact(model).spec.operating_point is None  # nothing was asked to be written
    assert main([*command, "--write-threshold", str(model), "--json"]) == 0
    capsys.readouterr()
    spec = read_artifact(model).spec
    assert spec.operating_point == OperatingPoint(
        best["threshold"], 0.3, best["precision"], best["recall"], 2, judged_on="truth.json"
    )
    assert spec.card.average_map == round(printed["average_mAP"], 4)
    assert main([*command, "--threshold", "0.2", "--write-threshold", str(model)]) == 0
    assert "from score 0.2 on, right from tIoU 0.3 on" in capsys.readouterr().out
    point = read_artifact(model).spec.operating_point
    assert point is not None
    assert point.threshold == 0.2
    assert main(["detect", str(model), str(folder / "videos" / "first.avi")]) == 0
    assert "of score 0.2 or more (the model's own threshold)" in capsys.readouterr().out


def test_a_threshold_that_nothing_speaks_for_is_not_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes((folder / "tiny.onnx").read_bytes())
    command = ["evaluate", str(model), str(folder / "truth.json"), "--threshold", "0.999"]
    assert main([*command, "--write-threshold", str(model)]) == 2
    said = capsys.readouterr()
    assert "mAP % at tIoU" in said.out  # the result is shown all the same
    assert "no detection from score 0.999 on is right" in said.err
    assert model.read_bytes() == (folder / "tiny.onnx").read_bytes()
    assert main([*command, "--write-threshold", str(tmp_path / "none.onnx")]) == 2
    assert "none.onnx: file not found; expected a model" in capsys.readouterr().err


def test_a_threshold_is_not_written_into_a_model_that_it_was_not_measured_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, saved = str(folder / "truth.json"), tmp_path / "found.json"
    other = write_tiny_onnx(tmp_path / "other.onnx", tiny_spec(classes=("dive", "run")))
    content = other.read_bytes()
    assert main(["evaluate", str(folder / "tiny.onnx"), truth, "--save", str(saved)]) == 0
    assert main(["evaluate", str(saved), truth, "--threshold-tiou", "0.3", "--write-threshold", str(other)]) == 2
    assert "the model has none of the judged classes" in capsys.readouterr().err
    assert other.read_bytes() == content
    for name in ("junk.onnx", "m.json"):
        (tmp_path / name).write_text("junk")
        command = ["evaluate", str(folder / "tiny.onnx"), truth, "--write-threshold", str(tmp_path / name)]
        assert main(command) == 2
        assert capsys.readouterr().out == ""  # nothing was judged


def test_detections_that_were_cut_at_a_score_are_said_to_be(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes((folder / "tiny.onnx").read_bytes())
    videos = [str(folder / "videos" / f"{name}.avi") for name in ("first", "second")]
    assert main(["detect", str(model), *videos, "--json", "--score", "0.3"]) == 0
    (tmp_path / "cut.json").write_text(capsys.readouterr().out)
    command = ["evaluate", str(tmp_path / "cut.json"), str(folder / "truth.json")]
    assert main(command) == 0
    assert "the detections are those of score 0.3 or more" in capsys.readouterr().err
    assert main([*command, "--write-threshold", str(model)]) == 2
    assert "so neither threshold nor mAP of the model follow from them" in capsys.readouterr().err
    assert main(["detect", str(model), *videos, "--json", "--score", "0"]) == 0
    (tmp_path / "all.json").write_text(capsys.readouterr().out)
    assert main(["evaluate", str(tmp_path / "all.json"), str(folder / "truth.json")]) == 0
    assert capsys.readouterr().err == ""


def test_missing_videos_are_said_once_with_what_to_do(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(folder / "tiny.onnx"), str(folder / "truth.json"), "--videos", str(tmp_path)]
    assert main([*command, "--format", "html", "--out", str(tmp_path / "report")]) == 2
    assert capsys.readouterr().err == (
        f"afsd: error: {tmp_path}/first: video not found; expected first.mp4 or another video file of that name; "
        "2 of 2 videos are missing; --videos DIR says where they are, --subset which are judged\n"
    )


def test_flags_of_another_kind_of_model_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(folder / "tiny.onnx"), str(folder / "truth.json")]
    assert main([*command, "--flow-method", "dis"]) == 2
    assert "--flow-method does nothing here: " in capsys.readouterr().err
    assert main([*command, "--features", "f", "--reader", "opencv"]) == 2
    assert "--reader does nothing here: no video is read with --features" in capsys.readouterr().err
