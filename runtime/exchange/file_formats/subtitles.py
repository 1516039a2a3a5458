"""Read and write subtitles: SubRip (.srt), and WebVTT (.vtt), whose cues serve as chapters of a video on a page.

A score is the last word of a cue, with two decimals, where all cues end so. Labels that end like a score and have none
have an empty tag behind them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape

from runtime.errors import AnnotationError
from runtime.exchange.document import Document
from runtime.exchange.record import ReadOptions, Segment, VideoSegments, WriteOptions, require_single
from runtime.results.subtitles import NO_SCORE, SCORE, Cue, to_srt, to_vtt

_STAMP = r"(?:([0-9]{1,6}):)?([0-9]{1,2}):([0-9]{2})[.,]([0-9]{3})"
_TIMES = re.compile(rf"\s*{_STAMP}\s+-->\s+{_STAMP}(?:\s.*)?")
_TAG = re.compile(r"</?[a-zA-Z0-9][^<>]*>")
"""A tag of either format, such as <b>, <v Ann>, <00:01.000>."""
_OVERRIDE = re.compile(r"\{\\[^{}]*\}")
"""An override of SubRip's, such as {\\an8}."""
_NO_CUES = ("WEBVTT", "NOTE", "STYLE", "REGION")


def recognise_vtt(document: Document) -> bool:
    """Return whether a file begins as WebVTT."""
    return re.match(r"WEBVTT(\s|$)", document.text) is not None


def recognise_srt(document: Document) -> bool:
    """Return whether a file begins with a numbered cue."""
    lines = document.text.lstrip().splitlines()[:2]
    return len(lines) == 2 and lines[0].strip().isdigit() and _TIMES.fullmatch(lines[1]) is not None


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read the cues of the video that the file is named after; tags are left out, lines of a cue are joined.

    Raises:
        AnnotationError: a cue has no times, or ends before it begins.
    """
    found: list[Segment] = []
    is_vtt, unscored = recognise_vtt(document), False
    for block in re.split(r"\n[ \t]*\n", document.text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = [line for line in block.split("\n") if line.strip()]
        at = next((index for index, line in enumerate(lines) if "-->" in line), None)
        if not lines or (is_vtt and lines[0].startswith(_NO_CUES) and at != 0):
            continue
        times = None if at is None else _TIMES.fullmatch(lines[at])
        if at is None or times is None:
            raise AnnotationError(
                f"{document.path}: got {lines[at or 0][:60]!r}, expected hh:mm:ss,mmm --> hh:mm:ss,mmm"
            )
        start, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
        if end < start:
            raise AnnotationError(f"{document.path}: got {lines[at].strip()!r}, expected the end not before the start")
        whole = " ".join(line.strip() for line in lines[at + 1 :])
        text = _TAG.sub("", whole)
        unscored = unscored or whole.endswith(NO_SCORE)
        found.append(Segment(start, end, unescape(text) if is_vtt else _OVERRIDE.sub("", text)))
    scored = [SCORE.fullmatch(one.label) for one in found]
    if found and all(scored) and not unscored:
        found = [
            Segment(one.start_s, one.end_s, match[1], float(match[2]))
            for one, match in zip(found, scored, strict=True)
            if match is not None
        ]
    return [VideoSegments(document.stem, tuple(found), fps=options.rate(document.stem))]


def write_srt(videos: Sequence[VideoSegments], _: WriteOptions) -> str:
    """Return SubRip subtitles of a video (InputError: several videos)."""
    return to_srt(_cues(require_single(videos, "SubRip")))


def write_vtt(videos: Sequence[VideoSegments], _: WriteOptions) -> str:
    """Return WebVTT of a video (InputError: several videos)."""
    return to_vtt(_cues(require_single(videos, "WebVTT")))


def _cues(video: VideoSegments) -> list[Cue]:
    return [Cue(one.label, one.start_s, one.end_s, one.score) for one in video.in_time_order()]


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in parts)
    return ((hours * 60 + minutes) * 60 + seconds) + milliseconds / 1000
