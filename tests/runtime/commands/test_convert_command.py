"""`afsd convert`: files and folders, what it remarks, what it asks for, and what it does not write over."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from runtime import cli
from runtime.commands import convert
from runtime.exchange.formats import FORMATS
from tests.videos import write_video

ANNOTATIONS = {
    "database": {
        "a": {"subset": "training", "annotations": [{"label": "jump", "segment": [0.4, 2.0]}]},
        "b": {"subset": "test", "annotations": [{"label": "run", "segment": [1.0, 3.0]}]},
    }
}
RESULTS = {"results": {"a": [{"label": "jump", "score": 0.75, "segment": [0.4, 2.0]}], "b": []}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("truth.json").write_text(json.dumps(ANNOTATIONS))
    Path("found.json").write_text(json.dumps(RESULTS))
    return tmp_path


def run(*words: str) -> int:
    return cli.main(["convert", *words])


def test_a_file_per_video_goes_to_a_folder_and_back(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("truth.json", "elan", "--to", "elan") == 0
    out, err = capsys.readouterr()
    assert out == "2 segments of 2 videos from ActivityNet JSON to ELAN: 2 files in elan\n"
    assert err == "afsd: note: subsets have no place in ELAN as written here, and are left out\n"
    assert sorted(path.name for path in Path("elan").iterdir()) == ["a.eaf", "b.eaf"]
    assert run("elan", "back.json", "--subset", "training", "--test", "b") == 0
    assert capsys.readouterr().out == "2 segments of 2 videos from ELAN to ActivityNet JSON: back.json\n"
    assert json.loads(Path("back.json").read_text())["database"] == ANNOTATIONS["database"]


def test_frames_need_a_rate_which_a_flag_or_the_videos_give(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("found.json", "tasks.json", "--to", "label-studio") == 2
    assert capsys.readouterr().err == (
        "afsd: error: a: Label Studio needs the frame rate, which is unknown; give --fps F, or --videos DIR with the "
        "videos\n"
    )
    Path("videos").mkdir()
    write_video(Path("videos/a.avi"), frames=40, fps=12.5)
    assert run("found.json", "tasks.json", "--to", "label-studio", "--videos", "videos", "--fps", "12.5") == 0
    assert "videos: 1 of 2 videos not there or not readable: b" in capsys.readouterr().err
    assert run("found.json", "cvat", "--to", "cvat", "--videos", "videos") == 2
    assert "b: CVAT needs the frame rate" in capsys.readouterr().err
    write_video(Path("videos/b.avi"), frames=40, fps=12.5)
    assert run("found.json", "cvat", "--to", "cvat", "--videos", "videos") == 0
    text = Path("cvat/a.xml").read_text()
    assert "<width>36</width>" in text
    assert "<stop_frame>39</stop_frame>" in text
    assert '<box frame="5" ' in text
    assert '<box frame="25" ' in text
    capsys.readouterr()
    assert run("cvat", "again.json", "--videos", "videos") == 0
    again = json.loads(Path("again.json").read_text())["results"]
    assert again == {"a": [{"label": "jump", "score": 0.75, "segment": [0.4, 2.0]}], "b": []}


def test_nothing_of_others_is_written_over(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("found.json", "a.csv") == 0
    assert run("found.json", "a.csv") == 0  # the same content is no loss
    Path("a.csv").write_text("mine\n")
    capsys.readouterr()
    assert run("found.json", "a.csv") == 2
    error = (
        "a.csv: is there already and holds something else, perhaps what somebody corrected, so it is not written over"
    )
    assert f"{error}; choose another place for the results, or give --overwrite\n" in capsys.readouterr().err
    assert Path("a.csv").read_text() == "mine\n"
    assert run("found.json", "a.csv", "--overwrite") == 0
    Path("elan").mkdir()
    Path("elan/b.eaf").write_text("mine")
    assert run("truth.json", "elan", "--to", "elan") == 2
    assert not Path("elan/a.eaf").exists()  # all are looked at before the first is written


def test_lengths_are_missed_only_where_a_persons_file_had_them(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("known.json").write_text(json.dumps(RESULTS | {"external_data": {"a": {"duration_s": 4.0, "fps": 10.0}}}))
    assert run("known.json", "known.csv") == 0
    assert "lengths" not in capsys.readouterr().err  # of detections it is the video's
    database = {
        name: {"duration": 4.0, "annotations": entry["annotations"]} for name, entry in ANNOTATIONS["database"].items()
    }
    Path("timed.json").write_text(json.dumps({"database": database}))
    assert run("timed.json", "timed.csv") == 0
    assert "note: lengths of videos have no place in a table (CSV) as written here" in capsys.readouterr().err
    assert run("truth.json", "untimed.csv") == 0
    assert run("timed.json", "timed.json2", "--to", "activitynet") == 0
    Path("videos").mkdir()
    for name in ("a", "b"):
        write_video(Path(f"videos/{name}.avi"), frames=40)
    assert run("timed.json", "again.csv", "--videos", "videos") == 0  # where they lie, they are not lost
    assert "lengths" not in capsys.readouterr().err


def test_scores_are_left_out_when_annotations_are_asked_for(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("found.json", "marked.json", "--annotations") == 0
    assert json.loads(Path("marked.json").read_text())["database"]["a"]["annotations"] == [
        {"label": "jump", "segment": [0.4, 2.0]}
    ]
    assert "afsd: note: scores are left out, as annotations have none" in capsys.readouterr().err
    assert run("found.json", "a.edl", "--fps", "25") == 0
    assert "1 video without segments (b), and so with no place in an edit decision list" in capsys.readouterr().err


def test_what_is_counted_is_what_is_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reversed_, good = ({"label": "run", "score": 0.25, "segment": times} for times in ([3, 1], [0, 1]))
    Path("odd.json").write_text(json.dumps({"results": {"a": [reversed_], "b": [good], "c": []}}))
    for target, counts in (("odd.csv", "1 segment of 1 video"), ("odd2.json", "1 segment of 3 videos")):
        assert run("odd.json", target) == 0
        out, err = capsys.readouterr()
        assert out.startswith(f"{counts} from ActivityNet JSON to ")
        assert "note: 1 segment that ends before it begins, or before the video does, left out\n" in err
        assert len(Path(target).read_text().split("run")) == 2
    Path("odd.json").write_text(json.dumps({"results": {"a": [reversed_, reversed_]}}))
    assert run("odd.json", "none.csv") == 0
    out, err = capsys.readouterr()
    assert out.startswith("0 segments of 0 videos from ")
    assert "note: 2 segments that end before they begin, or before the video does, left out\n" in err


def test_weak_detections_are_left_out_when_asked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weak = {"label": "run", "score": 0.25, "segment": [0, 1]}
    Path("both.json").write_text(json.dumps({"results": {"a": [*RESULTS["results"]["a"], weak], "b": [weak]}}))
    assert run("both.json", "strong.json", "--score", "0.5") == 0
    strong = json.loads(Path("strong.json").read_text())
    assert strong["results"] == RESULTS["results"]
    assert strong["external_data"]["a"] == {"threshold": 0.5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["truth.json", "x.txt"], "x.txt: got .txt, and two formats have it; give --to NAME, one of activitynet"),
        (["truth.json", "x.doc"], "x.doc: got .doc, and no format has it"),
        (["truth.json", "x.eaf"], "x.eaf: a file of ELAN holds one video, got 2; give a folder and --to NAME"),
        (["truth.json", "x", "--to", "nvivo"], "format: got 'nvivo', expected one of activitynet"),
        (
            ["truth.json", "s3://bucket/x.csv"],
            "s3://bucket/x.csv: got a URL, expected a file or folder of this machine",
        ),
        (["gone.json", "x.csv"], "gone.json: file not found"),
        (["truth.json", "x.csv", "--videos", "gone"], "gone: folder not found"),
        (["truth.json", "x.csv", "--fps", "0"], "fps: got 0.0, expected above 0"),
        (["truth.json", "x.csv", "--test", "c"], "--test: 'c' is none of the videos, which are a, b"),
        (["truth.json", "x.csv", "--from", "srt"], 'truth.json: got \'{"database":'),
        (["truth.json", "place", "--to", "csv"], "place: a folder, expected the name of a file"),
    ],
)
def test_every_mistake_is_one_line(
    words: list[str], message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "place").mkdir()
    assert run(*words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("afsd: note")]
    assert len(lines) == 1
    assert message in lines[0]


def test_a_videos_name_leads_out_of_no_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("evil.json").write_text(json.dumps({"database": {"../../x": {"annotations": []}}}))
    assert run("evil.json", "out", "--to", "elan") == 2
    assert "leads out of its folder" in capsys.readouterr().err


def test_the_help_names_all_formats() -> None:
    parser = argparse.ArgumentParser()
    convert.add_convert(parser.add_subparsers())
    assert sorted(convert._names().split(", ")) == sorted(FORMATS)
