"""Read and write THUMOS'14's own files: a folder of annotations with a text per class, and a text of detections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from runtime.annotations.activitynet import finite_number
from runtime.annotations.thumos14 import AMBIGUOUS, CLASS_IDS, KIT_SUFFIX, read_lines
from runtime.common.names import require_safe_name
from runtime.common.text import quote
from runtime.errors import AnnotationError, InputError
from runtime.exchange.document import Document
from runtime.exchange.record import ReadOptions, Segment, VideoSegments, WriteOptions
from runtime.results.thumos14 import read_text_detections

_CLASS_FILE = re.compile(r"(.+)_(test|val)\.txt")
SUBSETS = {"test": "test", "val": "validation"}
"""Subset by the ending of the files' names."""
_INSTANCE = re.compile(r"\s*\S+\s+[-+.\deE]+\s+[-+.\deE]+\s*")
"""A line of a text of a class: video, start, end."""
_LABEL = re.compile(r"[-.,\d]+\t[-.,\d]+\t.*")
"""A line of Audacity's labels."""
_DETECTION = re.compile(r"\S+\s+[-+.\deE]+\s+[-+.\deE]+\s+\d+\s+[-+.\deE]+")


def recognise_folder(folder: Path) -> bool:
    """Return whether a folder holds texts per class, `<Class>_test.txt` or `<Class>_val.txt`, with lines of videos.

    Labels of Audacity, start and end before the label, may be in files that are called so, too.
    """
    texts = [path for path in folder.iterdir() if _CLASS_FILE.fullmatch(path.name)]
    return bool(texts) and all(map(_is_class_text, texts))


def _is_class_text(path: Path) -> bool:
    try:
        lines = [line for line in Document(path).text.splitlines() if line.strip()]
    except AnnotationError:
        return False
    return not lines or (_INSTANCE.fullmatch(lines[0]) is not None and _LABEL.fullmatch(lines[0]) is None)


def read_folder(folder: Path, _: ReadOptions) -> list[VideoSegments]:
    """Read the texts of all classes in a folder, lines `video start end` in seconds; videos are sorted by name.

    Raises:
        AnnotationError: a line has another form.
    """
    found: dict[str, list[Segment]] = {}
    subsets: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        named = _CLASS_FILE.fullmatch(path.name)
        for fields, where in read_lines(path, 3, "video start end") if named else ():
            start, end = finite_number(fields[1], where), finite_number(fields[2], where)
            found.setdefault(fields[0], []).append(Segment(start, end, named[1]))  # type: ignore[index]
            subsets[fields[0]] = SUBSETS[named[2]]  # type: ignore[index]
    return [VideoSegments(name, tuple(found[name]), subset=subsets[name]) for name in sorted(found)]


def write_folder(videos: Sequence[VideoSegments], _: WriteOptions) -> dict[str, str]:
    """Return the texts per class by file name; where all labels are THUMOS'14's, one for each of its classes.

    Videos of the subset validation or training go to `<Class>_val.txt`, all others to `<Class>_test.txt`.

    Raises:
        InputError: the name of a video has a space in it, or a label cannot be part of a file's name.
    """
    lines: dict[str, list[str]] = {}
    labels = {one.label for video in videos for one in video.segments}
    kit = [*CLASS_IDS, AMBIGUOUS]
    if labels <= set(kit):
        lines = {f"{label}{KIT_SUFFIX}": [] for label in kit}
    for video in videos:
        _require_word(video.name)
        suffix = "_val.txt" if video.subset in ("validation", "training", "val", "train") else KIT_SUFFIX
        for one in video.segments:
            require_safe_name(one.label, suffix, what="a label")
            lines.setdefault(f"{one.label}{suffix}", []).append(f"{video.name} {one.start_s!r} {one.end_s!r}\n")
    return {name: "".join(rows) for name, rows in lines.items()}


def recognise_detections(document: Document) -> bool:
    """Return whether a file has lines `video start end class-id score`."""
    lines = [line.strip() for line in document.text.splitlines() if line.strip()]
    return bool(lines) and all(_DETECTION.fullmatch(line) for line in lines[:20])


def read_detections(document: Document, _: ReadOptions) -> list[VideoSegments]:
    """Read a text of detections (AnnotationError: see `read_text_detections`)."""
    return [VideoSegments.from_detections(found) for found in read_text_detections(document.path)]


def write_detections(videos: Sequence[VideoSegments], _: WriteOptions) -> str:
    """Return lines `video start end class-id score`; a segment without a score has 1.

    Raises:
        InputError: a label is no class of THUMOS'14, or the name of a video has a space in it.
    """
    lines = []
    for video in videos:
        _require_word(video.name)
        for one in video.segments:
            if one.label not in CLASS_IDS:
                raise InputError(
                    f"{video.name}: label {quote(one.label)} is none of THUMOS'14's {len(CLASS_IDS)} classes, whose "
                    "numbers the file holds; choose another format"
                )
            score = 1.0 if one.score is None else one.score
            lines.append(f"{video.name} {one.start_s!r} {one.end_s!r} {CLASS_IDS[one.label]} {score!r}\n")
    return "".join(lines)


def _require_word(name: str) -> None:
    if len(name.split()) != 1 or name.split()[0] != name:
        raise InputError(
            f"the name of a video is {quote(name)}, expected one without spaces, which separate the columns of "
            "THUMOS'14's texts; rename the video or choose another format"
        )
