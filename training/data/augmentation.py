"""Augmentation of a clip: random crop, horizontal flip, and the rearranged clip of boundary contrastive learning.

Everything random comes from an explicit `random.Random`, drawn in the order in which the functions say it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

from numpy.typing import NDArray

from training.data.annotations import FrameInstance

Span = tuple[float, float]
"""(start, end) in frames of the clip."""


@dataclass(frozen=True)
class Rearrangement:
    """How a background piece is moved into an action (AFSD, section 3.4, Fig. 5); frames count from the clip's start.

    The `th` frames from `piece` on go into the action at its `split`; the frames between the two close the gap.
    """

    piece: int
    split: int
    th: int
    after: bool
    """Whether the piece comes from behind the action (else from before it)."""
    first: Span
    """A1: the part of the action before the piece, in the new clip."""
    second: Span
    """A2: the part of the action after the piece."""
    background: Span
    """Bg: the moved piece."""

    def apply(self, clip: NDArray[Any]) -> NDArray[Any]:
        """The new clip: a rearranged copy of `clip` [T, ...], any dtype, of the same length."""
        p, t, th = self.piece, self.split, self.th
        new = clip.copy()
        if self.after:
            new[t : t + th] = clip[p : p + th]
            new[t + th : p + th] = clip[t:p]
        else:
            new[p : t - th] = clip[p + th : t]
            new[t - th : t] = clip[p : p + th]
        return new


def random_crop(frames: NDArray[Any], size: int, rng: Random) -> NDArray[Any]:
    """A square of `size` pixels at the same random place of all frames [T,H,W,C], as a view; row drawn, then column."""
    height, width = frames.shape[1:3]
    top, left = rng.randint(0, height - size), rng.randint(0, width - size)
    return frames[:, top : top + size, left : left + size]


def random_flip(frames: NDArray[Any], rng: Random) -> NDArray[Any]:
    """Frames [T,H,W,C] mirrored left to right with probability ½, as a view.

    Flow is mirrored in place only, its x component keeps its sign (as published).
    """
    return frames[:, :, ::-1] if rng.random() < 0.5 else frames


def draw_rearrangement(
    instances: Sequence[FrameInstance], th: int, clip_length: int, rng: Random
) -> Rearrangement | None:
    """Choose an action, where to split it, and a background piece; None if the clip offers no such action or piece.

    Drawn in this order: the action among those longer than 2·th, the split point, the background region among those
    longer than th, the piece within it. "Background" is any gap between neighbouring boundaries (of all instances,
    the first and the last frame) that is not itself an instance; so it can lie in a longer action around it, or in
    the padding of a short clip. A piece that begins exactly at the action's end counts as lying before it, and is
    then copied, not moved. (All kept as published.)

    Args:
        instances: of the clip, in frames.
        th: frames of the piece, at least 1.
        clip_length: T.
    """
    candidates = [i for i in instances if i.length > 2 * th]
    if not candidates:
        return None
    action = rng.choice(candidates)
    split = rng.randint(th, math.ceil(action.length - th) - 1) + math.ceil(action.start)
    regions = _background_regions(instances, th, clip_length)
    if not regions:
        return None
    low, high = rng.choice(regions)
    piece = low + rng.randint(0, high - low - th - 1)
    return _place(action, split, piece, th)


def _background_regions(instances: Sequence[FrameInstance], th: int, clip_length: int) -> list[tuple[int, int]]:
    """Whole frames [first, last) of the gaps between neighbouring boundaries that are longer than th."""
    actions = [(i.start, i.end) for i in instances]
    boundaries = sorted([0.0, clip_length - 1.0, *(boundary for action in actions for boundary in action)])
    gaps = [gap for gap in pairwise(boundaries) if gap not in actions]
    whole = [(math.ceil(low), math.floor(high)) for low, high in gaps]
    return [(low, high) for low, high in whole if high - low > th]


def _place(action: FrameInstance, split: int, piece: int, th: int) -> Rearrangement:
    """Where the two parts of the action and the piece lie in the new clip."""
    if action.end < piece:
        return Rearrangement(
            piece,
            split,
            th,
            after=True,
            first=(action.start, split),
            second=(split + th, action.end + th),
            background=(split + 1, split + th - 1),
        )
    return Rearrangement(
        piece,
        split,
        th,
        after=False,
        first=(action.start - th, split - th),
        second=(split, action.end),
        background=(split - th + 1, split - 1),
    )
