"""Choose the cuts of a video, and name their files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from runtime.common.names import DEVICES
from runtime.common.ranges import Count, Range, require_in_range
from runtime.exchange.record import Segment, VideoSegments
from runtime.results.video_names import take_name

MIN_SECONDS = 0.04
"""Shortest cut in seconds, a frame at 25 frames per second; shorter segments are extended to it."""
LONGEST_PART = 60
"""Most letters of a video's name and of a label in the name of a clip."""
MOST_BYTES = 200
"""Most bytes of a clip's name without its suffix; file systems take 255."""
Padding = Annotated[float, Range(0, 86_400, what="seconds")]
"""Time that is added before and after a segment."""
_UNSAFE = re.compile(r"[^\w.+-]+")
"""What no file name should have: separators, spaces, quotes, wildcards, control characters."""


@dataclass(frozen=True)
class Cut:
    """Holds a part of a video to be cut out."""

    start_s: float
    """Start in seconds from the start of the video, as in detections."""
    end_s: float
    labels: tuple[str, ...]
    """Labels of the segments in it; one, unless cuts were merged."""
    number: int
    """Number of the cut in its video, from 1, in the order of starts."""


def plan_cuts(video: VideoSegments, *, min_score: float, top: int | None, pad_s: float) -> list[Cut]:
    """Return the cuts of a video in the order of starts.

    Args:
        video: the segments; those without a score are kept.
        min_score: lowest score of a segment that is cut out. Segments outside the video, and those that end before
            they begin, are no cuts.
        top: most cuts, those with the best scores; None: all.
        pad_s: seconds added before and after each segment, as far as the video has them.

    Raises:
        InputError: a number out of range.
    """
    require_in_range("min_score", min_score, float)
    require_in_range("top", top, Count | None)
    require_in_range("pad_s", pad_s, Padding)
    chosen = [
        one for one in video.segments if (one.score is None or one.score >= min_score) and is_in_video(one, video)
    ]
    if top is not None:
        chosen = sorted(chosen, key=_by_score)[:top]
    ordered = sorted(chosen, key=lambda one: (one.start_s, one.end_s))
    cuts = []
    for number, one in enumerate(ordered, 1):
        start = max(one.start_s - pad_s, 0.0)
        cuts.append(Cut(start, max(one.end_s + pad_s, start + MIN_SECONDS), (one.label,), number))
    return cuts


def is_in_video(segment: Segment, video: VideoSegments) -> bool:
    """Return whether a segment ends no earlier than it begins, and lies in the video as far as its length is known."""
    end_s = math.inf if video.duration_s is None else video.duration_s
    return segment.end_s >= max(segment.start_s, 0.0) and segment.start_s < end_s


def merge_cuts(cuts: Sequence[Cut]) -> list[Cut]:
    """Return cuts, in the order of starts, of which those that overlap or touch are one, so that none shows twice."""
    merged: list[Cut] = []
    for cut in sorted(cuts, key=lambda cut: cut.start_s):
        if merged and cut.start_s <= merged[-1].end_s:
            last = merged[-1]
            labels = tuple(dict.fromkeys([*last.labels, *cut.labels]))
            merged[-1] = Cut(last.start_s, max(last.end_s, cut.end_s), labels, last.number)
        else:
            merged.append(cut)
    return merged


def name_clips(video: str, cuts: Sequence[Cut], taken: set[str]) -> list[str]:
    """Return a name for the clip of each cut that no other has, see `name_clip`, and take them.

    Args:
        video: name of the video.
        cuts: its cuts.
        taken: names that are taken, in small letters: many file systems take A and a for one.
    """
    names = []
    for cut in cuts:
        name = name_clip(video, cut, len(cuts))
        names.append(name + take_name(name.casefold(), taken)[len(name.casefold()) :])
    return names


def name_clip(video: str, cut: Cut, count: int) -> str:
    """Return the name of a clip's file without suffix: video, number, label and time, as in street-03-jump-01m12.4s.

    Args:
        video: name of the video.
        cut: the cut.
        count: number of cuts of the video, whose digits all numbers get.
    """
    minutes, seconds = divmod(round(cut.start_s, 1), 60)
    time = f"{int(minutes):02d}m{seconds:04.1f}s"
    number = f"{cut.number:0{max(len(str(count)), 2)}d}"
    label = safe_part("+".join(cut.labels))
    head = safe_part(_last_parts(video))
    rest = f"-{number}-{label}-{time}"
    return f"{_shorten(head, MOST_BYTES - len(rest.encode()))}{rest}"


def _last_parts(video: str) -> str:
    """Return the name of a video, of one with folders as many of its last parts as a clip's name has room for."""
    parts = video.split("/")
    while len(parts) > 1 and len("/".join(parts)) > LONGEST_PART:
        parts.pop(0)
    return "/".join(parts)


def safe_part(text: str) -> str:
    """Return text as part of a file's name on any system: letters and digits of all alphabets, and . _ + - are kept."""
    part = _UNSAFE.sub("_", text).strip("._")[:LONGEST_PART].strip("._")
    part = _shorten(part, MOST_BYTES // 2)
    return f"_{part}" if not part or part.partition(".")[0].upper() in DEVICES else part


def overlapping_at_most(cuts: Iterable[Cut], most: int) -> list[list[Cut]]:
    """Return the cuts in groups within each of which no more than `most` overlap at any time."""
    groups: list[list[Cut]] = []
    for cut in cuts:
        free = next((group for group in groups if sum(one.end_s > cut.start_s for one in group) < most), None)
        if free is None:
            groups.append([cut])
        else:
            free.append(cut)
    return groups


def _by_score(one: Segment) -> float:
    return -1.0 if one.score is None else -one.score


def _shorten(text: str, most: int) -> str:
    """Return the beginning of a text that has at most so many bytes."""
    return text.encode(errors="replace")[:most].decode(errors="ignore")
