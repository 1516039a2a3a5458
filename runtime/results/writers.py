"""Write the detections of a video to a file, by the format's name: the one table of output formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.common.files import write_text
from runtime.errors import InputError
from runtime.results.subtitles import subtitle_time

if TYPE_CHECKING:
    from runtime.results.detections import Detections

Write = Callable[["Detections", Path, float | None], object]
"""Writes detections to a path; the third argument is the length of the video in seconds, where known."""


@dataclass(frozen=True)
class Format:
    """One output format. Its name in `FORMATS` is the suffix of its files."""

    description: str
    """What the file is, for people."""
    write: Write


def _write_vtt(found: Detections, path: Path, _: float | None) -> None:
    """Write WebVTT, the subtitles of an HTML <video>, in the order of the starts."""
    cues = (
        f"{subtitle_time(d.start_s, '.')} --> {subtitle_time(d.end_s, '.')}\n{escape(d.label)} {d.score:.2f}\n"
        for d in found.sorted("start")
    )
    write_text(path, "\n".join(["WEBVTT\n", *cues]))


FORMATS: dict[str, Format] = {
    "json": Format("ActivityNet JSON", lambda found, path, _: found.to_json(path)),
    "csv": Format("a table for spreadsheets", lambda found, path, _: found.to_csv(path)),
    "srt": Format("subtitles for a video player", lambda found, path, _: found.to_srt(path)),
    "vtt": Format("subtitles for a web page", _write_vtt),
    "png": Format("a picture of the timeline", lambda found, path, length_s: found.plot(path, duration_s=length_s)),
}
"""Formats by name. A new one is an entry here: `afsd detect --format` and `Detections.save` then know it."""


def write_detections(found: Detections, path: Path, duration_s: float | None = None) -> None:
    """Write detections in the format of the path's suffix; the file appears whole or not at all.

    Args:
        found: of one video.
        path: of the file.
        duration_s: length of the video in seconds, for formats that draw it.

    Raises:
        InputError: a suffix of no format.
        OSError: the file cannot be written.
    """
    chosen = FORMATS.get(path.suffix.removeprefix(".").lower())
    if chosen is None:
        raise InputError(f"{path}: got {path.suffix or 'no suffix'}, expected one of .{', .'.join(FORMATS)}")
    chosen.write(found, path, duration_s)
