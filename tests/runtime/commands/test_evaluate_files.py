"""`afsd evaluate` of what `afsd detect` and other tools write: every form gives the numbers of the one JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.cli import main
from runtime.exchange.files import read_segments, write_segments
from runtime.exchange.found import load_found
from runtime.exchange.record import VideoSegments
from runtime.jobs.row_tables import row_writer
from runtime.results.detections import Detections, results_document, to_table, write_results
from runtime.results.facts import VideoFacts
from tests.videos import write_video

LABELS = ("jump", "run")


def found(video: str, seed: int) -> Detections:
    """Detections whose scores and times a table holds, and frames of 200 per second."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 8000, 12) / 200
    segments = np.stack([starts, starts + rng.integers(100, 800, 12) / 200], axis=1)
    scores = np.concatenate([[0.02], rng.integers(20, 1000, 11) / 1000])
    return Detections(segments, rng.integers(0, 2, 12).astype(np.int32), scores, LABELS, video)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Detections]:
    """found.json of three videos, and the truth: some of the detections."""
    monkeypatch.chdir(tmp_path)
    videos = [found(name, seed) for seed, name in enumerate(("a", "b", "c"))]
    write_results("found.json", videos)
    write_truth({one.video: [one[k] for k in range(4)] for one in videos})
    return videos


def write_truth(annotated: dict[str, Any]) -> None:
    database = {
        name: {"annotations": [{"label": d.label, "segment": [d.start_s, d.end_s]} for d in some]}
        for name, some in annotated.items()
    }
    Path("truth.json").write_text(json.dumps({"database": database}))


def evaluate(path: str, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[dict[str, Any], str]:
    assert main(["evaluate", path, "truth.json", "--json", *flags]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_every_form_of_detections_is_judged_alike(place: list[Detections], capsys: pytest.CaptureFixture[str]) -> None:
    expected, _ = evaluate("found.json", capsys)
    assert 0 < expected["average_mAP"] < 1
    for folder in ("one", "both", "lines", "tables", "all"):
        Path(folder).mkdir()
    for one in place:
        for folder in ("one", "both"):
            one.to_json(f"{folder}/{one.video}.json")
        for folder in ("both", "tables"):
            one.to_csv(f"{folder}/{one.video}.csv")
        one.to_srt(f"both/{one.video}.srt")
    Path("all.csv").write_text(to_table(place, bom=True))
    for folder in ("both", "tables", "all"):
        Path(f"{folder}/all.csv").write_text(to_table(place))
    write_segments("lines/a.jsonl", [VideoSegments.from_detections(place[0])])
    write_segments("lines/rest.jsonl", [VideoSegments.from_detections(one) for one in place[1:]])
    write_segments("tasks.json", [VideoSegments.from_detections(one) for one in place], "via")
    for form in ("one", "both", "all.csv", "tables", "all", "lines", "tasks.json"):
        assert evaluate(form, capsys) == (expected, ""), form


def test_lines_of_a_stream_and_of_a_watch_are_read(place: list[Detections], capsys: pytest.CaptureFixture[str]) -> None:
    expected, _ = evaluate("found.json", capsys)
    stream = [line(one.video, d) for one in place for d in one]
    Path("stream.jsonl").write_text("".join(stream) + '{"video": "c", "label": "ju')
    result, err = evaluate("stream.jsonl", capsys)
    assert result == expected
    assert err == "afsd: note: stream.jsonl: 1 line: half written and left out\n"
    Path("stream.jsonl").write_text("".join(stream + stream[:2]))
    result, err = evaluate("stream.jsonl", capsys)
    assert result == expected
    assert err == "afsd: note: stream.jsonl: 2 lines: there twice and read once\n"
    Path("watch").mkdir()
    for one in place:
        started = json.dumps({"event": "started", "video": one.video, "source": "x", "utc": None}) + "\n"
        events = [line(one.video, d, event="detection", utc=None) for d in one]
        gap = json.dumps({"event": "gap", "video": one.video, "segment": [1, 2]}) + "\n"
        Path(f"watch/{one.video}.jsonl").write_text("".join([started, *events[:5], started, *events, gap]))
    result, err = evaluate("watch", capsys)
    assert result == expected
    assert err.count("1 line: the start of a further run on a file, of which the last is read") == 3


def test_every_form_that_has_facts_says_how_the_detections_were_selected(
    place: list[Detections], capsys: pytest.CaptureFixture[str]
) -> None:
    expected, _ = evaluate("found.json", capsys)
    chosen = {"exclusive": "class", "merge_gap": 1.5, "min_length": None}
    facts = VideoFacts(path="v.mp4", model="m.onnx", threshold=0.3, **chosen)  # type: ignore[arg-type]
    found = [replace(one, facts=facts) for one in place]
    Path("selected.json").write_text(json.dumps(results_document(found)))
    _, warned = evaluate("selected.json", capsys)
    assert "afsd: warning: the detections were selected by --exclusive class, --merge-gap 1.5, and the mAP " in warned
    videos = [VideoSegments.from_detections(one) for one in found]
    write_segments("converted.json", videos)
    write_segments("converted.jsonl", videos)
    with row_writer(Path(), ["jsonl"]) as add:
        for one in found:
            add(one)
    lines = []
    for one in found:
        start = {"event": "started", "video": one.video, "source": "v.mp4", "utc": None, "at": "x"}
        lines += [json.dumps(start | {"model": "m.onnx", "threshold": 0.3} | chosen) + "\n"]
        lines += [line(one.video, d, event="detection", utc=None) for d in one]
    Path("watched.jsonl").write_text("".join(lines))
    for form in ("converted.json", "converted.jsonl", "detections.jsonl", "watched.jsonl"):
        result, err = evaluate(form, capsys)
        assert result == expected
        assert err == warned, form
        for one in load_found(form):
            assert one.facts is not None
            assert replace(one.facts, version="") == facts


def test_a_folder_with_tables_of_all_videos_has_each_video_once(
    place: list[Detections], capsys: pytest.CaptureFixture[str]
) -> None:
    expected, _ = evaluate("found.json", capsys)
    Path("job").mkdir()
    with row_writer(Path("job"), ["jsonl"]) as add:
        for one in place:
            add(one)
    Path("job/all.csv").write_text(to_table(place))
    assert evaluate("job", capsys) == (expected, "")  # alone, the exacter one is read
    assert [video.name for video in read_segments("job")] == ["a", "b", "c"]
    for suffix in ("csv", "json"):
        for one in place:
            one.save(Path(f"job/{one.video}.{suffix}"))
        assert evaluate("job", capsys) == (expected, "")
        assert [video.name for video in read_segments("job")] == ["a", "b", "c"]


def test_lines_of_whole_videos_and_failures_are_read(
    place: list[Detections], capsys: pytest.CaptureFixture[str]
) -> None:
    expected, _ = evaluate("found.json", capsys)
    failed = json.dumps({"video": "d", "source": "d.mp4", "error": "VideoError", "message": "damaged"}) + "\n"
    facts = {"path": "b.mp4", "duration_s": 40.0, "fps": 25.0, "threshold": 0.01}
    lines = [
        json.dumps({"video": one.video, "detections": json.loads(one.to_json())["results"][one.video], "facts": facts})
        for one in place
    ]
    Path("job.jsonl").write_text("\n".join(lines) + "\n" + failed)
    result, err = evaluate("job.jsonl", capsys)
    assert result == expected
    assert err == "afsd: note: job.jsonl: 1 line: of a video that failed\n"
    assert [one.facts and (one.facts.path, one.facts.threshold) for one in load_found("job.jsonl")] == [
        ("b.mp4", 0.01)
    ] * 3
    Path("job").mkdir()
    for one in place:
        one.to_json(f"job/{one.video}.json")
    Path("job/failures.jsonl").write_text(failed)
    assert evaluate("job", capsys) == (expected, "")
    assert [video.name for video in read_segments("job")] == ["a", "b", "c"]
    for one in place:
        Path(f"job/{one.video}.json").unlink()
        one.to_csv(f"job/{one.video}.csv")
    assert evaluate("job", capsys) == (expected, "")


def line(video: str, d: Any, **more: Any) -> str:
    entry = {**more, "video": video, "label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]}
    return json.dumps(entry) + "\n"


def test_videos_that_one_side_lacks_are_said_in_a_line(
    place: list[Detections], capsys: pytest.CaptureFixture[str]
) -> None:
    write_truth({name: [place[0][0]] for name in ("a", "d", "e", "f", "g")})
    result, err = evaluate("found.json", capsys)
    assert err == (
        "afsd: note: found.json: 4 of 5 annotated videos have no detections (d, e, f and 1 more), so what is annotated "
        "there counts as missed; 2 videos with detections are not annotated (b, c): not judged\n"
    )
    assert result["ignored"] > 0
    _, err = evaluate("found.json", capsys, "--rule", "thumos14")
    assert err.endswith("2 videos with detections are not annotated (b, c): false positives by this rule\n")
    write_truth({name: [place[0][0]] for name in ("v_a", "b", "c", "d")})
    _, err = evaluate("found.json", capsys)
    assert err == (
        "afsd: note: found.json: 1 of 4 annotated videos has no detections (d), so what is annotated there counts as "
        "missed\n"
    )


@pytest.mark.usefixtures("place")
def test_a_table_that_was_cut_at_a_score_is_said_to_be(
    place: list[Detections], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("all.csv").write_text(to_table([one.above(0.3) for one in place]))
    lowest = min(float(one.above(0.3).scores.min()) for one in place)
    _, err = evaluate("all.csv", capsys)
    assert err == (
        f"afsd: note: all.csv: no score is below {lowest:g}; if some were left out, the mAP of the model is higher\n"
    )


def test_results_of_no_judged_video_are_an_error_in_every_form(
    place: list[Detections], capsys: pytest.CaptureFixture[str]
) -> None:
    write_truth({name: [place[0][0]] for name in ("x", "testing")})
    write_results("tree.json", [found("cam1/else", 3), found("cam1/testing", 4)])
    Path("some.txt").write_text("else.mp4 1.0 2.0 7 0.9\n")
    Path("bare.json").write_text(json.dumps({"results": {"else": []}}))
    found("else", 5).to_csv("else.csv")
    for form, got, annotated in (
        ("tree.json", "2 videos, such as 'cam1/testing'", "testing"),  # of alike names, if there are
        ("found.json", "3 videos, such as 'a'", "x"),
        ("some.txt", "1 video, such as 'else'", "x"),
        ("bare.json", "1 video, such as 'else'", "x"),
        ("else.csv", "1 video, such as 'else'", "x"),
    ):
        assert main(["evaluate", form, "truth.json"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err == (
            f"afsd: error: {form}: got results of {got}, expected any of the 2 judged by truth.json, such as "
            f"'{annotated}'; give both the same names, folders included\n"
        )
    Path("none.json").write_text(json.dumps({"results": {}}))
    result, _ = evaluate("none.json", capsys)  # nothing was found anywhere
    assert result["average_mAP"] == 0


@pytest.mark.parametrize("verb", ["evaluate", "convert", "clips"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("detections.parquet", "detections.parquet: got Parquet, expected JSON, JSON lines or a table; take"),
        ("local:///tmp/x/found", "local:///tmp/x/found: "),
        ("s3://me:secret@bucket/found.json", "s3://bucket/found.json: "),
        ("https://host/found.json?key=secret", "https://host/found.json: got the address of a server, expected a file"),
    ],
)
@pytest.mark.usefixtures("place")
def test_parquet_and_addresses_are_refused_in_a_line(
    verb: str, given: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("detections.parquet").write_bytes(b"PAR1\xff")
    more = {"evaluate": ["truth.json"], "convert": ["out.csv"], "clips": ["--out", "out"]}[verb]
    assert main([verb, given, *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"afsd: error: {message}")
    assert "secret" not in line
    if given.startswith(("local", "s3")):
        assert line.endswith("results in an object store are not read; copy them to a folder here")


@pytest.mark.usefixtures("place")
def test_a_file_by_its_url_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(f"file://{tmp_path}/found.json", capsys) == evaluate("found.json", capsys)


@pytest.mark.usefixtures("place")
def test_what_holds_no_detections_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    Path("twice").mkdir()
    for name in ("x", "y"):
        found("a", 0).to_json(f"twice/{name}.json")
    Path("marks.csv").write_text("video,label,start_s,end_s\na,jump,0,1\n")
    Path("broken.jsonl").write_text("jump 0 1\n")
    Path("other.jsonl").write_text('{"text": "hello"}\n')
    for form, message in (
        ("empty", "empty: holds no file of detections; expected the .json, .jsonl or .csv of afsd detect --out empty"),
        ("twice", "twice: two videos are called 'a', expected a name for each; rename one"),
        ("marks.csv", "marks.csv: a: 'jump' at 0 s has no score, so a person marked it; expected what a model found"),
        ("broken.jsonl", "broken.jsonl: line 1: got 'jump 0 1', expected an object of JSON"),
        ("other.jsonl", "other.jsonl: line 1: got {'text': 'hello'}, expected"),
        ("truth.json", "truth.json: expected"),
    ):
        assert main(["evaluate", form, "truth.json"]) == 2
        assert message in capsys.readouterr().err


def test_json_of_others_beside_results_is_left_out(place: list[Detections], tmp_path: Path) -> None:
    place[0].to_json("a.json")
    Path("found.json").unlink()
    Path("settings.json").write_text('{"a": 1}')
    notes: list[str] = []
    (one,) = load_found(tmp_path, notes.append)
    assert one.to_json() == place[0].to_json()
    assert notes == [f"{tmp_path}: no detections, and left out: settings.json, truth.json"]


def test_frames_of_a_tool_take_their_rate_from_a_flag_or_the_videos(
    place: list[Detections], capsys: pytest.CaptureFixture[str]
) -> None:
    expected, _ = evaluate("found.json", capsys)
    truth = read_segments("truth.json")
    frames = [VideoSegments(video.name, video.segments, fps=200.0) for video in truth]
    write_segments("tasks.json", frames, "label-studio")
    tasks = json.loads(Path("tasks.json").read_text())
    for task in tasks:
        del task["data"]["fps"]
    Path("tasks.json").write_text(json.dumps(tasks))
    assert main(["evaluate", "found.json", "tasks.json"]) == 2
    assert capsys.readouterr().err == (
        "afsd: error: tasks.json: task 0: times are in frames and the file gives no frame rate; give --fps F, or "
        "--videos DIR with the videos\n"
    )
    assert main(["evaluate", "found.json", "tasks.json", "--json", "--fps", "200"]) == 0
    assert json.loads(capsys.readouterr().out) == expected
    Path("videos").mkdir()
    for video in truth:
        write_video(Path(f"videos/{video.name}.avi"), frames=5, fps=200)
    assert main(["evaluate", "found.json", "tasks.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected


def test_videos_that_a_report_lacks_are_said(place: list[Detections], capsys: pytest.CaptureFixture[str]) -> None:
    Path("films").mkdir()
    write_video(Path("films/a.avi"), frames=5, fps=25)
    command = ["evaluate", "found.json", "truth.json", "--format", "html", "--out", "report"]
    assert main([*command, "--embed"]) == 0
    assert capsys.readouterr().err == (
        "afsd: note: 3 of 3 videos not found in videos (a, b, c), so their pages have no pictures; --videos DIR says "
        "where they are\n"
    )
    assert main([*command, "--videos", "films"]) == 0
    assert "2 of 3 videos not found in films (b, c)" in capsys.readouterr().err
