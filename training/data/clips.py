"""Cut training clips: windows of a video with their instances and boundary maps (as AFSD's data code)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.windows import window_offsets
from training.data.annotations import FrameAnnotation, FrameInstance

KEEP_IOA = 0.5
"""Smallest share of an instance inside a window with which the instance is a target there."""
STORE_IOA = 1.0
"""Smallest share inside a window that at least one instance needs for the window to be trained on."""
BOUNDARY_SHARE = 10
"""Divisor of an instance's length that gives the width of its start and end regions (AFSD, section 3.4)."""
MIN_BOUNDARY = 2.0
"""Smallest width of a start or end region, frames."""


ClipWindow = Literal["correct", "reference"]
"""First frame of a window: `offset`, or `offset + 1` as in the released code ("reference"), in which an action from the
window's first frame on is never entirely inside."""
PieceRule = Literal["thumos14", "activitynet"]
"""Length th of the background piece that is moved into an action: the shortest action, rounded up; or a quarter of its
whole frames, rounded down, which may be 0 (released ActivityNet code)."""
ACTIVITYNET_PIECES = 4
"""Divisor of the shortest action that gives th by the rule "activitynet"."""


@dataclass(frozen=True)
class Clip:
    """Describes one window of a video with its targets, in frames from the window's start."""

    video: str
    offset: int
    """First sampled frame of the window."""
    length: int
    """Frames of the video in the window, at most the clip length; the rest is padding."""
    instances: tuple[FrameInstance, ...]
    """Instances clipped to the window, in the order of the annotations; at least one."""
    background_length: int
    """Frames th of the background piece in contrastive training (section 3.4); one value for a whole video."""


def cut_clips(
    videos: Iterable[FrameAnnotation],
    *,
    clip_length: int,
    stride: int,
    window: ClipWindow = "correct",
    rearrangement: PieceRule = "thumos14",
    keep: float = KEEP_IOA,
    store: float = STORE_IOA,
) -> list[Clip]:
    """Cut the clips of all videos, in their order; a video without a complete instance in any window gives none.

    Args:
        clip_length: T, frames of a clip; shorter videos give one clip that is padded when loaded.
        stride: frames between neighbouring windows.
        window: see `ClipWindow`.
        rearrangement: see `PieceRule`.
        keep: smallest share of an instance inside a window with which it is a target there, clipped to the window.
        store: smallest share that at least one instance needs for the window to be trained on.
    """
    clips: list[Clip] = []
    for video in videos:
        shortest = shortest_instance(video, clip_length, stride, window, keep)
        length, th = min(video.frames, clip_length), _piece_length(shortest, rearrangement)
        clips += [
            Clip(video.name, offset, length, kept, th)
            for offset, share, kept in _windows(video, clip_length, stride, window, keep)
            if kept and share >= store
        ]
    return clips


def cut_whole_videos(
    videos: Iterable[FrameAnnotation], *, clip_length: int, rearrangement: PieceRule = "activitynet"
) -> list[Clip]:
    """Cut one clip per video with instances, from its first frame; no instance is clipped or left out (ActivityNet).

    Args:
        clip_length: T, frames; a longer video is cut off there.
        rearrangement: see `PieceRule`.
    """
    return [
        Clip(
            video.name,
            0,
            min(video.frames, clip_length),
            video.instances,
            _piece_length(min([clip_length, *(i.length for i in video.instances)]), rearrangement),
        )
        for video in videos
        if video.instances
    ]


def boundary_maps(instances: Sequence[FrameInstance], clip_length: int) -> NDArray[np.float32]:
    """Mark where instances start (row 0) and end (row 1): float32 [2, clip_length] of zeros and ones.

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


def find_unseen_instances(
    video: FrameAnnotation, *, clip_length: int, stride: int, keep: float = KEEP_IOA
) -> tuple[FrameInstance, ...]:
    """Return the instances that are a target in no window: too long for a window, or cut by all windows."""
    offsets = window_offsets(video.frames, clip_length, stride)
    return tuple(
        instance
        for instance in video.instances
        if all(_share_inside(instance, offset, offset + clip_length) < keep for offset in offsets)
    )


def repeat_rare(clips: Sequence[Clip], share: float, seed: int) -> list[Clip]:
    """Repeat clips with rare classes, so that the frequencies of the classes differ less.

    Repeat-factor sampling (Gupta et al., LVIS, CVPR 2019): a class that a share f of the clips shows has the factor
    r = max(1, √(share / f)), and a clip has that of its rarest class; the fractional part of r is drawn at random.

    Args:
        clips: clips of all videos.
        share: share of the clips below which a class is repeated; 0: no class is.
        seed: seed of the draws.
    """
    shown = Counter(label for clip in clips for label in {i.label for i in clip.instances})
    factors = {label: max(1.0, math.sqrt(share * len(clips) / count)) for label, count in shown.items()}
    rng = Random(f"repeat {seed}")
    many: list[Clip] = []
    for clip in clips:
        factor = max(factors[i.label] for i in clip.instances)
        many += [clip] * (math.floor(factor) + (rng.random() < factor % 1))
    return many


def shortest_instance(
    video: FrameAnnotation, clip_length: int, stride: int, window: ClipWindow = "correct", keep: float = KEEP_IOA
) -> float:
    """Return the frames of the shortest instance in any window, clipped to the window; at most clip_length.

    Windows that are not trained on count too. In a video that fits into one clip the unclipped lengths count as well.
    """
    lengths = [i.length for _, _, kept in _windows(video, clip_length, stride, window, keep) for i in kept]
    if video.frames <= clip_length:
        lengths += [i.length for i in video.instances]
    return min([clip_length, *lengths])


def _piece_length(shortest: float, rule: PieceRule) -> int:
    return math.ceil(shortest) if rule == "thumos14" else math.floor(shortest) // ACTIVITYNET_PIECES


def _windows(
    video: FrameAnnotation, clip_length: int, stride: int, window: ClipWindow, keep: float
) -> Iterator[tuple[int, float, tuple[FrameInstance, ...]]]:
    """Yield offset, largest share of an instance inside, and kept instances as clipped, for every window."""
    first = 0 if window == "correct" else 1
    for offset in window_offsets(video.frames, clip_length, stride):
        shares = [_share_inside(instance, offset + first, offset + clip_length) for instance in video.instances]
        kept = tuple(
            FrameInstance(max(i.start - offset, first), min(i.end - offset, clip_length), i.label)
            for i, share in zip(video.instances, shares, strict=True)
            if share >= keep
        )
        yield offset, max(shares, default=0.0), kept


def _share_inside(instance: FrameInstance, left: int, right: int) -> float:
    """Return the intersection with [left, right] over the instance's length; negative if the instance lies outside."""
    return (min(right, instance.end) - max(left, instance.start)) / instance.length
