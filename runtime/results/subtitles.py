"""Format cues, times and texts for subtitle files and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import NamedTuple

from runtime.common.text import printable

_MARKUP = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")", "\\": "⧵"})
"""Letters in place of those that players take for tags: <b>, {\\an8}; SubRip has no escapes."""


SCORE = re.compile(r"(.*) ([01]\.\d\d)", re.DOTALL)
"""Text of a cue that ends with a score."""
NO_SCORE = "<b></b>"
"""Tag behind a label that ends like a score and has none; players show nothing."""


class Cue(NamedTuple):
    """Holds one subtitle: a label from `start_s` to `end_s`, and its score if it has one."""

    label: str
    start_s: float
    end_s: float
    score: float | None


def to_srt(cues: Iterable[Cue]) -> str:
    """Return cues as SubRip subtitles, numbered in their order."""
    return "\n".join(
        f"{number}\n{subtitle_times(cue.start_s, cue.end_s, ',')}\n{subtitle_text(cue.label)}{_score(cue)}\n"
        for number, cue in enumerate(cues, start=1)
    )


def to_vtt(cues: Iterable[Cue], head: str = "WEBVTT\n") -> str:
    """Return cues as WebVTT below `head`."""
    texts = (
        f"{subtitle_times(cue.start_s, cue.end_s, '.')}\n{escape(printable(cue.label))}{_score(cue)}\n" for cue in cues
    )
    return "\n".join([head, *texts])


def _score(cue: Cue) -> str:
    """Return the end of a cue's text."""
    if cue.score is None:
        return NO_SCORE if SCORE.fullmatch(printable(cue.label)) else ""
    return f" {cue.score:.2f}"


def subtitle_text(label: str) -> str:
    """Return a label as one line of a subtitle: no line break that would begin a cue, no arrow, no tag."""
    return printable(label).translate(_MARKUP)


def subtitle_times(start_s: float, end_s: float, point: str) -> str:
    """Return the line of a cue's times, "00:00:01,000 --> 00:00:02,000"; see `subtitle_time`.

    A cue lasts a millisecond at least: WebVTT allows none without length, and players show none.
    """
    end_s = max(end_s, (round(max(start_s, 0) * 1000) + 1) / 1000)
    return f"{subtitle_time(start_s, point)} --> {subtitle_time(end_s, point)}"


def subtitle_time(seconds: float, point: str) -> str:
    """Format seconds as hh:mm:ss, `point` ("," in SubRip, "." in WebVTT) and milliseconds; negative times as 0."""
    milliseconds = round(max(seconds, 0) * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"


def table_time(seconds: float) -> str:
    """Format seconds as h:mm:ss.mmm, which spreadsheets read as a time; negative times as 0."""
    hours, rest = subtitle_time(seconds, ".").split(":", 1)
    return f"{int(hours)}:{rest}"
