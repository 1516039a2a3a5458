"""What is odd in annotations in seconds: by themselves, and against the video files they speak of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.annotations import VideoAnnotation
from training.data.frame_store import FrameStore, StoredVideo
from training.data.preparation_report import Findings

DURATION_TOLERANCE = 0.02
"""Share by which an annotated duration may differ from the file's …"""
DURATION_TOLERANCE_S = 0.5
"""… or these seconds, whichever is more."""


def note_annotations(videos: Sequence[VideoAnnotation], store: FrameStore, found: Findings) -> None:
    """What is odd in annotations in seconds, against the files they speak of."""
    for video in videos:
        if not video.instances:
            found.note("videos without any action", video.name)
        empty = sum(instance.end_s <= instance.start_s for instance in video.instances)
        found.note("actions without length, left out in training", video.name, count=empty)
        stored = store.videos.get(video.name)
        if stored is not None:
            _note_times(video, _duration(stored), found)
    for label, subset in _labels_of_one_subset(videos).items():
        found.note(f"classes that only subset {subset!r} has", label)


def _note_times(video: VideoAnnotation, duration_s: float | None, found: Findings) -> None:
    if duration_s is None:
        return
    allowed = max(DURATION_TOLERANCE * duration_s, DURATION_TOLERANCE_S)
    if video.duration_s is not None and abs(video.duration_s - duration_s) > allowed:
        found.note("annotated durations that disagree with the file", video.name)
    late = sum(instance.end_s > duration_s for instance in video.instances)
    found.note("actions that end after the last frame", video.name, count=late)


def _duration(stored: StoredVideo) -> float | None:
    """Seconds of the file an array was made from."""
    if not stored.source_fps or stored.source_frames is None:
        return None
    return stored.source_frames / stored.source_fps


def _labels_of_one_subset(videos: Iterable[VideoAnnotation]) -> dict[str, str]:
    """Label → its only subset, where the file has several subsets."""
    subsets: dict[str, set[str]] = {}
    seen = set()
    for video in videos:
        seen.add(video.subset)
        for instance in video.instances:
            subsets.setdefault(instance.label, set()).add(video.subset)
    return {label: min(where) for label, where in sorted(subsets.items()) if len(where) == 1 < len(seen)}
