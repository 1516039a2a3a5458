"""Read and write Audacity's labels (.txt): lines of start, end and text with tabs between them, in seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runtime.annotations.activitynet import finite_number
from runtime.common.text import printable
from runtime.errors import AnnotationError
from runtime.exchange.document import Document
from runtime.exchange.record import ReadOptions, Segment, VideoSegments, WriteOptions, require_single

_NUMBER = r"-?[0-9]+(?:[.,][0-9]+)?"
_LINE = re.compile(rf"({_NUMBER})\t({_NUMBER})(?:\t(.*))?")
_FREQUENCIES = "\\\t"
"""Beginning of a line with the frequencies of the label above it, which are left out."""


def recognise(document: Document) -> bool:
    """Return whether all lines of a file are labels."""
    lines = _lines(document.text)
    return bool(lines) and all(_LINE.fullmatch(line) for _, line in lines)


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read the labels of the video that the file is named after (AnnotationError: a line has another form)."""
    segments = []
    for number, line in _lines(document.text):
        where = f"{document.path}: line {number}"
        found = _LINE.fullmatch(line)
        if found is None:
            raise AnnotationError(f"{where}: got {line[:60]!r}, expected start, end and label with tabs between them")
        start, end = (finite_number(found[side].replace(",", "."), where) for side in (1, 2))
        if end < start:
            raise AnnotationError(f"{where}: got [{start:g}, {end:g}], expected the end not before the start")
        segments.append(Segment(start, end, found[3] or ""))
    return [VideoSegments(document.stem, tuple(segments), fps=options.rate(document.stem))]


def write(videos: Sequence[VideoSegments], _: WriteOptions) -> str:
    """Return the labels of a video in the order of time, with Audacity's six decimals (InputError: several videos)."""
    video = require_single(videos, "Audacity")
    return "".join(f"{one.start_s:.6f}\t{one.end_s:.6f}\t{printable(one.label)}\n" for one in video.in_time_order())


def _lines(text: str) -> list[tuple[int, str]]:
    """Return the lines that are labels with their numbers."""
    numbered = enumerate(text.split("\n"), 1)
    return [(n, line.rstrip("\r")) for n, line in numbered if line.strip() and not line.startswith(_FREQUENCIES)]
