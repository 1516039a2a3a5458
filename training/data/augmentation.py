"""Augmentation of a clip: random crop, horizontal flip, and the rearranged clip of boundary contrastive learning.

Everything random comes from an explicit `random.Random`, drawn in the order in which the functions say it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from training.data.annotations import FrameInstance

Span = tuple[float, float]
"""(start, end) in frames of the clip."""

BackgroundRule = Literal["correct", "reference"]
"""Where background is looked for: frames of the video without any action; or any gap between neighbouring boundaries
that is not itself an instance, which can lie in a longer action or in the padding of a short clip (released code)."""

FLOW_LEVELS = 255
"""Flow is stored as 255·(v + 20)/40, so −v is 255 minus that."""


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


def random_flip(frames: NDArray[Any], rng: Random, *, negate_x: bool = False) -> NDArray[Any]:
    """Frames [T,H,W,C] mirrored left to right with probability ½, as a view.

    With `negate_x` they are flow, uint8 (x, y), and x changes its sign too: motion to the left is then to the right.
    """
    if rng.random() >= 0.5:
        return frames
    mirrored = frames[:, :, ::-1]
    return np.stack([FLOW_LEVELS - mirrored[..., 0], mirrored[..., 1]], axis=-1) if negate_x else mirrored


def draw_rearrangement(
    instances: Sequence[FrameInstance],
    th: int,
    clip_length: int,
    rng: Random,
    *,
    background: BackgroundRule = "correct",
    frames: int | None = None,
) -> Rearrangement | None:
    """Choose an action, where to split it, and a background piece; None if the clip offers no such action or piece.

    Drawn in this order: the action among those longer than 2·th, the split point, the background region among those
    longer than th, the piece within it.

    Args:
        instances: of the clip, in frames; they may end beyond it (ActivityNet).
        th: frames of the piece. With 0 there is no piece to move: None, or an empty one as in the released code.
        clip_length: T.
        background: see `BackgroundRule`. In the released code a piece that begins exactly at the action's end counts
            as lying before it, and is then copied, not moved.
        frames: frames of the clip that are not padding; default all.
    """
    reference = background == "reference"
    if th < 1 and not reference:
        return None
    candidates = [i for i in instances if i.length > 2 * th]
    if not candidates:
        return None
    action = rng.choice(candidates)
    split = rng.randint(th, math.ceil(action.length - th) - 1) + math.ceil(action.start)
    gaps = _reference_gaps(instances, clip_length) if reference else _gaps(instances, frames or clip_length)
    whole = [(math.ceil(low), math.floor(high)) for low, high in gaps]
    regions = [(low, high) for low, high in whole if high - low > th]
    if not regions:
        return None
    low, high = rng.choice(regions)
    piece = low + rng.randint(0, high - low - th - 1)
    after = action.end < piece if reference else action.end <= piece
    if max(piece + th, split) > clip_length:  # of an action or a gap that reaches beyond the clip
        return None
    return _place(action, split, piece, th, after)


def _gaps(instances: Sequence[FrameInstance], frames: int) -> list[Span]:
    """What no instance covers between the first and the last frame, in order."""
    last = frames - 1.0
    inside = [b for i in instances for b in (i.start, i.end) if 0 < b < last]
    gaps = pairwise(sorted({0.0, last, *inside}))
    return [(low, high) for low, high in gaps if not any(i.start < high and i.end > low for i in instances)]


def _reference_gaps(instances: Sequence[FrameInstance], clip_length: int) -> list[Span]:
    """Between neighbouring boundaries of all instances, the first and the last frame; all but the instances."""
    actions = [(i.start, i.end) for i in instances]
    boundaries = sorted([0.0, clip_length - 1.0, *(boundary for action in actions for boundary in action)])
    return [gap for gap in pairwise(boundaries) if gap not in actions]


def _place(action: FrameInstance, split: int, piece: int, th: int, after: bool) -> Rearrangement:
    """Where the two parts of the action and the piece lie in the new clip."""
    if after:
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
