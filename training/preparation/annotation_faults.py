"""Find faults of annotations in seconds, in themselves and against their video files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from runtime.annotations.activitynet import VideoAnnotation, class_names
from runtime.annotations.video_rates import rates_differ
from runtime.errors import AnnotationError
from training.data.folds import read_list
from training.preparation.preparation_report import Findings
from training.stores.frame_store import FrameStore, StoredVideo

DURATION_TOLERANCE = 0.02
"""Share of the file's duration by which the annotated duration may differ."""
DURATION_TOLERANCE_S = 0.5
"""Seconds by which an annotated duration may differ if this is more than the share."""


def note_annotations(
    videos: Sequence[VideoAnnotation], durations: Mapping[str, float], found: Findings, slack_s: float = 0.0
) -> None:
    """Note faults of annotations in seconds, in themselves and against the durations of their files.

    Args:
        videos: annotated videos of the data set.
        durations: seconds of the videos that have a file.
        found: receives the findings.
        slack_s: seconds by which an action may end after its video without being noted.
    """
    for video in videos:
        if not video.instances:
            found.note("videos without any action", video.name)
        empty = sum(instance.end_s <= instance.start_s for instance in video.instances)
        found.note("actions without length, left out in training", video.name, count=empty)
        if video.name in durations:
            _note_times(video, durations[video.name], found, slack_s)
    for label, subset in _find_labels_of_one_subset(videos).items():
        found.note(f"classes that only subset {subset!r} has", label)


def note_rates(videos: Iterable[VideoAnnotation], store: FrameStore, found: Findings) -> None:
    """Note videos whose annotated frame rate differs from that of their file, with both rates."""
    for video in videos:
        stored = store.videos.get(video.name)
        if stored is not None and rates_differ(video.fps, stored.source_fps):
            where = f"{video.name} ({video.fps:g} fps, file {stored.source_fps:g})"
            found.note("annotated frame rates that disagree with the file", where)


def list_classes(videos: Sequence[VideoAnnotation], path: Path | None) -> tuple[str, ...]:
    """Return the classes in the list `path`, one a line, or without a list all labels, sorted.

    Raises:
        AnnotationError: a label that is not in the list.
        InputError: the list cannot be read.
    """
    there = class_names(videos)
    known = there if path is None else read_list(path)
    unknown = sorted(set(there) - set(known))
    if unknown:
        raise AnnotationError(
            f"{path}: lacks {len(unknown)} of the {len(there)} labels of the annotations, the first is {unknown[0]!r}; "
            "add it, or correct the annotations"
        )
    return known


def read_durations(store: FrameStore) -> dict[str, float]:
    """Return the seconds of the video files that a store's arrays were made from, where known."""
    durations = ((name, _duration(stored)) for name, stored in store.videos.items())
    return {name: duration for name, duration in durations if duration is not None}


def _note_times(video: VideoAnnotation, duration_s: float, found: Findings, slack_s: float) -> None:
    allowed = max(DURATION_TOLERANCE * duration_s, DURATION_TOLERANCE_S)
    if video.duration_s is not None and abs(video.duration_s - duration_s) > allowed:
        found.note("annotated durations that disagree with the file", video.name)
    late = sum(instance.end_s > duration_s + slack_s for instance in video.instances)
    found.note("actions that end after the last frame", video.name, count=late)


def _duration(stored: StoredVideo) -> float | None:
    """Return the seconds of the video file that an array was made from; None: unknown."""
    if not stored.source_fps or stored.source_frames is None:
        return None
    return stored.source_frames / stored.source_fps


def _find_labels_of_one_subset(videos: Iterable[VideoAnnotation]) -> dict[str, str]:
    """Map each label of only one subset to that subset, if the file has several subsets."""
    subsets: dict[str, set[str]] = {}
    seen = set()
    for video in videos:
        seen.add(video.subset)
        for instance in video.instances:
            subsets.setdefault(instance.label, set()).add(video.subset)
    return {label: min(where) for label, where in sorted(subsets.items()) if len(where) == 1 < len(seen)}
