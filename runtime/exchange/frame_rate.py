"""Turn seconds into frame numbers and SMPTE timecodes, and back, by the exact rate."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from runtime.errors import AnnotationError, InputError

NTSC = Fraction(1000, 1001)
"""Ratio of NTSC's rates to the whole numbers by which they are called: 30 is 29.97."""
NOMINAL = (24, 30, 48, 60, 120)
"""Whole rates that have an NTSC relative."""
NEAR = 0.006
"""Frames per second by which a rounded rate may differ from NTSC's exact one: 23.98 is 23.976."""
TIMECODE = r"[0-9]{2,3}[:;.][0-9]{2}[:;.][0-9]{2}[:;.][0-9]{2,3}"
"""Form of a timecode, hours:minutes:seconds:frames; a semicolon or full stop before the frames marks drop frame."""
HOURS = 24
"""Hours after which timecodes begin anew."""


def exact_rate(fps: float) -> Fraction:
    """Return a rate as a fraction, 30000/1001 for 29.97."""
    for nominal in NOMINAL:
        if abs(fps - nominal * NTSC) < NEAR:
            return nominal * NTSC
    return Fraction(fps).limit_denominator(1001) or Fraction(fps)  # a frame an hour is no 0


def frame_of(seconds: float, fps: float) -> int:
    """Return the frame whose beginning is nearest to a time; frame 0 begins at 0."""
    return math.floor(seconds * float(exact_rate(fps)) + 0.5)


def frames_of(start_s: float, end_s: float, fps: float) -> tuple[int, int]:
    """Return the first frame of a segment and the one after its last, at least one apart."""
    first = max(frame_of(start_s, fps), 0)
    return first, max(frame_of(end_s, fps), first + 1)


def seconds_of(frame: float, fps: float) -> float:
    """Return the time at which a frame begins."""
    return frame / float(exact_rate(fps))


def drops_frames(fps: float) -> bool:
    """Return whether timecodes of a rate are drop frame here: those of 29.97 and 59.94, so that they keep clock time.

    SMPTE defines dropping for these two alone; timecodes of 23.976 run 3.6 s an hour behind the clock.
    """
    return exact_rate(fps) in (30 * NTSC, 60 * NTSC)


def to_timecode(frame: int, fps: float, *, drop: bool) -> str:
    """Return the timecode of a frame (InputError: later than 24 hours, which timecodes cannot say).

    Args:
        frame: number of the frame, from 0.
        fps: frames per second.
        drop: leave out the numbers 0 and 1 (0 to 3 at 59.94) of each minute that is no tenth one.
    """
    base = _base(fps)
    if drop:
        dropped = base // 15
        minute, ten_minutes = 60 * base - dropped, 600 * base - 9 * dropped
        tens, rest = divmod(frame, ten_minutes)
        frame += 9 * dropped * tens + (dropped * ((rest - dropped) // minute) if rest >= dropped else 0)
    seconds, frames = divmod(frame, base)
    if seconds >= HOURS * 3600:
        raise InputError(f"a timecode cannot say {seconds / 3600:.1f} hours, expected less than {HOURS}")
    mark = ";" if drop else ":"
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{frames:02d}"


def from_timecode(text: str, fps: float, *, drop: bool, where: str) -> int:
    """Return the number of the frame that a timecode names (AnnotationError, with `where`: it names none)."""
    base = _base(fps)
    hours, minutes, seconds, frames = (int(part) for part in re.split("[:;.]", text))
    if minutes > 59 or seconds > 59 or frames >= base:
        raise AnnotationError(f"{where}: timecode {text} is none of {fps:g} frames per second; check --fps")
    number = ((hours * 60 + minutes) * 60 + seconds) * base + frames
    if drop:
        total = hours * 60 + minutes
        number -= base // 15 * (total - total // 10)
    return number


def _base(fps: float) -> int:
    """Return the whole rate in which timecodes count."""
    return max(round(fps), 1)
