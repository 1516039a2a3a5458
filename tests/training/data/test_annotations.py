"""Annotations in sampled frames: from seconds and from THUMOS14's tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.annotations.activitynet import Instance, VideoAnnotation
from runtime.annotations.thumos14 import CLASS_IDS
from runtime.errors import AnnotationError
from tests.shared import shared
from training.data.annotations import FrameInstance, to_sampled_frames
from training.preparation.thumos14 import read_table_files, to_frame_annotations

INFO = "video,fps,sample_fps,count,sample_count\nb,30.0,10.0,300.0,100\na,24.0,10.0,240.0,60\n"
ROWS = "video,type,type_idx,start,end,startFrame,endFrame\n"


def tables(folder: Path, info: str, rows: str) -> tuple[Path, Path]:
    (folder / "info.csv").write_text(info)
    (folder / "rows.csv").write_text(rows)
    return folder / "info.csv", folder / "rows.csv"


def test_seconds_become_sampled_frames_and_empty_instances_go() -> None:
    instances = (Instance(1.0, 2.5, "b"), Instance(3.0, 3.0, "a"), Instance(0.0, 0.25, "a"))
    video = VideoAnnotation("v", "train", 5.0, 30.0, instances)
    got = to_sampled_frames(video, frames=50, sample_fps=10.0, classes=("a", "b"))
    assert (got.name, got.frames) == ("v", 50)
    assert got.instances == (FrameInstance(10.0, 25.0, 2), FrameInstance(0.0, 2.5, 1))
    assert got.instances[0].length == 15.0


def test_a_video_without_instances_stays_without() -> None:
    video = VideoAnnotation("v", "", None, None, ())
    assert to_sampled_frames(video, frames=7, sample_fps=10.0, classes=("a",)).instances == ()


def test_an_unknown_label_is_named() -> None:
    video = VideoAnnotation("v", "", None, None, (Instance(0, 1, "zebra"),))
    with pytest.raises(AnnotationError, match=r"v: label 'zebra' is not one of the classes a, b"):
        to_sampled_frames(video, frames=7, sample_fps=10.0, classes=("a", "b"))


def test_tables_use_the_ratio_of_counts_and_leave_ambiguous_rows_out(tmp_path: Path) -> None:
    rows = ROWS + "a,Diving,26,0,0,24,48\na,Ambiguous,0,0,0,1,2\nb,BaseballPitch,7,0,0,30,60\n"
    b, a = to_frame_annotations(read_table_files(*tables(tmp_path, INFO, rows)))
    assert (b.name, b.frames, b.instances) == ("b", 100, (FrameInstance(10.0, 20.0, 1),))
    assert (a.name, a.frames, a.instances) == ("a", 60, (FrameInstance(6.0, 12.0, 8),))


@pytest.mark.parametrize(
    ("info", "rows", "message"),
    [
        ("video,count\n", ROWS, "column 'fps' is missing"),
        (INFO, "video,type_idx,start,end,startFrame\n", "column 'endFrame' is missing"),
        (INFO, ROWS + "a,x,8,0,0,1,2\n", "line 2: class 8 of video 'a' is unknown"),
        (INFO, ROWS + "c,x,7,0,0,1,2\n", "line 2: class 7 of video 'c' is unknown"),
        (INFO, ROWS + "a,x,7,0,0,5,5\n", "line 2: got frames 5 to 5"),
        ("video,fps,sample_fps,count,sample_count\n", ROWS, "names no video; the table is empty or cut off"),
        ("video,fps,sample_fps,count,sample_count\na,30.0,10.0,0,4\n", ROWS, "a: count: got 0, expected more than 0"),
        (INFO, ROWS + "a,x,7,0,0,1", "line 2: endFrame: got None, expected a number"),
        (INFO, ROWS + "a,x,7,0,0,one,5\n", "line 2: startFrame: got 'one', expected a number"),
    ],
)
def test_faulty_tables_are_errors(tmp_path: Path, info: str, rows: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_table_files(*tables(tmp_path, info, rows))


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="cannot be read as a table"):
        read_table_files(tmp_path / "no.csv", tmp_path / "no.csv")


def test_the_class_list_is_the_published_one() -> None:
    lines = shared("data/thumos14/Class Index_Detection.txt").read_text().splitlines()
    published = {name: int(number) for number, name in (line.split() for line in lines)}
    assert list(published.items()) == list(CLASS_IDS.items())


@pytest.mark.parametrize(("subset", "videos", "instances"), [("val", 200, 3007), ("test", 212, 3358)])
def test_the_published_tables(subset: str, videos: int, instances: int) -> None:
    folder = shared("data/thumos14")
    got = to_frame_annotations(
        read_table_files(folder / f"{subset}_video_info.csv", folder / f"{subset}_Annotation_ours.csv")
    )
    assert (len(got), sum(len(video.instances) for video in got)) == (videos, instances)
