"""Training clips: which windows of a video are trained on, with which instances and boundary maps (AFSD data code)."""

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
"""Share of an instance that must lie within a window for it to be a target there."""
STORE_IOA = 1.0
"""At least one instance of a window must lie within it by this share, or the window is not trained on."""
BOUNDARY_SHARE = 10
"""The start and end regions of an instance are 1/10 of its length wide (AFSD, section 3.4) …"""
MIN_BOUNDARY = 2.0
"""… but at least this many frames."""


ClipWindow = Literal["correct", "reference"]
"""A window holds the frames from `offset` to `offset + T`, or from `offset + 1` on as in the released code, for which
an action in a window's first frame is never entirely inside."""
PieceRule = Literal["thumos14", "activitynet"]
"""th, the length of the background piece that is moved into an action: the shortest action, rounded up; or a quarter of
its whole frames, rounded down, which may be 0 (released ActivityNet code)."""
ACTIVITYNET_PIECES = 4
"""That quarter."""


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
    """The clips of all videos, in their order; videos without a complete instance in any window give none.

    Args:
        clip_length: T, frames of a clip; shorter videos give one clip that is padded when loaded.
        stride: frames between neighbouring windows.
        window: see `ClipWindow`.
        rearrangement: see `PieceRule`.
        keep: share of an instance that must lie within a window for it to be a target there; clipped to the window.
        store: share of at least one instance that must lie within a window for it to be trained on.
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


def whole_video_clips(
    videos: Iterable[FrameAnnotation], *, clip_length: int, rearrangement: PieceRule = "activitynet"
) -> list[Clip]:
    """One clip per video with instances, from its first frame; no instance is clipped or left out (ActivityNet).

    Args:
        clip_length: T; a longer video is cut off there.
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


def unseen_instances(
    video: FrameAnnotation, *, clip_length: int, stride: int, keep: float = KEEP_IOA
) -> tuple[FrameInstance, ...]:
    """The instances of a video that are a target in no window: too long for one, or cut by all of them."""
    offsets = window_offsets(video.frames, clip_length, stride)
    return tuple(
        instance
        for instance in video.instances
        if all(_share_inside(instance, offset, offset + clip_length) < keep for offset in offsets)
    )


def repeat_rare(clips: Sequence[Clip], share: float, seed: int) -> list[Clip]:
    """Repeat clips with rare classes, so that each class is seen more nearly alike often.

    Repeat-factor sampling (Gupta et al., LVIS, CVPR 2019): a class that a share f of the clips shows asks for
    r = max(1, √(share / f)) copies, a clip for those of its rarest class; what lies between two whole numbers is drawn.

    Args:
        clips: of all videos.
        share: classes that fewer clips than this show are repeated; 0: none.
        seed: of the draw.
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
    """Frames of the shortest instance in any window as clipped there; at most clip_length.

    Windows that are not stored count too. In a video that fits into one clip the unclipped lengths count as well.
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
    """(offset, largest share of an instance that lies inside, the kept instances as clipped to it) of every window."""
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
    """Intersection with [left, right] over the instance's length; negative when it lies outside."""
    return (min(right, instance.end) - max(left, instance.start)) / instance.length
