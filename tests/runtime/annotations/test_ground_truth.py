"""Ground truth in the form of any tool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.annotations.activitynet import Instance
from runtime.annotations.ground_truth import load_ground_truth
from runtime.errors import AnnotationError
from runtime.exchange.files import write_segments
from runtime.exchange.record import Segment, VideoSegments

VIDEOS = (
    VideoSegments("a", (Segment(0.4, 2.0, "jump"),), duration_s=9.0, fps=25.0, size=(64, 48), subset="training"),
    VideoSegments("b", (Segment(1.0, 3.0, "run"),), duration_s=9.0, fps=25.0, size=(64, 48), subset="test"),
)
TRUE = {"a": (Instance(0.4, 2.0, "jump"),), "b": (Instance(1.0, 3.0, "run"),)}


@pytest.mark.parametrize("name", ["elan", "srt", "vtt", "audacity", "via", "label-studio", "fiftyone", "otio", "csv"])
def test_files_of_tools_are_ground_truth(name: str, tmp_path: Path) -> None:
    several = name in ("via", "label-studio", "fiftyone", "otio", "csv")
    path = tmp_path / "truth" / "all.json" if several else tmp_path / "truth"
    if name in ("csv", "otio"):
        path = path.with_suffix(f".{name}")
    write_segments(path, VIDEOS, name)
    found = load_ground_truth(path)
    assert {video.name: video.instances for video in found} == TRUE
    subset = load_ground_truth(path, "training")
    holds_subsets = name in ("label-studio", "csv")  # the others know none, so all videos are meant
    assert [video.name for video in subset] == (["a"] if holds_subsets else ["a", "b"])


def test_what_a_model_found_is_no_truth(tmp_path: Path) -> None:
    scored = [replace(VIDEOS[0], segments=(Segment(0.4, 2.0, "jump", 0.5),))]
    write_segments(tmp_path / "a.eaf", scored)
    with pytest.raises(AnnotationError, match=r"a.eaf: holds scores, so it is what a model found, and no truth; if a"):
        load_ground_truth(tmp_path / "a.eaf")


def test_frames_without_a_rate_say_what_to_do(tmp_path: Path) -> None:
    write_segments(tmp_path / "a.xml", VIDEOS[:1])
    with pytest.raises(AnnotationError, match=r"track 0: times are in frames and the file gives no frame rate"):
        load_ground_truth(tmp_path / "a.xml")


def test_the_kits_folder_and_table_are_what_they_were(tmp_path: Path) -> None:
    (tmp_path / "Diving_test.txt").write_text("v 1 2\n")
    with pytest.raises(AnnotationError, match=r"expected the THUMOS'14 kit's folder of annotations"):
        load_ground_truth(tmp_path)
    (tmp_path / "t.csv").write_text("video,type,videoFrameLength,start,end\nv,Diving,9,1,2\n")
    (video,) = load_ground_truth(tmp_path / "t.csv", "training")
    assert (video.subset, video.instances) == ("test", (Instance(1.0, 2.0, "Diving"),))
    (tmp_path / "t.csv").write_text("video,colour\nv,red\n")
    with pytest.raises(AnnotationError, match=r"no column type, start, end"):
        load_ground_truth(tmp_path / "t.csv")
