"""Clips: the rules on hand-made videos, and the published numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.shared import shared
from training.data.annotations import FrameAnnotation, FrameInstance
from training.data.clips import Clip, boundary_maps, cut_clips, cut_whole_videos, shortest_instance
from training.preparation.thumos14 import read_table_files, to_frame_annotations


def video(frames: int, *instances: tuple[float, float]) -> FrameAnnotation:
    return FrameAnnotation("v", frames, tuple(FrameInstance(s, e, 3) for s, e in instances))


def cut(annotation: FrameAnnotation) -> list[Clip]:
    """As published."""
    return cut_clips([annotation], clip_length=100, stride=30, window="reference")


def test_nothing_gives_no_clips() -> None:
    assert cut_clips([], clip_length=100, stride=30) == []
    assert cut(video(500)) == []
    assert shortest_instance(video(500), 100, 30) == 100


@pytest.mark.parametrize(("start", "kept"), [(0.0, 0.0), (0.9, 0.9)])
def test_an_action_from_the_first_frame_is_complete_by_default(start: float, kept: float) -> None:
    (clip,) = cut_clips([video(40, (start, 20))], clip_length=100, stride=30)
    assert clip.instances == (FrameInstance(kept, 20, 3),)
    (clip,) = cut_clips([video(130, (30, 33), (10, 50))], clip_length=100, stride=30)[1:]
    assert (clip.offset, clip.instances) == (30, (FrameInstance(0, 3, 3), FrameInstance(0, 20, 3)))


def test_a_whole_video_is_one_clip_with_its_instances_as_they_are() -> None:
    long, bare = video(900, (5, 30.9), (700, 850.5)), video(50)
    clips = cut_whole_videos([bare, long], clip_length=768)
    assert clips == [Clip("v", 0, 768, long.instances, 6)]  # floor(25.9) = 25, 25 / 4 = 6.25
    assert cut_whole_videos([video(40, (1, 4.9))], clip_length=768)[0].background_length == 0
    assert cut_whole_videos([long], clip_length=768, rearrangement="thumos14")[0].background_length == 26
    assert boundary_maps(clips[0].instances, 768)[:, -1].tolist() == [
        0,
        1,
    ]  # at its last frame


def test_a_short_video_gives_one_clip() -> None:
    assert cut(video(40, (5, 20))) == [Clip("v", 0, 40, (FrameInstance(5, 20, 3),), 15)]


@pytest.mark.parametrize("start", [0.0, 0.9])
def test_an_action_from_the_first_frame_is_never_complete(start: float) -> None:
    assert cut(video(40, (start, 20))) == []


def test_a_clip_needs_a_complete_action_and_keeps_half_ones_clipped() -> None:
    """Windows at 0, 30, 50 of a video of 150 frames; the second action lies 60 % in the first window."""
    clips = cut(video(150, (10, 20.5), (40, 140), (2, 2.5)))
    assert [(c.offset, c.instances) for c in clips] == [
        (0, (FrameInstance(10, 20.5, 3), FrameInstance(40, 100, 3), FrameInstance(2, 2.5, 3))),
    ]
    clips = cut(video(150, (52, 58), (40, 140)))
    assert [(c.offset, c.instances) for c in clips] == [
        (0, (FrameInstance(52, 58, 3), FrameInstance(40, 100, 3))),
        (30, (FrameInstance(22, 28, 3), FrameInstance(10, 100, 3))),
        (50, (FrameInstance(2, 8, 3), FrameInstance(1, 90, 3))),
    ]
    assert {c.background_length for c in clips} == {6}


def test_windows_that_are_not_stored_count_for_the_shortest_instance() -> None:
    annotation = video(130, (28.5, 34.5))  # the second window, at 30, keeps [1, 4.5], 3.5 of 6 frames
    assert [c.offset for c in cut(annotation)] == [0]
    assert shortest_instance(annotation, 100, 30, "reference") == 3.5


def test_unclipped_lengths_count_in_a_short_video() -> None:
    annotation = video(40, (-10, -2), (1, 21))
    assert shortest_instance(annotation, 100, 30) == 8


def slow_maps(instances: list[tuple[float, float]], length: int) -> np.ndarray:
    maps = np.zeros((2, length))
    for start, end in instances:
        half = max((end - start) / 10, 2) / 2
        for row, centre in enumerate((start, end)):
            low, high = np.clip(np.rint([centre - half, centre + half]), 0, length - 1)
            for i in range(length):
                if low <= i <= high:
                    maps[row, i] = 1
    return maps


@pytest.mark.parametrize(
    "instances",
    [[], [(1, 100)], [(10, 20)], [(10.5, 70.5)], [(99, 100)], [(1, 1.5)], [(3.25, 38.5), (30, 99.75), (50, 52)]],
)
def test_boundary_maps_equal_a_slow_loop(instances: list[tuple[float, float]]) -> None:
    maps = boundary_maps([FrameInstance(s, e, 1) for s, e in instances], 100)
    assert maps.dtype == np.float32
    np.testing.assert_array_equal(maps, slow_maps(instances, 100))


def test_boundary_maps_round_half_to_even() -> None:
    maps = boundary_maps([FrameInstance(11.5, 31.5, 1)], 64)
    assert np.flatnonzero(maps[0]).tolist() == [10, 11, 12]  # 10.5 → 10, 12.5 → 12


def test_the_published_training_set() -> None:
    """Check values measured with the released code."""
    folder = shared("data/thumos14")
    videos = to_frame_annotations(read_table_files(folder / "val_video_info.csv", folder / "val_Annotation_ours.csv"))
    clips = cut_clips(videos, clip_length=256, stride=30, window="reference")
    counts = [len(clip.instances) for clip in clips]
    assert (len(clips), len({clip.video for clip in clips}), max(counts)) == (7842, 196, 26)
    assert round(float(np.mean(counts)), 2) == 2.86
    lengths = [math.ceil(shortest_instance(v, 256, 30, "reference")) for v in videos]
    np.testing.assert_array_equal(np.percentile(lengths, [0, 25, 50, 75, 100]), [2, 10, 19, 26.25, 256])

    assert clips[0] == Clip("video_validation_0000051", 510, 256, (FrameInstance(165, 249, 3),), 27)
    start, end = boundary_maps(clips[0].instances, 256)
    assert np.flatnonzero(start).tolist() == list(range(161, 170))
    assert np.flatnonzero(end).tolist() == list(range(245, 254))

    clip = clips[1234]
    assert (clip.video, clip.offset, clip.background_length) == ("video_validation_0000181", 810, 7)
    rows = [(i.start, i.end, i.label) for i in clip.instances]
    np.testing.assert_allclose(rows, [(57.6113, 71.6050, 6), (68.6064, 80.6010, 7)], atol=5e-5)
    start, end = boundary_maps(clip.instances, 256)
    assert np.flatnonzero(start).tolist() == [57, 58, 59, 68, 69, 70]
    assert np.flatnonzero(end).tolist() == [71, 72, 73, 80, 81, 82]
