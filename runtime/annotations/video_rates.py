"""Compare the frame rates that annotations give with those that the video files declare."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.log import LOGGER
from runtime.errors import VideoError
from runtime.video.readers.choice import open_reader
from runtime.video.sampling import MAX_FPS

RATE_TOLERANCE = 0.02
"""Share by which an annotated frame rate may differ from the file's: 30 passes for 29.97, 24 does not for 25."""


def rates_differ(annotated: float | None, declared: float | None) -> bool:
    """Return whether two frame rates differ; False if one of them is unknown or is a time base.

    Args:
        annotated: frames per second of the annotations.
        declared: frames per second of the file.
    """
    if annotated is None or declared is None or declared >= MAX_FPS:
        return False
    return abs(annotated - declared) > RATE_TOLERANCE * declared


def warn_of_other_rates(videos: Sequence[VideoAnnotation], files: Sequence[Path]) -> None:
    """Log one warning if files declare other frame rates than their annotations give.

    Args:
        videos: annotations; videos without `fps` are skipped.
        files: paths of the videos, in the order of `videos`; those that cannot be opened are skipped.
    """
    known = [(video, file) for video, file in zip(videos, files, strict=True) if video.fps is not None]
    others = []
    for video, file in known:
        try:
            reader = open_reader(file)
        except VideoError:  # reading the video will tell
            continue
        with closing(reader):
            if rates_differ(video.fps, reader.fps):
                others.append(f"{video.name} is annotated with {video.fps:g} fps and its file has {reader.fps:g}")
    if others:
        LOGGER.warning(
            f"{len(others)} of {len(known)} videos have another frame rate than their annotations say: {others[0]}; "
            "times are taken as seconds, so check that they were not made from frame numbers with the wrong rate"
        )
