"""Read frames from arrays, images and iterables in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.video.readers.base import Frame, Picture

_END = object()


class ArrayReader:
    """Reads frames [H,W,C] and chunks [t,H,W,C] from memory, in any mixture."""

    name = ""
    background = False
    timed = False
    fps: float | None = None
    duration: float | None = None
    time = end = longest_jump = 0.0

    def __init__(self, arrays: Iterable[Any], channels: int, count: int | None = None, whole: bool = False) -> None:
        """Read an iterable, or `whole`: the single item of one; `count` is the number of frames if it is known."""
        self.label = "the frames"
        self._whole = whole
        self.count = count
        self.endless = None if count is None and not whole else False
        self._channels = channels
        self._arrays = iter(arrays)
        self._chunk: Iterator[Frame] = iter(())
        self._frame: Frame = np.empty((0, 0, channels), np.uint8)
        self._grabbed = 0

    def grab(self) -> bool:
        """See `Reader`.

        Raises:
            InputError: an item of the iterable is no frame.
        """
        while (frame := next(self._chunk, None)) is None:
            array = next(self._arrays, _END)
            if array is _END:
                return False
            self._chunk = iter(as_chunk(array, self._channels, "frames" if self._whole else f"frame {self._grabbed}"))
        self._frame = frame
        self._grabbed += 1
        return True

    def hold(self) -> Picture:
        """See `Reader`."""
        frame = self._frame
        return lambda: frame

    def scan(self) -> tuple[int, float] | None:
        """See `Reader`."""
        return None

    def shortfall(self) -> str | None:
        """See `Reader`.

        Raises:
            InputError: there was no frame at all.
        """
        if self._grabbed == 0:
            raise InputError("frames: got none, expected at least one frame")
        return None

    def close(self) -> None:
        """Close a generator."""
        close = getattr(self._arrays, "close", None)
        if close is not None:
            close()


def as_chunk(array: Any, channels: int, name: str = "frames") -> NDArray[np.uint8]:
    """Return a frame [H,W,C] or chunk [t,H,W,C] of uint8 as a chunk [t,H,W,C].

    Args:
        array: the frame or chunk: a NumPy array, a torch tensor on the CPU, or a PIL image (as RGB).
        channels: C expected.
        name: name of the argument in messages.

    Raises:
        InputError: None, other dtype, dimensions or channels, or a frame without pixels.
    """
    kind = "RGB" if channels == 3 else "flow (x, y)"
    expected = f"expected uint8 0–255 [H,W,{channels}] or [T,H,W,{channels}] ({kind})"
    if array is None:  # what OpenCV's read() gives for a frame that was dropped
        raise InputError(f"{name}: got None, {expected}; leave it out, or give the frame before it again to keep time")
    if channels == 3 and hasattr(array, "convert") and hasattr(array, "getbands"):
        array = array.convert("RGB")
    try:
        value = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU, a ragged list
        raise InputError(
            f"{name}: got {type(array).__name__} that is no array ({str(error).splitlines()[0]}); {expected}"
        ) from None
    if value.dtype == object:
        raise InputError(f"{name}: got {type(array).__name__}, {expected}; convert it first")
    if value.dtype != np.uint8:
        raise InputError(f"{name}: got {value.dtype} {list(value.shape)}, {expected}; convert them first")
    if value.ndim not in (3, 4) or value.shape[-1] != channels or 0 in value.shape[-3:]:
        raise InputError(f"{name}: got shape {list(value.shape)}, {expected}")
    return value[None] if value.ndim == 3 else value
