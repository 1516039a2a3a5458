"""The reader of ActivityNet annotation files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.annotations.activitynet import Instance, VideoAnnotation, class_names, load_annotations, parse_annotations
from runtime.annotations.ground_truth import load_ground_truth
from runtime.annotations.thumos14 import AMBIGUOUS, CLASS_IDS
from runtime.errors import AnnotationError
from tests.shared import shared


def document(**entry: Any) -> dict[str, Any]:
    return {"database": {"v": {"annotations": [], **entry}}}


def with_segment(*segment: Any) -> dict[str, Any]:
    good = {"label": "a", "segment": [0, 1]}
    return document(annotations=[good, {"label": "a", "segment": list(segment)}])


def nested(depth: int) -> Any:
    """Lists within lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def test_empty() -> None:
    assert parse_annotations({"database": {}}, "f") == ()
    assert parse_annotations(document(), "f") == (VideoAnnotation("v", "", None, None, ()),)
    assert class_names(()) == ()


def test_everything_that_is_read() -> None:
    annotations = [{"label": "b", "segment": ["1.5", "2"], "label_id": 4}, {"label": "a", "segment": [0, 0]}]
    full = document(subset="train", duration="10.5", fps=30, annotations=annotations, url="x")
    (video,) = parse_annotations(full, "f")
    assert video == VideoAnnotation("v", "train", 10.5, 30.0, (Instance(1.5, 2.0, "b"), Instance(0.0, 0.0, "a")))
    assert class_names([video, video]) == ("a", "b")


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        ([], "f: expected"),
        ({"database": []}, "f: expected"),
        ({"database": {"v": 3}}, "f: v: expected"),
        ({"database": {"v": {"annotations": {}}}}, "f: v: expected"),
        (document(subset=3), "f: v: subset: got 3"),
        (document(duration="long"), "f: v: duration: got 'long', expected a number"),
        (document(duration=0), "f: v: duration: got 0, expected more than 0"),
        (document(fps=-1), "f: v: fps: got -1"),
        (document(annotations=["x"]), "annotation 0: label: got None"),
        (document(annotations=[{"label": "", "segment": [0, 1]}]), "annotation 0: label: got ''"),
        (document(annotations=[{"label": "a"}]), "annotation 0: segment: got None"),
        (with_segment(1), r"annotation 1: segment: got \[1\]"),
        (with_segment("x", 1), "annotation 1: start: got 'x'"),
        (with_segment(0, True), "annotation 1: end: got True"),
        (with_segment(0, float("nan")), "annotation 1: end: got nan"),
        (with_segment(0, 10**400), "annotation 1: end: got an integer of 1329 bits, expected a number"),
        (with_segment(0, "9" * 5000), "annotation 1: end: got '9999"),
        (with_segment(0, nested(900)), r"annotation 1: end: got \[\[\[.*\], expected a number"),
        (document(duration=10**400), "f: v: duration: got an integer of 1329 bits"),
        (document(subset=nested(900)), r"f: v: subset: got \[\[\["),
        (with_segment(2, 1), r"annotation 1: segment: got \[2, 1\], expected 0 <= start <= end"),
        (with_segment(-1, 1), r"annotation 1: segment: got \[-1, 1\]"),
    ],
)
def test_faults_are_named(faulty: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        parse_annotations(faulty, "f")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(AnnotationError, match="file not found; expected a file of annotations"):
        load_annotations(path)
    path.write_text("{")
    with pytest.raises(AnnotationError, match="not JSON"):
        load_annotations(path)
    path.write_text(json.dumps({"database": {"x": {"subset": "s", "annotations": []}, "y": {"annotations": []}}}))
    assert [video.name for video in load_annotations(path)] == ["x", "y"]
    assert [video.name for video in load_annotations(path, "s")] == ["x"]
    with pytest.raises(AnnotationError, match=r"no video of subset 't'; the file has '', 's'"):
        load_annotations(path, "t")


def test_the_published_thumos14_file() -> None:
    videos = load_annotations(shared("data/thumos14/thumos_gt.json"), "test")
    assert (len(videos), sum(len(video.instances) for video in videos)) == (210, 3311)
    assert len(class_names(videos)) == 20


def test_a_byte_order_mark_is_no_part_of_any_file(tmp_path: Path) -> None:
    """Windows' editors and spreadsheets put one before UTF-8."""
    table = tmp_path / "a.csv"
    table.write_text("video,type,start,end\nv,x,1,2\n", encoding="utf-8-sig")
    packed = tmp_path / "b.json.gz"
    packed.write_bytes(gzip.compress(json.dumps({"database": {"v": {"annotations": []}}}).encode("utf-8-sig")))
    kit = tmp_path / "kit"
    kit.mkdir()
    for label in (*CLASS_IDS, AMBIGUOUS):
        (kit / f"{label}_test.txt").write_text("v 1.0 2.0\n", encoding="utf-8-sig")
    for path in (table, packed, kit):
        assert [video.name for video in load_ground_truth(path)] == ["v"]


def test_frames_and_duration_give_the_rate_and_a_video_named_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"database": {"v": {"duration": 4.0, "frame": 100, "annotations": []}}}')
    assert load_annotations(path)[0].fps == 25
    path.write_text('{"database": {"v": {"duration": 4.0, "frame": 100, "fps": 30, "annotations": []}}}')
    assert load_annotations(path)[0].fps == 30
    path.write_text('{"database": {"v": {"annotations": []}, "v": {"annotations": []}}}')
    with pytest.raises(AnnotationError, match=r"a\.json: not JSON \('v' is there twice; keep one"):
        load_annotations(path)
