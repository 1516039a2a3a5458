"""Count the published THUMOS14 training set from its tables alone, and compare with the released code's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.annotations.activitynet import parse_annotations
from runtime.annotations.thumos14 import CLASS_IDS
from runtime.windows import window_offsets
from training.data.annotations import FrameAnnotation, to_sampled_frames
from training.data.clips import Clip, boundary_maps, cut_clips, shortest_instance
from training.preparation.preparation_report import Findings
from training.preparation.thumos14 import ThumosTables, find_faults, make_database, read_tables, to_frame_annotations

CLIP_LENGTH, TRAIN_STRIDE, TEST_STRIDE = 256, 30, 128
LAST_BIT = 2.0**-51
"""Largest relative difference from one rounding in the last bit, before and after a division."""


@dataclass(frozen=True)
class CheckValue:
    """Compares one number (or list) with that of the published data set."""

    what: str
    got: str
    expected: str

    @property
    def agrees(self) -> bool:
        return self.got == self.expected


def check_thumos14(tables_dir: Path) -> tuple[list[CheckValue], Findings]:
    """Return the check values and the faults of the tables; no video is needed.

    Raises:
        AnnotationError: a table is missing or malformed.
    """
    training, test = read_tables(tables_dir, "val"), read_tables(tables_dir, "test")
    found = Findings()
    find_faults(training, "keep", found)
    find_faults(test, "keep", found)
    videos = to_frame_annotations(training)
    clips = _cut_published_clips(videos)
    values = [*_clip_values(videos, clips), *_sample_values(clips), *_test_values(to_frame_annotations(test))]
    return [*values, *_file_values(training, clips)], found


def _cut_published_clips(videos: Sequence[FrameAnnotation]) -> list[Clip]:
    return cut_clips(videos, clip_length=CLIP_LENGTH, stride=TRAIN_STRIDE, window="reference")


def _clip_values(videos: Sequence[FrameAnnotation], clips: Sequence[Clip]) -> Iterator[CheckValue]:
    counts = [len(clip.instances) for clip in clips]
    th = [math.ceil(shortest_instance(video, CLIP_LENGTH, TRAIN_STRIDE, "reference")) for video in videos]
    candidates = sum(any(i.length > 2 * clip.background_length for i in clip.instances) for clip in clips)
    windows = sum(len(window_offsets(video.frames, CLIP_LENGTH, TRAIN_STRIDE)) for video in videos if video.instances)
    quartiles = " ".join(f"{value:g}" for value in np.percentile(th, [0, 25, 50, 75, 100])) if th else "none"
    mean_and_most = f"{np.mean(counts):.2f} {max(counts)}" if counts else "none"
    yield CheckValue("training videos with clips", str(len({clip.video for clip in clips})), "196")
    yield CheckValue("training windows", str(windows), "12530")
    yield CheckValue("training clips", str(len(clips)), "7842")
    yield CheckValue("instances per clip, mean and most", mean_and_most, "2.86 26")
    yield CheckValue("th at 0 25 50 75 100 % of the videos", quartiles, "2 10 19 26.25 256")
    yield CheckValue("clips with a candidate for rearrangement", str(candidates), "6632")


def _sample_values(clips: Sequence[Clip]) -> Iterator[CheckValue]:
    for number, expected in (
        (0, "video_validation_0000051 510 th 27: 165-249 class 3, start 161-169, end 245-253"),
        (
            1234,
            "video_validation_0000181 810 th 7: 57.6113-71.605 class 6, start 57-59, end 71-73; "
            "68.6064-80.601 class 7, start 68-70, end 80-82",
        ),
    ):
        got = _describe(clips[number]) if number < len(clips) else "none"
        yield CheckValue(f"clip {number}", got, expected)


def _describe(clip: Clip) -> str:
    parts = []
    for i in clip.instances:
        start, end = (np.flatnonzero(row) for row in boundary_maps([i], CLIP_LENGTH))
        times = f"{round(i.start, 4):g}-{round(i.end, 4):g}"
        parts.append(f"{times} class {i.label}, start {start[0]}-{start[-1]}, end {end[0]}-{end[-1]}")
    return f"{clip.video} {clip.offset} th {clip.background_length}: {'; '.join(parts)}"


def _test_values(videos: Sequence[FrameAnnotation]) -> Iterator[CheckValue]:
    windows = sum(len(window_offsets(video.frames, CLIP_LENGTH, TEST_STRIDE)) for video in videos)
    yield CheckValue("test videos", str(len(videos)), "212")
    yield CheckValue("test windows", str(windows), "3485")
    yield CheckValue("short test videos", str(sum(video.frames < CLIP_LENGTH for video in videos)), "3")


def _file_values(tables: ThumosTables, clips: Sequence[Clip]) -> Iterator[CheckValue]:
    """Compare the clips with those from the annotation file that `afsd prepare thumos14 --faults keep` writes."""
    written = parse_annotations({"database": make_database(tables, "val", "keep")}, "annotations.json")
    sampled = {video.name: video for video in tables.videos}
    again = _cut_published_clips(
        [
            to_sampled_frames(
                video,
                frames=sampled[video.name].sampled,
                sample_fps=sampled[video.name].sample_fps,
                classes=tuple(CLASS_IDS),
            )
            for video in written
        ]
    )
    same = sum(map(_is_equal, clips, again)) if len(clips) == len(again) else 0
    yield CheckValue("the same clips from annotations.json", str(same), str(len(clips)))


def _is_equal(a: Clip, b: Clip) -> bool:
    """Return whether two clips are equal up to the last bit of a time, and have equal boundary maps."""
    if (a.video, a.offset, a.length, a.background_length) != (b.video, b.offset, b.length, b.background_length):
        return False
    if [i.label for i in a.instances] != [i.label for i in b.instances]:
        return False
    times = [
        (x, y) for i, j in zip(a.instances, b.instances, strict=True) for x, y in ((i.start, j.start), (i.end, j.end))
    ]
    close = all(abs(x - y) <= LAST_BIT * (a.offset + CLIP_LENGTH) for x, y in times)
    return close and bool((boundary_maps(a.instances, CLIP_LENGTH) == boundary_maps(b.instances, CLIP_LENGTH)).all())
