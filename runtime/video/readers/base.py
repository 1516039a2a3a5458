"""Define the protocol of readers, which give the frames of one source in turn, each with its time stamp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from runtime.common import limits
from runtime.errors import VideoError

Frame = NDArray[np.uint8]
"""One frame, uint8 [H,W,C] 0–255: RGB or flow (x, y)."""

Picture = Callable[[], Frame]
"""Function that converts a frame that was grabbed; called at most once, and in the thread that grabs."""


CUT_SHARE = 0.02
"""Share of the declared length that may be missing."""
CUT_SECONDS = 0.5
"""Seconds of the declared length that may be missing, since containers round their durations."""


def is_cut(missing: float, declared: float) -> bool:
    """Return whether so many missing seconds of a declared length mean that a file is cut off or damaged."""
    return missing > max(CUT_SHARE * declared, CUT_SECONDS)


@runtime_checkable
class Reader(Protocol):
    """Reads the decoded frames of one source.

    Each reader advances with `grab`; a frame is converted to RGB only when its `Picture` is called, so frames that are
    not kept cost no conversion.
    """

    name: str
    """Short name for results: the file's stem, "camera0"; empty for arrays."""
    label: str
    """Name of the source in error messages."""
    fps: float | None
    """Mean frames per second that the source declares; None if it declares none."""
    count: int | None
    """Number of frames that the source declares; None if unknown."""
    duration: float | None
    """Seconds that the source declares, on its own clock; None if unknown, or for sources without time stamps."""
    endless: bool | None
    """Whether the source has no end, as cameras and streams, so that whatever ends it is a loss; None: nobody knows,
    as of an iterable or a pipe."""
    timed: bool
    """Whether frames have time stamps; those of arrays and folders of images have none."""
    background: bool
    """Whether reading takes enough work to deserve its own thread."""

    def grab(self) -> bool:
        """Advance to the next frame; return False at the end.

        Raises:
            VideoError: the source cannot be decoded any further; `SourceLostError` for a stream that broke off.
        """
        ...

    @property
    def time(self) -> float:
        """Seconds from the start of the source to the moment when the current frame appears; never decreases."""
        ...

    @property
    def end(self) -> float:
        """Seconds from the start of the source to the moment when the current frame disappears, if it is the last."""
        ...

    @property
    def longest_jump(self) -> float:
        """Longest step of the time stamps, in seconds, that was taken for a new beginning and no pause."""
        ...

    def hold(self) -> Picture:
        """Return the current frame, not yet converted, for use also after the next `grab`."""
        ...

    def scan(self) -> tuple[int, float] | None:
        """Return the number of frames and the seconds at their end, by going through the source once more; None if
        the source cannot be read twice.
        """
        ...

    def shortfall(self) -> str | None:
        """Say what is missing at the end of a source that is cut off or damaged; None if it is complete."""
        ...

    def close(self) -> None:
        """Release files and devices."""
        ...


@runtime_checkable
class SkippingReader(Protocol):
    """Reads a source of which it need not decode every frame."""

    def skip(self, is_needed: Callable[[float, float], bool]) -> None:
        """Take the rule by which frames are needed, before the first `grab`.

        A frame that is not may be left out if no other depends on it. It is grabbed all the same, but has no picture of
        its own: it shows the one before.

        Args:
            is_needed: function of the seconds at which a frame appears and disappears, or of an earlier and a later
                moment than those.
        """
        ...


def declared_seconds(reader: Reader, fps: float | None) -> float | None:
    """Return the length in seconds that a source declares, at a caller's rate in place of its time stamps if given.

    A file of kilobytes is a video of hours at a frame in minutes. None: the source declares none, or the rate is none.
    """
    if fps is None:
        return reader.duration
    return reader.count / fps if reader.count is not None and fps > 0 else None


def require_pixels(width: int, height: int, origin: str) -> None:
    """Raise a VideoError if frames have more pixels than `limits.IMAGE_PIXELS`; `origin` begins the message."""
    if width * height > limits.IMAGE_PIXELS:
        raise VideoError(
            f"{origin}: got frames of {width:,} × {height:,} pixels, expected at most {limits.IMAGE_PIXELS:,} in all; "
            "make them smaller"
        )
