"""From annotated videos to training clips, as a configuration wants them cut; frames and features alike."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.common.console import print_warning
from training.config.settings import DataConfig
from training.data.annotations import FrameAnnotation
from training.data.clips import Clip, cut_clips, whole_video_clips


def cut(videos: Sequence[FrameAnnotation], data: DataConfig, clip_length: int) -> list[Clip]:
    """The training clips of annotated videos, as `data` wants them cut."""
    if data.sampling == "whole_video":
        return whole_video_clips(videos, clip_length=clip_length, rearrangement=data.rearrangement)
    return cut_clips(
        videos,
        clip_length=clip_length,
        stride=data.clip_stride,
        window=data.clip_window,
        rearrangement=data.rearrangement,
        keep=data.keep_share,
        store=data.store_share,
    )


def warn_without_clips(
    annotated: Sequence[FrameAnnotation], clips: Sequence[Clip], clip_length: int, unit: str = "frames of the video"
) -> None:
    """Say which videos with actions give no clip."""
    without = sorted({video.name for video in annotated if video.instances} - {clip.video for clip in clips})
    if without:
        print_warning(
            f"{len(without)} of {len(annotated)} videos give no clip to train on, the first is {without[0]!r}: no "
            f"action of theirs lies completely within {clip_length} {unit}"
        )
