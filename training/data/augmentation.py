"""Augment clips: random crop, horizontal flip, and the rearranged clip of boundary contrastive learning.

All random numbers come from an explicit `random.Random`, drawn in the order that each function documents.
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
"""Start and end in frames of the clip."""

BackgroundRule = Literal["correct", "reference"]
"""Origin of the background piece: frames of the video without any action; or any gap between neighbouring boundaries
that is not itself an instance, which can lie in a longer action or in a short clip's padding ("reference", released
code)."""

FLOW_LEVELS = 255
"""Largest value of stored flow, 255·(v + 20)/40; −v is stored as 255 minus the value of v."""


@dataclass(frozen=True)
class Rearrangement:
    """Moves a background piece into an action (AFSD, section 3.4, Fig. 5); frames count from the clip's start.

    The `th` frames from `piece` on move to `split` inside the action; the frames between the two close the gap.
    """

    piece: int
    split: int
    th: int
    after: bool
    """Whether the piece comes from after the action, or from before it."""
    first: Span
    """Span A1 of the action's part before the piece, in the new clip."""
    second: Span
    """Span A2 of the action's part after the piece, in the new clip."""
    background: Span
    """Span Bg of the moved piece, in the new clip."""

    def apply(self, clip: NDArray[Any]) -> NDArray[Any]:
        """Return a rearranged copy of `clip` [T, ...], any dtype, of equal length."""
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
    """Crop all frames [T,H,W,C] to a square of `size` pixels at one random place, as a view; row drawn, then column."""
    height, width = frames.shape[1:3]
    top, left = rng.randint(0, height - size), rng.randint(0, width - size)
    return frames[:, top : top + size, left : left + size]


def random_flip(frames: NDArray[Any], rng: Random, *, negate_x: bool = False) -> NDArray[Any]:
    """Mirror frames [T,H,W,C] left to right with probability ½, as a view.

    With `negate_x` the frames are flow, uint8 (x, y), and x changes its sign: motion to the left becomes motion to the
    right.
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
    """Choose an action, where to split it, and a background piece; None if the clip has no such action or piece.

    The draws are, in this order: the action among those longer than 2·th, the split point, the background region among
    those longer than th, the piece within it.

    Args:
        instances: instances of the clip, in frames; they may end beyond the clip (ActivityNet).
        th: frames of the piece; for 0 the result is None, or with "reference" an empty piece as in the released code.
        clip_length: T, frames.
        background: see `BackgroundRule`. In the released code a piece that begins exactly at the action's end counts
            as lying before the action, and is then copied, not moved.
        frames: frames of the clip that are not padding; default: all.
    """
    reference = background == "reference"
    if th < 1 and not reference:
        return None
    candidates = [i for i in instances if i.length > 2 * th]
    if not candidates:
        return None
    action = rng.choice(candidates)
    split = rng.randint(th, math.ceil(action.length - th) - 1) + math.ceil(action.start)
    gaps = _find_reference_gaps(instances, clip_length) if reference else _find_gaps(instances, frames or clip_length)
    whole = [(math.ceil(low), math.floor(high)) for low, high in gaps]
    regions = [(low, high) for low, high in whole if high - low > th]
    if not regions:
        return None
    low, high = rng.choice(regions)
    piece = low + rng.randint(0, high - low - th - 1)
    after = action.end < piece if reference else action.end <= piece
    if max(piece + th, split) > clip_length:  # the action or the gap reaches beyond the clip
        return None
    return _place(action, split, piece, th, after)


def _find_gaps(instances: Sequence[FrameInstance], frames: int) -> list[Span]:
    """Return the spans between the first and the last frame that no instance covers, in order."""
    last = frames - 1.0
    inside = [b for i in instances for b in (i.start, i.end) if 0 < b < last]
    gaps = pairwise(sorted({0.0, last, *inside}))
    return [(low, high) for low, high in gaps if not any(i.start < high and i.end > low for i in instances)]


def _find_reference_gaps(instances: Sequence[FrameInstance], clip_length: int) -> list[Span]:
    """Return all spans between neighbouring boundaries of instances and clip, except the instances themselves."""
    actions = [(i.start, i.end) for i in instances]
    boundaries = sorted([0.0, clip_length - 1.0, *(boundary for action in actions for boundary in action)])
    return [gap for gap in pairwise(boundaries) if gap not in actions]


def _place(action: FrameInstance, split: int, piece: int, th: int, after: bool) -> Rearrangement:
    """Compute the spans of the action's two parts and of the piece in the new clip."""
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
