"""Format times for subtitle files."""

from __future__ import annotations


def subtitle_time(seconds: float, point: str) -> str:
    """Format seconds as hh:mm:ss, `point` ("," in SubRip, "." in WebVTT) and milliseconds; negative times as 0."""
    milliseconds = round(max(seconds, 0) * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"
