"""Training clips: which windows of a video are trained on, with which instances and boundary maps (AFSD data code)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.windows import window_offsets
from training.data.annotations import FrameAnnotation, FrameInstance

KEEP_IOA = 0.5
"""Share of an instance that must lie within a window for it to be a target there."""
STORE_IOA = 1.0
"""At least one instance of a window must lie within it by this share, or the window is not trained on."""
BOUNDARY_SHARE = 10
"""The start and end regions of an instance are 1/10 of its length wide (AFSD, section 3.4) …"""
MIN_BOUNDARY = 2.0
"""… but at least this many frames."""


@dataclass(frozen=True)
class Clip:
    """One window of a video with its targets, in frames from the window's start."""

    video: str
    offset: int
    """First sampled frame."""
    length: int
    """Frames that the video really has here, at most the clip length."""
    instances: tuple[FrameInstance, ...]
    """Clipped to the window, in the order of the annotations; at least one."""
    background_length: int
    """th: frames of the background piece in contrastive training (section 3.4); one value for a whole video."""


def cut_clips(videos: Iterable[FrameAnnotation], *, clip_length: int, stride: int) -> list[Clip]:
    """The clips of all videos, in their order; videos without a complete instance in any window give none.

    Args:
        clip_length: T, frames of a clip; shorter videos give one clip that is padded when loaded.
        stride: frames between neighbouring windows.
    """
    clips: list[Clip] = []
    for video in videos:
        clips += _cut_video(video, clip_length, stride)
    return clips


def boundary_maps(instances: Sequence[FrameInstance], clip_length: int) -> NDArray[np.float32]:
    """Where instances start (row 0) and end (row 1): float32 [2, clip_length] of zeros and ones.

    The region around a boundary b has width d = max(length/10, 2) and covers frames round(b − d/2) … round(b + d/2),
    both included, rounded half to even and clipped to the clip (supervision of the boundary features, section 3.4).
    """
    maps = np.zeros((2, clip_length), np.float32)
    for instance in instances:
        reach = max(instance.length / BOUNDARY_SHARE, MIN_BOUNDARY) / 2
        for row, boundary in enumerate((instance.start, instance.end)):
            first, last = (min(max(round(boundary + side), 0), clip_length - 1) for side in (-reach, reach))
            maps[row, first : last + 1] = 1
    return maps


def background_length(video: FrameAnnotation, clip_length: int, stride: int) -> int:
    """th: the length of the shortest instance in any window as clipped there, rounded up; at most clip_length.

    Windows that are not stored count too. In a video that fits into one clip the unclipped lengths count as well.
    """
    lengths = [i.length for _, _, kept in _windows(video, clip_length, stride) for i in kept]
    if video.frames <= clip_length:
        lengths += [i.length for i in video.instances]
    return math.ceil(min([clip_length, *lengths]))


def _cut_video(video: FrameAnnotation, clip_length: int, stride: int) -> list[Clip]:
    th = background_length(video, clip_length, stride)
    length = min(video.frames, clip_length)
    return [
        Clip(video.name, offset, length, kept, th)
        for offset, complete, kept in _windows(video, clip_length, stride)
        if complete
    ]


def _windows(
    video: FrameAnnotation, clip_length: int, stride: int
) -> Iterator[tuple[int, bool, tuple[FrameInstance, ...]]]:
    """(offset, whether an instance lies entirely inside, the kept instances as clipped to it) of every window."""
    for offset in window_offsets(video.frames, clip_length, stride):
        shares = [_share_inside(instance, offset, clip_length) for instance in video.instances]
        kept = tuple(
            FrameInstance(max(i.start - offset, 1), min(i.end - offset, clip_length), i.label)
            for i, share in zip(video.instances, shares, strict=True)
            if share >= KEEP_IOA
        )
        yield offset, max(shares, default=0.0) >= STORE_IOA, kept


def _share_inside(instance: FrameInstance, offset: int, clip_length: int) -> float:
    """Intersection over the instance's length; negative when it lies outside.

    The window counts as [offset + 1, offset + clip_length], so an instance that starts in the first frame of a
    window is never entirely inside (kept as published).
    """
    inside = min(offset + clip_length, instance.end) - max(offset + 1, instance.start)
    return inside / instance.length
