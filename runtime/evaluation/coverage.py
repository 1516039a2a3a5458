"""Say which annotated videos the detections lack, and which of their videos are not annotated."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.text import counted, some
from runtime.evaluation.matching import Rule
from runtime.results.detections import Detections
from runtime.video.names import find_name


def describe_coverage(found: Sequence[Detections], truth: Sequence[VideoAnnotation], rule: Rule) -> str:
    """Return a line on the videos that only the annotations or only the detections have; empty if there are none."""
    known, there = {video.name for video in truth}, {part.video for part in found}
    missing = [video.name for video in truth if find_name(video.name, there) is None]
    others = list(dict.fromkeys(part.video for part in found if len(part) and find_name(part.video, known) is None))
    parts = []
    if missing:
        parts.append(
            f"{len(missing)} of {counted(len(truth), 'annotated video')} {'has' if len(missing) == 1 else 'have'} no "
            f"detections ({some(missing)}), so what is annotated there counts as missed"
        )
    if others:
        counts = "false positives by this rule" if rule == "thumos14" else "not judged"
        parts.append(
            f"{counted(len(others), 'video')} with detections {'is' if len(others) == 1 else 'are'} not annotated "
            f"({some(others)}): {counts}"
        )
    return "; ".join(parts)
