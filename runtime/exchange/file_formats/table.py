"""Read and write tables (CSV), whose times are seconds or frame numbers; a frame number is seconds × frames per second.

Columns are known by their names in small or capital letters, `COLUMNS`; the separator may be a comma, semicolon or tab.
Without a column of videos the table is of one video, named by the file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from runtime.annotations.activitynet import finite_number, positive_number
from runtime.common.csv_text import to_csv, without_apostrophe
from runtime.common.text import quote
from runtime.errors import AnnotationError, InputError
from runtime.exchange.document import Document
from runtime.exchange.frame_rate import frame_of, seconds_of
from runtime.exchange.record import ReadOptions, Segment, Unit, VideoSegments, WriteOptions, require_rate, stem_of

COLUMNS = {
    "video": ("video", "video_id", "video_name", "videoname", "name", "file", "filename", "file_name"),
    "label": ("label", "type", "class", "action", "category", "activity", "event"),
    "start": ("start_s", "start_frame", "start", "begin", "start_time", "t_start", "t-start", "start (s)"),
    "end": ("end_s", "end_frame", "end", "stop", "end_time", "t_end", "t-end", "end (s)"),
    "score": ("score", "confidence"),
    "subset": ("subset", "split"),
    "fps": ("fps", "frame_rate", "framerate"),
    "duration": ("duration", "duration_s"),
    "path": ("path",),
}
"""Names under which each column is found."""
NEEDED = ("label", "start", "end")
FRAME_COLUMNS = ("start_frame", "end_frame")
SECOND_COLUMNS = ("start_s", "end_s")
NUMBERS = ("start", "end", "score", "fps", "duration")
"""Columns of numbers and times."""
_COMMA = re.compile(r"\s*[-+]?[0-9]*,[0-9]+(?:[eE][-+]?[0-9]+)?\s*")
"""A number with a decimal comma."""
_CLOCK = re.compile(r"(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{1,6}(?:[.,][0-9]+)?)")
"""h:mm:ss or mm:ss, with decimals or without."""


def recognise(document: Document) -> bool:
    """Return whether a file's first line names a label, a start and an end."""
    return document.suffix in (".csv", ".tsv", ".txt") and set(NEEDED) <= _find_columns(_header(document)).keys()


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read a table; videos are in the order of their first rows.

    Raises:
        AnnotationError: a column is missing, a row has another form, or frames lack a rate.
    """
    header = _header(document)
    columns = _find_columns(header)
    lacking = [name for name in NEEDED if name not in columns]
    if lacking:
        raise AnnotationError(
            f"{document.path}: no column {', '.join(lacking)}; expected video, label, start_s and end_s, or "
            f"start_frame and end_frame; the first line has {quote(', '.join(header))}"
        )
    unit = options.unit or _unit(header, columns)
    found: dict[str, list[Segment]] = {}
    facts: dict[str, dict[str, str]] = {}
    try:
        rows = list(csv.reader(io.StringIO(document.text, newline=""), delimiter=_delimiter(document)))[1:]
    except csv.Error as error:
        raise AnnotationError(f"{document.path}: cannot be read as a table ({error})") from None
    comma = _delimiter(document) != ","  # as Excel writes it where the decimal point is a comma
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        where = f"{document.path}: row {number}"
        cells = {name: without_apostrophe(row[index]) if index < len(row) else "" for name, index in columns.items()}
        named, path = cells.get("video", ""), cells.get("path", "")
        name = _video_name(named or path or document.stem)
        cells |= {name: _with_point(cells[name]) for name in NUMBERS if comma and name in cells}
        facts.setdefault(name, {**cells, "path": path or (named if name != named else "")})
        start, end = (_time(cells[side], f"{where}: {side}") for side in ("start", "end"))
        if unit == "frames":
            stored = positive_number(cells.get("fps", ""), f"{where}: fps")
            fps = options.fps(name, stored, str(document.path))
            start, end = seconds_of(start, fps), seconds_of(end, fps)
        if end < start:
            raise AnnotationError(
                f"{where}: got start {start:g} and end {end:g}, expected the end not before the start"
            )
        score = finite_number(cells["score"], f"{where}: score") if cells.get("score") else None
        found.setdefault(name, []).append(Segment(start, end, cells["label"], score))
    return [
        VideoSegments(
            name,
            tuple(segments),
            facts[name]["path"],
            positive_number(facts[name].get("duration", ""), f"{document.path}: {name}: duration"),
            options.rate(name) or positive_number(facts[name].get("fps", ""), f"{document.path}: {name}: fps"),
            subset=facts[name].get("subset", ""),
        )
        for name, segments in found.items()
    ]


def write(videos: Sequence[VideoSegments], options: WriteOptions) -> str:
    """Return a table `video,label,start_s,end_s`, or start_frame and end_frame beside fps; scores and subsets if any.

    Texts that a spreadsheet would run get an apostrophe before them, and control characters are escaped.

    Raises:
        InputError: frames are wanted and the rate of a video is unknown.
    """
    in_frames = options.unit == "frames"
    subsets = any(video.subset for video in videos)
    scores = any(video.scored for video in videos)
    header = ["video", "label", *(FRAME_COLUMNS if in_frames else SECOND_COLUMNS)]
    header += ["score"] * scores + ["fps"] * in_frames + ["subset"] * subsets
    rows: list[list[object]] = [[*header]]
    for video in videos:
        fps = require_rate(video, "a table in frames") if in_frames else 0.0
        for one in video.segments:
            times = (frame_of(one.start_s, fps), frame_of(one.end_s, fps)) if in_frames else (one.start_s, one.end_s)
            score = ["" if one.score is None else one.score] * scores
            rows.append([video.name, one.label, *times, *score, *[fps] * in_frames, *[video.subset] * subsets])
    return to_csv(rows)


def _header(document: Document) -> list[str]:
    lines = document.text.splitlines()
    delimiter = _delimiter(document)
    try:
        return [cell.strip() for cell in next(csv.reader(lines[:1], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _delimiter(document: Document) -> str:
    """Return the separator that the first line has most of."""
    first = document.text.partition("\n")[0]
    return max(",;\t", key=first.count)


def _find_columns(header: Sequence[str]) -> dict[str, int]:
    """Return the index of each known column."""
    names = [name.lower() for name in header]
    found: dict[str, int] = {}
    for column, spellings in COLUMNS.items():
        index = next((names.index(spelling) for spelling in spellings if spelling in names), None)
        if index is not None:
            found[column] = index
    return found


def _unit(header: Sequence[str], columns: dict[str, int]) -> Unit:
    """Return the unit that the names of the columns say."""
    named = {header[columns[side]].lower() for side in ("start", "end")}
    if named & set(FRAME_COLUMNS) and not named <= set(FRAME_COLUMNS):
        raise InputError(
            "the table has frames in one of its columns of times and seconds in the other; name both alike, or "
            "give afsd convert --unit-in"
        )
    return "frames" if named <= set(FRAME_COLUMNS) else "seconds"


def _video_name(cell: str) -> str:
    """Return a video's name: what the cell says, or of the path of a video file its stem."""
    from runtime.video.sources import VIDEO_SUFFIXES

    has_suffix = any(cell.lower().endswith(suffix) for suffix in VIDEO_SUFFIXES)
    return stem_of(cell) if has_suffix else cell


def _with_point(cell: str) -> str:
    """Return a number with a decimal comma as one with a point; other cells as they are."""
    return cell.replace(",", ".") if _COMMA.fullmatch(cell) else cell


def _time(text: str, where: str) -> float:
    """Return a time in seconds or frames; 1:02:03.5 is taken, too."""
    clock = _CLOCK.fullmatch(text.strip())
    if clock is None:
        return finite_number(text.strip(), where)
    return (int(clock[1] or 0) * 60 + int(clock[2])) * 60 + float(clock[3].replace(",", "."))
