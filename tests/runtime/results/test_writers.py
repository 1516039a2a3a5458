"""Output formats: every entry of the table writes a file that other readers understand."""

from __future__ import annotations

import csv
import json
import re
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.common.text import ESCAPES
from runtime.errors import InputError
from runtime.results.detections import Detections
from runtime.results.writers import FORMATS, require_ours
from tests.runtime.report.cases import Parts

FOUND = Detections(
    np.array([[3661.25, 3662.5], [0.5, 2.0]]), np.array([1, 0], np.int32), np.array([0.9, 0.25]), ("<run>", "jump"), "v"
)
TIMES = [(0.5, 2.0), (3661.25, 3662.5)]
"""In the order of their starts."""


def read_cues(text: str, point: str) -> list[tuple[float, float]]:
    """Times of subtitles, by the letter of their formats."""
    pattern = rf"(\d+):(\d\d):(\d\d){re.escape(point)}(\d\d\d)"
    found = re.findall(f"^{pattern} --> {pattern}$", text, re.MULTILINE)
    rows = [[int(number) for number in row] for row in found]
    return [
        tuple(h * 3600 + m * 60 + s + ms / 1000 for h, m, s, ms in (row[:4], row[4:]))  # type: ignore[misc]
        for row in rows
    ]


def check(name: str, path: Path) -> None:
    """Read the file of a format back by other means than the project's."""
    if name == "png":
        assert cv2.imread(str(path)).shape[1] == 1600
        return
    if name == "html":
        found = Parts(path.read_text(encoding="utf-8")).data["detections"]
        assert sorted(zip(found["start"], found["end"], strict=True)) == TIMES
        return
    text = path.read_text(encoding="utf-8")
    if name == "json":
        segments = [entry["segment"] for entry in json.loads(text)["results"]["v"]]
        assert sorted(map(tuple, segments)) == TIMES
    elif name == "csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert sorted((float(row["start_s"]), float(row["end_s"])) for row in rows) == TIMES
        assert rows[1]["label"] == "<run>"
    elif name == "srt":
        assert read_cues(text, ",") == TIMES
    else:
        assert name == "vtt"
        assert text.startswith("WEBVTT\n\n")
        assert read_cues(text, ".") == TIMES
        assert "&lt;run&gt; 0.25" in text  # "<" would begin a tag


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_is_written_by_its_suffix_and_read_by_others(name: str, tmp_path: Path) -> None:
    FOUND.save(tmp_path / f"v.{name}", duration_s=4000.0)
    check(name, tmp_path / f"v.{name}")
    assert [path.name for path in tmp_path.iterdir()] == [f"v.{name}"]  # no temporary file is left


def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    for name, got in (("v.xls", ".xls"), ("v", "no suffix")):
        with pytest.raises(InputError, match=rf"got {got}, expected one of \.json, \.csv, \.srt, \.vtt, \.png, \.html"):
            FOUND.save(tmp_path / name)


def test_detections_are_chosen_by_number_slice_and_mask() -> None:
    assert FOUND[0] == ("jump", 0.9, 3661.25, 3662.5)
    assert FOUND[-1].label == "<run>"
    assert [d.label for d in FOUND[1:]] == ["<run>"]
    assert [d.label for d in FOUND[FOUND.scores > 0.5]] == ["jump"]
    assert [d.label for d in FOUND[[1, 0]]] == ["<run>", "jump"]
    assert len(FOUND[[]]) == 0
    with pytest.raises(IndexError):
        FOUND[2]


def test_a_person_reads_the_repr() -> None:
    assert repr(FOUND) == "<Detections 'v': 2 detections of 2 classes, best jump 0.90 at 3661.2 – 3662.5 s>"
    assert repr(Detections.empty(("a",), "w")) == "<Detections 'w': 0 detections of 1 class>"


def test_a_dataframe_has_a_row_per_detection() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = FOUND.to_dataframe()
    assert list(table.columns) == ["video", "label", "start_s", "end_s", "score"]
    assert table["end_s"].tolist() == [3662.5, 2.0]
    assert table["label"].tolist() == ["jump", "<run>"]
    assert isinstance(Detections.empty(("a",)).to_dataframe(), pandas.DataFrame)


def test_a_file_of_others_is_not_taken_for_a_result_and_a_result_is(tmp_path: Path) -> None:
    """Of every format: what this project wrote, empty results too, may be written anew; nothing else may."""
    times = "1\n00:00:01,000 --> 00:00:02,000\n"
    foreign = {
        "json": ['{"spec": {}, "sha256": {}}', '{"database": {}}', '{"version": "VERSION 1.3", "results": {}}', "[1"],
        "csv": ["video,label\n", "video,type,start,end\n", "\nvideo,label,start_s,end_s,score\n"],
        "srt": [f"{times}my own subtitles\n", f"{times}jump 0.90\n\n{times}said 1.5 times\n", "jump 0.90"],
        "vtt": ["WEBVTT\n\n00:01.000 --> 00:02.000\nhello\n", "WEBVTT\n\nNOTE by hand\n"],
        "png": [cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()],
        "html": ["<!doctype html>\n<html></html>", "<!-- afsd report 1 -->"],
    }
    assert list(foreign) == list(FORMATS)
    for name, contents in foreign.items():
        path = tmp_path / f"v.{name}"
        require_ours(path)
        for found in (FOUND, FOUND[:0], FOUND[:1]):
            found.save(path)
            require_ours(path)
        path.write_bytes(b"")
        require_ours(path)
        for content in contents:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            with pytest.raises(InputError, match=rf"v\.{name}: is there already and no result of afsd, so it is not"):
                require_ours(path)
    (tmp_path / "movie.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="no result of afsd"):
        require_ours(tmp_path / "movie.jpg")
    FOUND.save(tmp_path / "v.json")
    require_ours((tmp_path / "v.json").rename(tmp_path / "v.txt"), "json")


@pytest.mark.parametrize(
    "label",
    [
        "a\n\n2\n00:00:09,000 --> 00:00:10,000\nforged",
        "a\r\n\r\n00:00:09.000 --> 00:00:10.000 line:0%\r\nforged",
        "a\u2028b\x85c",
        "-->",
        "<b>bold</b><img src=x onerror=alert(1)>",
        "{\\an8}above {b}",
        "&lt;b&gt;",
    ],
)
def test_a_label_forges_no_subtitle_and_no_tag(label: str, tmp_path: Path) -> None:
    found = Detections(np.array([[1.0, 2.0]]), np.array([0], np.int32), np.array([0.5]), (label,), "v")
    for name, point in (("srt", ","), ("vtt", ".")):
        path = tmp_path / f"v.{name}"
        found.save(path)
        text = path.read_text(encoding="utf-8")
        cue = re.split(r"-->.*\n", text)[-1]
        assert read_cues(text, point) == [(1.0, 2.0)]
        assert text.count("-->") == 1
        assert cue.count("\n") == 1
        assert cue.endswith(" 0.50\n")
        assert not re.search(r"[<>{}\\]" if name == "srt" else "[<>]", cue.replace("\\u", ""))
        require_ours(path)
    assert unescape(cue) == label.translate(ESCAPES) + " 0.50\n"
