"""Write the detections of a video to a file in one of the formats of the table `FORMATS`."""

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
"""Function that writes detections to a path; the third argument is the length of the video in seconds, if known."""


@dataclass(frozen=True)
class Format:
    """Describes one output format, whose name in `FORMATS` is the suffix of its files."""

    description: str
    """Description of the file for the help text."""
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
"""Output formats by name; `afsd detect --format` and `Detections.save` offer every entry."""


def write_detections(found: Detections, path: Path, duration_s: float | None = None) -> None:
    """Write detections atomically in the format of the path's suffix.

    Args:
        found: detections of one video.
        path: path of the file.
        duration_s: length of the video in seconds, for formats that draw it.

    Raises:
        InputError: no format has the suffix.
        OSError: the file cannot be written.
    """
    chosen = FORMATS.get(path.suffix.removeprefix(".").lower())
    if chosen is None:
        raise InputError(f"{path}: got {path.suffix or 'no suffix'}, expected one of .{', .'.join(FORMATS)}")
    chosen.write(found, path, duration_s)
