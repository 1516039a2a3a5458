"""Which cuts are made, and what their files are called."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.clips.plan import Cut, merge_cuts, name_clip, name_clips, overlapping_at_most, plan_cuts, safe_part
from runtime.common.names import require_safe_name
from runtime.exchange.record import Segment, VideoSegments

VIDEO = VideoSegments(
    "v",
    (Segment(5.0, 6.0, "b", 0.9), Segment(1.0, 2.0, "a", 0.4), Segment(1.5, 3.0, "a", 0.8), Segment(9.0, 9.0, "c")),
)


def test_cuts_are_numbered_in_the_order_of_time() -> None:
    cuts = plan_cuts(VIDEO, min_score=0.5, top=None, pad_s=0.0)
    assert [(cut.number, cut.start_s, cut.end_s, cut.labels) for cut in cuts] == [
        (1, 1.5, 3.0, ("a",)), (2, 5.0, 6.0, ("b",)), (3, 9.0, 9.04, ("c",)),
    ]  # fmt: skip
    best = plan_cuts(VIDEO, min_score=0.0, top=2, pad_s=0.0)
    assert [cut.labels for cut in best] == [("b",), ("c",)]  # a person's mark is better than any score
    padded = plan_cuts(VIDEO, min_score=0.0, top=None, pad_s=1.25)
    assert [(cut.start_s, cut.end_s) for cut in padded] == [(0.0, 3.25), (0.25, 4.25), (3.75, 7.25), (7.75, 10.25)]


def test_cuts_that_overlap_are_one() -> None:
    cuts = [Cut(0, 2, ("a",), 1), Cut(1, 3, ("b",), 2), Cut(3, 4, ("a",), 3), Cut(5, 6, ("c",), 4)]
    assert merge_cuts(cuts) == [Cut(0, 4, ("a", "b"), 1), Cut(5, 6, ("c",), 4)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=30), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_groups_hold_every_cut_and_no_more_at_once(spans: list[tuple[int, int]], most: int) -> None:
    cuts = [Cut(start, start + length, (), n) for n, (start, length) in enumerate(sorted(spans))]
    groups = overlapping_at_most(cuts, most)
    assert sorted(cut.number for group in groups for cut in group) == list(range(len(cuts)))
    for group in groups:
        for moment in range(75):
            assert sum(cut.start_s <= moment < cut.end_s for cut in group) <= most


@pytest.mark.parametrize(
    ("label", "part"),
    [
        ("Long Jump", "Long_Jump"),
        ("a/b\\c", "a_b_c"),
        ("../../etc", "etc"),
        ("跳 🤸!", "跳"),
        ("nul", "_nul"),
        ("\0\n", "_"),
        ("x" * 300, "x" * 60),
        ("<b>&\"'", "b"),
    ],
)
def test_labels_in_file_names(label: str, part: str) -> None:
    assert safe_part(label) == part


@given(st.text(max_size=300), st.text(max_size=300), st.floats(0, 1e6))
@settings(max_examples=30, deadline=None)
def test_every_name_is_one_that_a_file_can_have(video: str, label: str, start: float) -> None:
    name = name_clip(video, Cut(start, start + 1, (label,), 3), 12)
    require_safe_name(name, ".mp4")
    assert len(f"{name}.mp4".encode()) <= 255
    assert "-03-" in name


def test_a_name_says_what_and_when() -> None:
    assert name_clip("street", Cut(72.44, 75, ("jump",), 3), 12) == "street-03-jump-01m12.4s"
    assert name_clip("street", Cut(59.97, 75, ("jump",), 103), 120) == "street-103-jump-01m00.0s"
    assert name_clip("day1/cam1", Cut(72.44, 75, ("jump",), 3), 12) == "day1_cam1-03-jump-01m12.4s"
    deep = f"{'store' * 20}/2026-01-31/cam1"  # what tells most of the video stands last
    assert name_clip(deep, Cut(72.44, 75, ("jump",), 3), 12) == "2026-01-31_cam1-03-jump-01m12.4s"


def test_segments_outside_the_video_or_reversed_are_no_cuts() -> None:
    times = [(5.0, 4.0), (3.0, 3.0), (-5.0, -2.0), (-5.0, 2.0), (9.5, 50.0), (100.0, 200.0)]
    video = VideoSegments("v", tuple(Segment(start, end, "a") for start, end in times), duration_s=10.0)
    cuts = plan_cuts(video, min_score=0.0, top=None, pad_s=0.0)
    assert [(cut.start_s, cut.end_s) for cut in cuts] == [(0.0, 2.0), (3.0, 3.04), (9.5, 50.0)]


CAMERA = "Security_camera_recording_of_the_northern_entrance_2026-11-30_cam"


@pytest.mark.parametrize(
    ("first", "second"), [("a b", "a_b"), ("a/x", "a_x"), ("a", "A"), (f"{CAMERA}1", f"{CAMERA}2")]
)
def test_clips_of_videos_whose_names_become_the_same_have_names_of_their_own(first: str, second: str) -> None:
    """Also on file systems that take capital letters and small ones for the same."""
    cuts, taken = [Cut(1.0, 2.0, ("run",), 1), Cut(3.0, 4.0, ("run",), 2)], set[str]()
    names = [*name_clips(first, cuts, taken), *name_clips(second, cuts, taken)]
    assert len({name.lower() for name in names}) == 4
    assert names[:2] == [name_clip(first, cut, 2) for cut in cuts]
    assert names[2:] == [f"{name_clip(second, cut, 2)}-2" for cut in cuts]
