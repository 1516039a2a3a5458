"""Format times and texts for subtitle files and tables."""

from __future__ import annotations

from runtime.common.text import printable

_MARKUP = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")", "\\": "⧵"})
"""Letters in place of those that players take for tags: <b>, {\\an8}; SubRip has no escapes."""


def subtitle_text(label: str) -> str:
    """Return a label as one line of a subtitle: no line break that would begin a cue, no arrow, no tag."""
    return printable(label).translate(_MARKUP)


def subtitle_times(start_s: float, end_s: float, point: str) -> str:
    """Return the line of a cue's times, "00:00:01,000 --> 00:00:02,000"; see `subtitle_time`."""
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
