"""Detections and the files they are exchanged in."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from runtime.errors import AnnotationError, InputError
from runtime.results.detections import Detection, Detections, is_table, load_detections, write_results
from runtime.results.facts import VideoFacts
from runtime.results.writers import FORMATS

CLASSES = ("jump", "throw, far", "été")


def some(video: str = "a.mp4") -> Detections:
    return Detections(
        np.array([[2.0, 3.5], [0.25, 1 / 3], [3661.0425, 3662.0]]),
        np.array([1, 0, 2], np.int32),
        np.array([0.5, 0.9, 0.5]),
        CLASSES,
        video,
    )


def rows(detections: Detections) -> list[Detection]:
    return list(detections)


def test_empty() -> None:
    empty = Detections.empty(CLASSES, "v")
    assert len(empty) == 0
    assert rows(empty.sorted().above(0.1)) == []
    assert json.loads(empty.to_json())["results"] == {"v": []}
    assert empty.to_csv() == "video,label,start_s,end_s,score,start,end,path\n"
    assert empty.to_srt() == ""


def test_order_and_choice() -> None:
    assert [d.label for d in some().sorted()] == ["jump", "throw, far", "été"]
    assert [d.label for d in some().sorted("start")] == ["jump", "throw, far", "été"]
    assert [d.label for d in some().above(0.9)] == ["jump"]
    assert [d.label for d in some().of_class("été")] == ["été"]
    assert len(some().of_class("unknown")) == 0
    both = Detections.concatenate([some(), Detections.empty(CLASSES, "a.mp4"), some()])
    assert rows(both) == rows(some()) * 2


def test_concatenate_refuses_other_videos() -> None:
    with pytest.raises(InputError, match=r"'b' with 'a.mp4'"):
        Detections.concatenate([some(), some("b")])
    with pytest.raises(InputError, match="at least one part"):
        Detections.concatenate([])


@pytest.mark.parametrize(
    ("segments", "labels", "message"),
    [(np.zeros((2, 2)), [0], r"segments \(2, 2\)"), (np.zeros((1, 2)), [3], r"3\.\.3, expected 0\.\.2")],
)
def test_arrays_that_do_not_fit(segments: Any, labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Detections(segments, np.array(labels, np.int32), np.ones(1), CLASSES)


def test_a_class_keeps_its_number_and_so_its_colour_through_files(tmp_path: Path) -> None:
    """Whichever classes a video has, and in which order; files of others give labels as they come."""
    for labels in ([2, 0], [1, 2], []):
        found = Detections(
            np.array([[k, k + 1.0] for k in range(len(labels))]).reshape(-1, 2),
            np.array(labels, np.int32),
            np.full(len(labels), 0.5),
            CLASSES,
            "v",
        )
        found.to_json(tmp_path / "v.json")
        (read,) = load_detections(tmp_path / "v.json")
        assert read.classes == CLASSES
        assert read.labels.tolist() == labels
    document = json.loads(some().to_json())
    for classes in (None, "jump", [1], [["jump"]], [""]):  # none, or another program's
        document["classes"] = classes
        (tmp_path / "v.json").write_text(json.dumps(document))
        assert load_detections(tmp_path / "v.json")[0].classes == ("throw, far", "jump", "été")
    document["classes"] = ["jump", "jump"]
    (tmp_path / "v.json").write_text(json.dumps(document))
    assert load_detections(tmp_path / "v.json")[0].classes == ("jump", "throw, far", "été")


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "found.json"
    write_results(path, [some(), Detections.empty(CLASSES, "b.mp4"), some("c")])
    document = json.loads(path.read_text(encoding="utf-8"))
    assert set(document) == {"version", "classes", "results", "external_data"}
    assert document["results"]["a.mp4"][0] == {"label": "throw, far", "score": 0.5, "segment": [2.0, 3.5]}
    a, b, c = load_detections(path)
    assert (a.video, b.video, c.video) == ("a.mp4", "b.mp4", "c")
    assert rows(a) == rows(c) == rows(some())
    assert len(b) == 0
    assert a.classes == b.classes == CLASSES
    assert [p.name for p in path.parent.iterdir()] == ["found.json"]


def test_a_name_that_is_no_text_comes_back(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")  # as Python reads such a name from a folder
    for suffix in FORMATS:
        some(name).save(tmp_path / f"d.{suffix}")
    assert load_detections(tmp_path / "d.json")[0].video == name


def test_text_is_returned_and_written(tmp_path: Path) -> None:
    for suffix, method in (("json", some().to_json), ("csv", some().to_csv), ("srt", some().to_srt)):
        path = tmp_path / f"x.{suffix}"
        assert method(path) == path.read_text(encoding="utf-8") == method()


def test_csv() -> None:
    found = replace(some(), facts=VideoFacts(path="videos/a.mp4"))
    header, first, *rest = csv.reader(io.StringIO(found.to_csv()))
    assert header == ["video", "label", "start_s", "end_s", "score", "start", "end", "path"]
    assert first == ["a.mp4", "throw, far", "2.000", "3.500", "0.500", "0:00:02.000", "0:00:03.500", "videos/a.mp4"]
    assert [row[5:7] for row in rest if row[1] == "été"] == [["1:01:01.042", "1:01:02.000"]]
    assert found.to_csv(bom=True) == "\ufeff" + found.to_csv()
    assert is_table(found.to_csv(bom=True).encode())
    assert is_table(b"video,label,start_s,end_s,score\n")  # of an older release


def test_facts_come_back(tmp_path: Path) -> None:
    facts = VideoFacts("a/b.mp4", 12.5, 29.97, "m.xml", 0.42, "0.1.0")
    write_results(tmp_path / "d.json", [replace(some(), facts=facts), replace(some(), video="other")])
    first, second = load_detections(tmp_path / "d.json")
    assert (first.facts, second.facts) == (facts, None)
    document = json.loads((tmp_path / "d.json").read_text())
    document["external_data"] = {"a.mp4": {"fps": -3}, "used_external": True}  # of another program
    (tmp_path / "d.json").write_text(json.dumps(document))
    assert load_detections(tmp_path / "d.json")[0].facts is None


def test_srt() -> None:
    cues = some().to_srt().split("\n\n")
    assert cues[0] == "1\n00:00:00,250 --> 00:00:00,333\njump 0.90"
    assert cues[2] == "3\n01:01:01,042 --> 01:01:02,000\nété 0.50\n"


def test_plot(tmp_path: Path) -> None:
    some().plot(tmp_path / "t.png")
    assert np.asarray(cv2.imread(str(tmp_path / "t.png"))).shape[1] == 1600


def entry(**changes: Any) -> dict[str, Any]:
    return {"label": "jump", "score": 0.5, "segment": [1, 2], **changes}


def test_numbers_as_strings(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"results": {"v": [entry(score="0.25", segment=["1.5", "2"])]}}))
    assert rows(load_detections(path)[0]) == [Detection("jump", 0.25, 1.5, 2.0)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], 'expected {"results"'),
        ({"results": {"v": {}}}, "v: got dict, expected a list"),
        ({"results": {"v": [entry(), 3]}}, "v: detection 1: got 3"),
        ({"results": {"v": [entry(label=None)]}}, "v: detection 0: label: got None"),
        ({"results": {"v": [entry(score=float("nan"))]}}, "v: detection 0: score: got nan"),
        ({"results": {"v": [entry(score=None)]}}, "v: detection 0: score: got None"),
        ({"results": {"v": [entry(segment=[1])]}}, r"v: detection 0: segment: got \[1\]"),
        ({"results": {"v": [entry(segment=[1, "x"])]}}, "v: detection 0: end: got 'x'"),
        ({"results": {"v": [entry(segment=[2, 1])]}}, r"v: detection 0: segment: got \[2, 1\]"),
    ],
)
def test_malformed_files(tmp_path: Path, document: object, message: str) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=message):
        load_detections(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="file not found"):
        load_detections(tmp_path / "none.json")
    (tmp_path / "d.json").write_text("{")
    with pytest.raises(AnnotationError, match="not JSON"):
        load_detections(tmp_path / "d.json")


def test_inverted_segments_of_the_published_code(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"results": {"v": [entry(segment=[2, 1])]}}))
    assert load_detections(path, keep_inverted=True)[0].segments.tolist() == [[2, 1]]


def test_a_video_named_twice_is_an_error(tmp_path: Path) -> None:
    """JSON's own readers would keep the second list and lose the first without a word."""
    path = tmp_path / "d.json"
    path.write_text(f'{{"results": {{"v": [{json.dumps(entry())}], "w": [], "v": []}}}}')
    with pytest.raises(AnnotationError, match=r"d\.json: not JSON \('v' is there twice; keep one of the two\)"):
        load_detections(path)
