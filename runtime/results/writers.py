"""Write the detections of a video to a file in one of the formats of the table `FORMATS`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.common.files import write_text
from runtime.common.overwriting import Recognise, require_own_file
from runtime.errors import InputError
from runtime.report.document import is_page
from runtime.results.detections import FORMAT_VERSION, is_results, is_table
from runtime.results.picture_mark import is_picture
from runtime.results.subtitles import Cue, to_vtt

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
    recognise: Recognise


VTT_START = f"WEBVTT\n\nNOTE {FORMAT_VERSION}\n"
_CUE = rb"\d+\n\d+:\d\d:\d\d,\d{3} --> \d+:\d\d:\d\d,\d{3}\n[^\n]+ [01]\.\d\d\n"
"""A subtitle as `Detections.to_srt` writes it, its text one line that ends with a score."""


def _write_vtt(found: Detections, path: Path, _: float | None) -> None:
    """Write WebVTT, the subtitles of an HTML <video>, in the order of the starts."""
    cues = (Cue(d.label, d.start_s, d.end_s, d.score) for d in found.sorted("start"))
    write_text(path, to_vtt(cues, VTT_START))


def _is_srt(content: bytes) -> bool:
    """Return whether all subtitles end with a score: SubRip has no comments that could name who wrote it."""
    return re.fullmatch(rb"%b(\n%b)*" % (_CUE, _CUE), content) is not None


FORMATS: dict[str, Format] = {
    "json": Format("ActivityNet JSON", lambda found, path, _: found.to_json(path), is_results),
    "csv": Format("a table for spreadsheets", lambda found, path, _: found.to_csv(path), is_table),
    "srt": Format("subtitles for a video player", lambda found, path, _: found.to_srt(path), _is_srt),
    "vtt": Format("subtitles for a web page", _write_vtt, lambda content: content.startswith(VTT_START.encode())),
    "png": Format(
        "a picture of the timeline", lambda found, path, length_s: found.plot(path, duration_s=length_s), is_picture
    ),
    "html": Format(
        "a page for a browser", lambda found, path, length_s: found.to_html(path, duration_s=length_s), is_page
    ),
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


def require_ours(path: Path, suffix: str = "") -> None:
    """Check that nothing is lost if a file is written: it is not there, is empty, or this project wrote it.

    Args:
        path: path of the file.
        suffix: name of its format in `FORMATS`, if the path does not say.

    Raises:
        InputError: the file is somebody else's.
        OSError: the file cannot be read.
    """
    chosen = FORMATS.get(suffix or path.suffix.removeprefix(".").lower())
    require_own_file(path, None if chosen is None else chosen.recognise)
