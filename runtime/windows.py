"""Cut a stream of frames into overlapping windows with absolute indices, in bounded memory (AFSD test code).

`window_offsets` states the rule for a known number of frames; `WindowBuffer` follows the rule while frames arrive;
`cut_windows` cuts a whole video at once. Features have steps in place of frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError


@dataclass(frozen=True)
class Window:
    """Holds one window of a video, as the network takes it."""

    offset: int
    """Index of the first frame, in sampled frames from the start of the stream."""
    frames: NDArray[Any]
    """Frames [T,H,W,C] uint8 0–255, or features [T,C] float32; padding from `length` on. Windows of a stream share
    memory, so what `WindowBuffer` gives is read-only."""
    length: int
    """Number of valid frames or steps, 1 … T."""


def window_offsets(n: int, length: int, stride: int) -> list[int]:
    """Return the first frame of each window over `n` frames.

    These are 0, stride, 2·stride, … ≤ n − length, then the tail window at n − length unless it is already included.
    Fewer frames than one window give the single offset 0; no frames give none.
    """
    if n <= 0:
        return []
    last = max(n - length, 0)
    offsets = list(range(0, last + 1, stride))
    return offsets if offsets[-1] == last else [*offsets, last]


def pad(steps: NDArray[Any], length: int) -> NDArray[Any]:
    """Return steps [n, …], 1 ≤ n ≤ length, padded with zeros to a new array [length, …]."""
    window = np.zeros((length, *steps.shape[1:]), steps.dtype)
    window[: len(steps)] = steps
    return window


def repeat_last(steps: NDArray[Any], length: int) -> NDArray[Any]:
    """Return steps [n, …], 1 ≤ n ≤ length, padded with the last step to a new array [length, …]."""
    window = pad(steps, length)
    window[len(steps) :] = steps[-1]
    return window


def cut_windows(steps: NDArray[Any], length: int, stride: int) -> Iterator[Window]:
    """Cut the steps [n, …] of a whole video into windows by `window_offsets`; the last one ends with the video.

    Args:
        steps: features [n,C], or frames.
        length: number of steps of a window.
        stride: number of steps between windows; above `length` some steps would be in no window.

    Raises:
        InputError: not 0 < stride ≤ length.
    """
    _require_windows(length, stride, "steps")
    pieces = ((offset, steps[offset : offset + length]) for offset in window_offsets(len(steps), length, stride))
    return (Window(offset, pad(piece, length), len(piece)) for offset, piece in pieces)


def _require_windows(length: int, stride: int, unit: str) -> None:
    if length <= 0 or not 0 < stride <= length:
        raise InputError(f"windows of {length} {unit} every {stride}: expected 0 < stride ≤ length")


class WindowBuffer:
    """Cuts an unbounded stream of frames, or of steps of features, into windows as soon as each is complete.

    Windows are views of blocks, each twice as long as a window. A block is filled once and never written again, so a
    window stays as it is for as long as it is kept; what the next window needs is copied to the next block.
    """

    def __init__(self, length: int, stride: int) -> None:
        _require_windows(length, stride, "frames")
        self._length = length
        self._stride = stride
        self._block: NDArray[Any] | None = None
        self._start = 0
        self._pushed = 0
        self._next_offset = 0
        self._finished = False

    @property
    def pushed(self) -> int:
        """Number of frames taken so far."""
        return self._pushed

    def push(self, frames: NDArray[Any]) -> list[Window]:
        """Take one frame [H,W,C] or a chunk [t,H,W,C] (uint8; t may be 0), or a chunk of steps [t,C]; return the
        windows it completes.

        Raises:
            InputError: a frame of another size than the first, or a push after `finish`.
        """
        if self._finished:
            raise InputError("frames were pushed after finish(); make a new WindowBuffer for the next video")
        chunk = frames[None] if frames.ndim == 3 else frames
        windows = []
        for frame in chunk:
            self._store(frame)
            if self._pushed == self._next_offset + self._length:
                windows.append(self._window(self._next_offset))
                self._next_offset += self._stride
        return windows

    def finish(self) -> list[Window]:
        """End the stream and return the tail window, or the only window of a short video, if any frame is left."""
        self._finished = True
        if self._pushed == 0:
            return []
        last = max(self._pushed - self._length, 0)
        done = self._next_offset > 0 and last == self._next_offset - self._stride
        return [] if done else [self._window(last)]

    def _store(self, frame: NDArray[Any]) -> None:
        if self._block is None:
            self._block = np.zeros((2 * self._length, *frame.shape), frame.dtype)
        if frame.shape != self._block.shape[1:]:
            raise InputError(f"frame {self._pushed} has shape {frame.shape}, expected {self._block.shape[1:]}")
        if self._pushed - self._start == len(self._block):
            full, overlap = self._block, self._length - 1
            self._block = np.empty_like(full)
            self._block[:overlap] = full[len(full) - overlap :]
            self._start = self._pushed - overlap
        self._block[self._pushed - self._start] = frame
        self._pushed += 1

    def _window(self, offset: int) -> Window:
        """Return the frames offset … offset + T − 1, in order, as a view that cannot be written to."""
        assert self._block is not None
        frames = self._block[offset - self._start :][: self._length]
        frames.flags.writeable = False
        return Window(offset, frames, min(self._pushed, self._length))
