"""`afsd detect` with a flow engine, and with video-level scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from runtime import cli
from runtime.commands import detect
from runtime.detector import Detector, DetectorOptions
from runtime.results.detections import Detections, load_detections
from runtime.results.video_scores import load_video_scores
from runtime.spec.model import ModelSpec
from runtime.spec.model_card import ModelCard, OperatingPoint
from tests.tiny import ProposalEngine, tiny_spec, write_tiny_onnx


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """A video v_abc.avi of 80 frames at 25 fps."""
    path = str(tmp_path / "v_abc.avi")
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"FFV1"), 25.0, (32, 24))
    for level in rng.integers(0, 200, 80):
        writer.write(rng.integers(0, 55, (24, 32, 3), np.uint8) + np.uint8(level))
    writer.release()
    return path


@pytest.fixture
def scores(tmp_path: Path) -> str:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"results": {"abc": [0.5, 0.1, 0.4]}, "class": ["Archery", "Ballet", "Bowling"]}))
    return str(path)


@pytest.fixture
def proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever engine is named, a class-agnostic one opens."""
    cli.make_parser()  # imports all verbs: one that was imported meanwhile would keep this engine
    monkeypatch.setattr(detect, "open_with", lambda path, arguments: ProposalEngine())


def results(capsys: pytest.CaptureFixture[str], video: str) -> list[tuple[str, float]]:
    entries = json.loads(capsys.readouterr().out)["results"][video]
    return sorted((entry["label"], entry["score"]) for entry in entries)


def test_two_engines(tmp_path: Path, clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    rgb = str(write_tiny_onnx(tmp_path / "rgb.onnx", None))
    flow = str(write_tiny_onnx(tmp_path / "flow.onnx", tiny_spec("flow")))
    options = DetectorOptions(min_score=0.1, flow_method="dis")
    with Detector(rgb, flow_engine=flow, options=options) as detector:
        found = detector.run(clip)
    assert (
        cli.main(["detect", rgb, clip, "--flow-engine", flow, "--flow-method", "dis", "--json", "--score", "0.1"]) == 0
    )
    assert [score for _, score in results(capsys, "v_abc")] == pytest.approx(
        [one.score for one in sorted(found, key=lambda one: (one.label, one.score))]
    )
    assert cli.main(["detect", flow, clip]) == 0  # the flow model alone
    assert "flow" in capsys.readouterr().out.splitlines()[0]
    assert cli.main(["detect", flow, clip, "--flow-engine", rgb]) == 2
    assert "expected one on rgb, then one on flow" in capsys.readouterr().err


@pytest.mark.usefixtures("proposals")
@pytest.mark.parametrize("labels", [1, 2])
def test_video_scores(clip: str, scores: str, labels: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = load_video_scores(scores).label(Detector(ProposalEngine()).run(clip), labels)
    want = sorted((one.label, one.score) for one in found if one.score >= 0.15)
    assert 0 < len(want) < len(found)
    command = ["detect", "MODEL", clip, "--video-scores", scores, "--labels-per-video", str(labels), "--score", "0.15"]
    assert cli.main([*command, "--json"]) == 0
    shown = results(capsys, "abc")
    assert [label for label, _ in shown] == [label for label, _ in want]
    assert [score for _, score in shown] == pytest.approx([score for _, score in want])
    assert cli.main([*command, "--stream", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(want)


@pytest.mark.usefixtures("proposals")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("abc", "xyz"), "none for the video 'v_abc'"),
        (lambda text: text.replace("0.5", "NaN"), "the score nan for class 0"),
        (lambda text: "", "not JSON"),
    ],
)
def test_bad_scores_are_one_line(
    clip: str, scores: str, change: Callable[[str], str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(scores).write_text(change(Path(scores).read_text()))
    assert cli.main(["detect", "MODEL", clip, "--video-scores", scores]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_scores_for_a_model_with_classes(
    tmp_path: Path, clip: str, scores: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rgb = str(write_tiny_onnx(tmp_path / "rgb.onnx", None))
    assert cli.main(["detect", rgb, clip, "--video-scores", scores]) == 2
    assert "the model distinguishes 2 classes itself" in capsys.readouterr().err


def test_a_name_that_is_too_long_for_a_result_does_not_end_the_batch(
    tmp_path: Path, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The video's own name fits, with .json in place of .avi it is one byte too long."""
    rgb = str(write_tiny_onnx(tmp_path / "rgb.onnx", None))
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("動" * 83 + "ab", "動" * 83, "zz"):
        (videos / f"{name}.avi").write_bytes(Path(clip).read_bytes())
    (tmp_path / "out").mkdir()
    assert cli.main(["detect", rgb, str(videos), "--out", str(tmp_path / "out")]) == 2
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*.json")) == ["zz.json", "動" * 83 + ".json"]
    out, err = capsys.readouterr()
    assert out.count("detections of score") == 3  # shown, though one could not be written
    line, _, summary = err.splitlines()
    assert "File name too long" in line
    assert summary == f"afsd: 1 of 3 videos failed: {'動' * 83}ab"


def test_the_place_of_the_results_is_looked_at_first(
    tmp_path: Path, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["detect", "none.onnx", clip, "--out", clip]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("got a file where a folder is needed for the results; choose another with --out")


def test_json_of_the_videos_that_were_finished_at_a_signal(
    tmp_path: Path, clip: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, rgb = Detector.run, str(write_tiny_onnx(tmp_path / "rgb.onnx", None))

    def interrupt(detector: Detector, source: str, **options: Any) -> Detections:
        if source == "second.avi":
            raise KeyboardInterrupt
        return run(detector, source, **options)

    assert cli.main(["detect", rgb, clip, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(Detector, "run", interrupt)
    assert cli.main(["detect", rgb, clip, "second.avi", "--json"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out) == whole
    assert err == "afsd: interrupted\n"


def test_files_of_others_are_not_written_over(
    tmp_path: Path, clip: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before the first video is read; a result may be written anew, and --overwrite takes what is asked."""
    rgb = str(write_tiny_onnx(tmp_path / "rgb.onnx", None))
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("first", "movie"):
        (videos / f"{name}.avi").write_bytes(Path(clip).read_bytes())
    own = {"movie.srt": "my own subtitles", "movie.json": '{"database": {}}', "movie.png": "no picture"}
    for name, content in own.items():
        (videos / name).write_text(content)
    monkeypatch.chdir(videos)
    for flags in (["--srt"], ["--out", "."], ["--plot", "--csv"]):
        assert cli.main(["detect", rgb, ".", *flags]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert "is there already and no result of afsd, so it is not written over; choose another place" in line
        assert sorted(path.name for path in videos.iterdir()) == sorted([*own, "first.avi", "movie.avi"])
    assert cli.main(["detect", rgb, "first.avi", "--format", "srt", "json", "png", "csv", "vtt"]) == 0
    assert cli.main(["detect", rgb, "first.avi", "--format", "srt", "json", "png", "csv", "vtt", "--score", "0.5"]) == 0
    assert {name: (videos / name).read_text() for name in own} == own
    capsys.readouterr()
    assert cli.main(["detect", rgb, ".", "--srt", "--overwrite"]) == 0
    assert "my own" not in (videos / "movie.srt").read_text()


def test_two_videos_of_one_name_are_checked_under_the_names_of_their_results(
    tmp_path: Path, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rgb = str(write_tiny_onnx(tmp_path / "rgb.onnx", None))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "v_abc.avi").write_bytes(Path(clip).read_bytes())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "v_abc-2.json").write_text("my own")
    videos = [clip, str(tmp_path / "more" / "v_abc.avi")]
    assert cli.main(["detect", rgb, *videos, "--out", str(tmp_path / "out")]) == 2
    assert "v_abc-2.json: is there already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["v_abc-2.json"]


def written(tmp_path: Path, spec: ModelSpec) -> str:
    return str(write_tiny_onnx(tmp_path / "m.onnx", spec))


@pytest.mark.parametrize(
    ("point", "flags", "score", "origin"),
    [
        (None, [], 0.5, " (the default; the model carries no threshold, see docs/scores.md)"),
        (OperatingPoint(0.31, 0.5, 0.9, 0.8, 10), [], 0.31, " (the model's own threshold)"),
        (OperatingPoint(0.31, 0.5, 0.9, 0.8, 10), ["--score", "0.2"], 0.2, ""),
    ],
)
def test_what_reaches_the_models_threshold_is_shown(
    tmp_path: Path,
    clip: str,
    point: OperatingPoint | None,
    flags: list[str],
    score: float,
    origin: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = written(tmp_path, tiny_spec(operating_point=point))
    everything = Detector(model).run(clip)
    assert cli.main(["detect", model, clip, "--out", str(tmp_path / "out"), *flags]) == 0
    said = capsys.readouterr()
    assert f" of score {score:g} or more{origin}; " in said.out
    assert said.err == ""
    document = json.loads((tmp_path / "out" / "v_abc.json").read_text())
    shown = [entry["score"] for entry in document["results"]["v_abc"]]
    assert sorted(shown) == sorted(everything.above(score).scores.tolist())
    assert 0 < len(shown) < len(everything)
    facts = document["external_data"]["v_abc"]
    assert (facts["threshold"], facts["path"], facts["model"], facts["fps"]) == (score, clip, model, 25.0)
    assert facts["duration_s"] == pytest.approx(80 / 25)
    (found,) = load_detections(tmp_path / "out" / "v_abc.json")
    assert found.facts is not None
    assert found.facts.threshold == score


def test_a_demonstration_model_says_what_it_knows(
    tmp_path: Path, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = written(
        tmp_path, tiny_spec(card=ModelCard(demonstration="two toy motions", data="toys", licence="CC0-1.0"))
    )
    assert cli.main(["detect", model, clip]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"afsd: {model} is a demonstration model: it knows two toy motions and nothing else"
    assert cli.main(["info", model]) == 0
    rows = {line.split()[0]: line.split(None, 1)[1] for line in capsys.readouterr().out.splitlines()}
    assert (rows["data"], rows["licence"], rows["demonstration"]) == (
        "toys", "CC0-1.0", "knows two toy motions and nothing else",
    )  # fmt: skip


def test_selection_on_the_command_line(tmp_path: Path, clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = written(tmp_path, tiny_spec())
    found = Detector(model, options=DetectorOptions(min_score=0.1)).run(clip)
    expected = found.select(exclusive="all", merge_gap=0.2, min_length=0.3)
    flags = ["--score", "0.1", "--exclusive", "all", "--merge-gap", "0.2", "--min-length", "0.3", "--json"]
    assert cli.main(["detect", model, clip, *flags]) == 0
    assert [score for _, score in results(capsys, "v_abc")] == [s for _, s, *_ in sorted(expected)]
    assert 0 < len(expected) < len(found)
    assert cli.main(["detect", model, clip, "--merge-gap", "-1"]) == 2
    assert "--merge-gap: got -1" in capsys.readouterr().err


def test_videos_called_as_the_shared_files_keep_their_names(
    tmp_path: Path, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = written(tmp_path, tiny_spec()), tmp_path / "out"
    for name in ("all", "index", "a\tb"):
        (tmp_path / f"{name}.avi").write_bytes(Path(clip).read_bytes())
    videos = [str(tmp_path / f"{name}.avi") for name in ("a\tb", "all", "index")]
    command = ["detect", model, *videos, "--out", str(out), "--format", "json", "csv", "html", "--score", "0.1"]
    assert cli.main(command) == 2  # of the name with a tab, which is said; the others are done
    assert "1 of 3 videos failed" in capsys.readouterr().err
    for name in ("all", "index"):
        assert list(json.loads((out / f"{name}.json").read_text())["results"]) == [name]
    assert {"all.csv", "all-video.csv", "index.csv", "index.html", "index-video.html", "all.html"} <= {
        path.name for path in out.iterdir()
    }
    with (out / "all.csv").open(newline="") as table:
        assert {row["video"] for row in csv.DictReader(table)} == {"a\tb", "all", "index"}
