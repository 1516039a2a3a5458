"""Put the files of one camera together that `afsd watch --keep-days` has begun day by day."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from unicodedata import normalize

from runtime.exchange.document import Document

EVENT = '{"event": '
"""Beginning of the lines of `afsd watch`."""
_DAY = re.compile(r"(.+)\.(\d{4}-\d\d-\d\d)", re.ASCII)
"""Name of a day's file without its suffix."""


def join_days(documents: Iterable[Document]) -> list[tuple[Document, ...]]:
    """Return the files that go on one another as one tuple, in the order of their days; any other one alone.

    Together are those of a folder with lines of `afsd watch` that are named by one video: DIR/<video>.<day>.jsonl, and
    DIR/<video>.jsonl from a time without --keep-days.

    Raises:
        AnnotationError: a file of lines cannot be read.
    """
    found: dict[tuple[Path, str], list[tuple[str, str, int]]] = {}
    documents = list(documents)
    for index, document in enumerate(documents):
        video, day, time = _video_and_time(document) or (f"/{document.path.name}", "", "")  # which no video is called
        found.setdefault((document.path.parent, video), []).append((day, time, index))
    return [tuple(documents[index] for _, _, index in sorted(dated)) for dated in found.values()]


def _video_and_time(document: Document) -> tuple[str, str, str] | None:
    """Return the video by which a file is named, its day, and the time of its first line; None: it is no watch's."""
    if document.suffix != ".jsonl" or not document.text.startswith(EVENT):
        return None
    try:
        entry = json.loads(document.text.partition("\n")[0])
    except (ValueError, RecursionError):
        return None
    video, at = entry.get("video"), entry.get("at")
    if not isinstance(video, str) or not isinstance(at, str):
        return None
    name, stem = (normalize("NFC", text) for text in (video.rpartition("/")[2], document.stem))
    day = _DAY.fullmatch(stem)
    if stem == name:
        return name, at[:10], at
    return (name, day[2], at) if day and day[1] == name else None
