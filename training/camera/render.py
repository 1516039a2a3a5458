"""Render an edit to frames: the views of its shots, mixed in dissolves, faded, under bars and a caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from training.camera.edit import Edit, brightness, visible
from training.camera.footage import Footage, Image
from training.camera.view import CLIP_SHARE, LIVELY_CLIP_SHARE, TEXTURE_SHARE, Picture, View
from training.synthetic.scene import Stream

BARS_SHARE, CAPTION_SHARE = 0.12, 0.15
"""Shares of the videos with black bars, and with a caption, neither of which moves."""
WORDS = ("live", "news", "12:45", "part two", "la mer", "episode", "1987", "goal", "week 3", "interview")


def render(edit: Edit, footage: Sequence[Footage]) -> Iterator[Image]:
    """Yield the frames of the video, uint8 [height, width, 3] RGB.

    Args:
        footage: pictures and clips that shots may show; at least one picture.
    """
    rng = edit.seed.rng(Stream.LOOKS)
    views = dict(zip((shot.span for shot in edit.shots), _open_views(edit, footage, rng), strict=True))
    cover = _draw_cover(edit, rng)
    for k in range(edit.frames):
        frame = np.zeros((edit.height, edit.width, 3), np.float32)
        for shot, weight in visible(edit, k):
            frame += weight * views[shot.span].frame(k)
        share, white = brightness(edit, k)
        frame = share * frame + (1 - share) * (255.0 if white else 0.0)
        yield np.clip(cover(frame), 0, 255).astype(np.uint8)


def _open_views(edit: Edit, footage: Sequence[Footage], rng: np.random.Generator) -> list[View]:
    """Choose what each shot shows; neighbours show different footage, unless the cut is a jump within it."""
    pictures, clips = [f for f in footage if not f.is_clip], [f for f in footage if f.is_clip]
    views: list[View] = []
    shown: Footage | None = None
    for shot in edit.shots:
        kind = rng.random()
        among = clips if clips and kind < (LIVELY_CLIP_SHARE if shot.lively else CLIP_SHARE) else pictures
        drawn = [f for f in among if f is not shown] or among
        chosen = drawn[int(rng.integers(len(drawn)))] if kind < 1 - TEXTURE_SHARE else None
        shown = shown if shot.like_last else chosen
        views.append(View(edit, shot, shown, pictures))
    return views


class _Cover:
    """Draws black bars and a caption over frames."""

    def __init__(self, bars: tuple[int, int], caption: Picture | None) -> None:
        self._bars, self._caption = bars, caption

    def __call__(self, frame: Picture) -> Picture:
        """Cover the frame in place and return it."""
        across, down = self._bars
        if across:
            frame[:, :across] = frame[:, -across:] = 0
        if down:
            frame[:down] = frame[-down:] = 0
        if self._caption is not None:
            np.maximum(frame, self._caption, out=frame)
        return frame


def _draw_cover(edit: Edit, rng: np.random.Generator) -> _Cover:
    across = down = 0
    if rng.random() < BARS_SHARE:
        share = rng.uniform(0.06, 0.16)
        across, down = (round(share * edit.width), 0) if rng.random() < 0.4 else (0, round(share * edit.height))
    caption = None
    if rng.random() < CAPTION_SHARE:
        drawn = np.zeros((edit.height, edit.width, 3), np.uint8)
        words = " ".join(rng.permutation(WORDS)[: int(rng.integers(1, 3))])
        place = (int(rng.uniform(0.02, 0.4) * edit.width), int(rng.uniform(0.8, 0.97) * edit.height))
        cv2.putText(drawn, words, place, cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.3, 0.6), (235, 235, 235), 1)
        caption = drawn.astype(np.float32)
    return _Cover((across, down), caption)
