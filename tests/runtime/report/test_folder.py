"""Reports of several videos: the order of the index, its counts and figures, and the two commands that write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime import cli
from runtime.evaluation import evaluate, evaluate_thresholds
from runtime.evaluation.error_kinds import analyse_false_positives
from runtime.report.evaluation_report import write_evaluation_report
from runtime.report.folder import ReportFolder
from runtime.report.options import ReportOptions
from tests.evaluation_cases import drawn
from tests.runtime.report.cases import annotated, read, some, write_webm
from tests.tiny import write_tiny_onnx


def test_the_worst_videos_come_first_and_without_truth_names_decide(tmp_path: Path) -> None:
    report = ReportFolder(tmp_path, ReportOptions(threshold=0.7))
    cases = {"perfect": some()[[0]], "none": some()[:0], "half": some(), "clip10": some(), "clip9": some()}
    for name, found in cases.items():
        truth = annotated(name)
        truth = truth if name != "perfect" else type(truth)(name, "test", 10.0, None, truth.instances[:1])
        known = None if name.startswith("clip") else truth
        report.add(
            report.page_of(name),
            type(found)(found.segments, found.labels, found.scores, found.classes, name),
            truth=known,
        )
    data = read(report.write_index()).data
    assert [line["video"] for line in data["videos"]] == ["none", "half", "perfect", "clip9", "clip10"]
    half = data["videos"][1]
    assert {key: half[key] for key in ("detections", "shown", "truths", "hits", "wrong", "missed")} == {
        "detections": 7, "shown": 2, "truths": 4, "hits": 1, "wrong": 1, "missed": 3,
    }  # fmt: skip
    assert (half["precision"], half["recall"], half["f1"]) == pytest.approx((1 / 2, 1 / 4, 1 / 3))
    assert "f1" not in data["videos"][3]
    for line in data["videos"]:
        assert read(tmp_path / line["page"]).data["index"] == "index.html"


def test_names_that_would_take_the_place_of_the_index_or_lead_elsewhere(tmp_path: Path) -> None:
    report = ReportFolder(tmp_path, ReportOptions())
    assert [report.page_of(name).name for name in ("index", "a/b", "a_b")] == ["index-2.html", "a_b.html", "a_b-2.html"]


def test_the_figures_of_an_evaluation_are_those_of_its_functions(tmp_path: Path) -> None:
    found, truth = drawn(3)
    options = ReportOptions(tiou=0.4)
    index = write_evaluation_report(tmp_path, found, truth, options, tious=(0.3, 0.5), title="a on b")
    data = read(index).data
    result, errors = evaluate(found, truth, (0.3, 0.5)), analyse_false_positives(found, truth, 0.4)
    figures = data["figures"]
    assert figures["map"] == result.map.tolist()
    assert [row["ap"] for row in figures["classes"]] == result.ap.tolist()
    assert figures["errors"]["counts"] == errors.counts.tolist()
    at = evaluate_thresholds(found, truth, 0.4, 0.5).chosen
    sums = [sum(line[key] for line in data["videos"]) for key in ("truths", "hits", "wrong", "missed")]
    assert sums == [at.instances, at.hits, at.shown - at.hits, at.instances - at.hits]
    assert 10 < at.hits < at.shown - 10
    assert len(list(tmp_path.glob("v*.html"))) == len(truth) == len(data["videos"])
    scores = [line["f1"] for line in data["videos"]]
    assert scores == sorted(scores)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos under videos/, their annotations, and the tiny network."""
    folder = tmp_path_factory.mktemp("set")
    (folder / "videos").mkdir()
    for name in ("first", "index"):
        write_webm(folder / "videos" / f"{name}.webm", seconds=4)
    entry: dict[str, Any] = {"subset": "test", "annotations": [{"label": "jump", "segment": [0.5, 2.0]}]}
    (folder / "truth.json").write_text(json.dumps({"database": {"first": entry, "index": entry}}))
    write_tiny_onnx(folder / "tiny.onnx", None)
    return folder


def test_detect_writes_a_page_for_each_video_and_their_index(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["detect", str(folder / "tiny.onnx"), str(folder / "videos"), "--format", "html", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    assert f"written: {tmp_path}/index.html, the index of 2 pages" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["first.html", "index-video.html", "index.html"]
    lines = read(tmp_path / "index.html").data["videos"]
    assert [(line["video"], line["page"]) for line in lines] == [("first", "first.html"), ("index", "index-video.html")]
    page = read(tmp_path / "first.html")
    assert page.data["threshold"] == 0.5
    assert min(page.data["detections"]["score"]) < 0.2  # what the slider hides at first
    assert page.data["model"] == "tiny.onnx"
    assert page.data["duration"] == pytest.approx(4.0, abs=0.11)
    assert len(page.data["thumbnails"]) == 16
    assert cli.main(command) == 0  # over its own files
    (tmp_path / "index.html").write_text("<!doctype html>my own")
    assert cli.main(command) == 2
    assert "index.html: is there already and no result of afsd" in capsys.readouterr().err


def test_detect_of_one_video_has_no_index_and_can_embed_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["detect", str(folder / "tiny.onnx"), str(folder / "videos" / "first.webm"), "--out", str(tmp_path)]
    assert cli.main([*command, "--format", "html", "json", "--embed"]) == 0
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["first.html", "first.json"]
    assert read(tmp_path / "first.html").data["index"] == ""
    capsys.readouterr()
    assert cli.main([*command, "--embed"]) == 2
    assert "--embed puts the video into its page: give --format html with it" in capsys.readouterr().err


def run(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints."""
    capsys.readouterr()
    assert cli.main(command) == 0
    return capsys.readouterr().out


def test_evaluate_writes_a_report(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(folder / "tiny.onnx"), str(folder / "truth.json")]
    assert cli.main([*command, "--json"]) == 0
    printed = capsys.readouterr().out
    report = [*command, "--format", "html", "--out", str(tmp_path)]
    assert cli.main([*report, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out == printed
    assert err == f"written: {tmp_path}/index.html, the index of 2 pages\n"
    data = read(tmp_path / "index.html").data
    assert data["figures"]["map"] == json.loads(printed)["mAP"]
    assert data["title"] == "tiny.onnx on truth.json"
    assert data["threshold"] == 0.5
    best = json.loads(run([*command, "--threshold", "--json"], capsys))["threshold"]["best"]["threshold"]
    run([*report, "--threshold"], capsys)
    assert read(tmp_path / "index.html").data["threshold"] == best
    assert {line["video"] for line in data["videos"]} == {"first", "index"}
    ((attributes, _),) = read(tmp_path / "first.html").all("video")
    assert (tmp_path / (attributes["src"] or "")).resolve() == (folder / "videos" / "first.webm").resolve()
    (tmp_path / "first.html").write_text("my own")
    assert cli.main(report) == 2
    assert "first.html: is there already and no result of afsd" in capsys.readouterr().err
    for flags, message in (
        (["--out", str(tmp_path)], "--out does nothing without --format html; give that, too"),
        (["--format", "html"], "give their folder with --out DIR"),
    ):
        assert cli.main([*command, *flags]) == 2
        assert message in capsys.readouterr().err
