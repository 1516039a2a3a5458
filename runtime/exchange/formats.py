"""Name the formats of other tools in one table, and find the format of a file by its content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.common.choices import require_choice
from runtime.errors import AnnotationError
from runtime.exchange.document import Document
from runtime.exchange.file_formats import (
    audacity,
    cvat,
    edl,
    elan,
    fiftyone,
    json_family,
    json_lines,
    label_studio,
    otio,
    subtitles,
    table,
    thumos14,
    via,
)
from runtime.exchange.marks import Kind as MarkKind
from runtime.exchange.record import ReadOptions, VideoSegments, WriteOptions

Facts = tuple[str, ...]
"""Names of fields of `VideoSegments`, and "scores" and "empty videos"."""


@dataclass(frozen=True)
class Files:
    """Reads and writes a format of one file, for one video or for several."""

    recognise: Callable[[Document], bool]
    read: Callable[[Document, ReadOptions], list[VideoSegments]]
    write: Callable[[Sequence[VideoSegments], WriteOptions], str]
    read_days: Callable[[Sequence[Document], ReadOptions], list[VideoSegments]] | None = None
    """Reads files that go on one another; None: the format has none."""


@dataclass(frozen=True)
class Folder:
    """Reads and writes a format that is a folder of files which belong together."""

    recognise: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions], list[VideoSegments]]
    write: Callable[[Sequence[VideoSegments], WriteOptions], dict[str, str]]


@dataclass(frozen=True)
class Format:
    """Describes a format of another tool; its name is its key in `FORMATS`."""

    description: str
    """What has this format, for messages and help."""
    suffix: str
    """Suffix of the files that are written."""
    way: Files | Folder
    several: bool
    """Whether a file holds several videos."""
    holds: Facts
    """What the format holds beside names, labels and times: scores, subset, duration_s, fps, path, empty videos."""
    predictions_hold: Facts | None = None
    """What it holds of predictions, if that is less."""
    in_frames: bool = False
    """Whether times are whole frames."""
    names_media: bool = False
    """Whether the files of videos are named in it, with what `WriteOptions.media` puts before them."""
    mark: MarkKind | None = None
    """Where a written file has a mark by which it is known as unchanged; None: the format has no place for one."""
    usual: int | None = None
    """Most segments of a file that every program takes; None: there is no such number."""


FORMATS: dict[str, Format] = {
    "activitynet": Format(
        "ActivityNet JSON",
        ".json",
        Files(json_family.recognise, json_family.read, json_family.write_activitynet),
        True,
        ("scores", "subset", "duration_s", "fps", "empty videos"),
        ("scores", "duration_s", "fps", "path", "empty videos"),
        mark="json",
    ),
    "opentad": Format(
        "OpenTAD",
        ".json",
        Files(json_family.recognise, json_family.read, json_family.write_opentad),
        True,
        ("scores", "subset", "duration_s", "fps", "empty videos"),
        ("scores", "duration_s", "fps", "path", "empty videos"),
        mark="json",
    ),
    "actionformer": Format(
        "ActionFormer",
        ".json",
        Files(json_family.recognise, json_family.read, json_family.write_actionformer),
        True,
        ("subset", "duration_s", "fps", "empty videos"),
        mark="json",
    ),
    "label-studio": Format(
        "Label Studio",
        ".json",
        Files(label_studio.recognise, label_studio.read, label_studio.write),
        True,
        ("scores", "subset", "duration_s", "fps", "path", "empty videos"),
        in_frames=True,
        names_media=True,
    ),
    "via": Format(
        "VIA 3",
        ".json",
        Files(via.recognise, via.read, via.write),
        True,
        ("scores", "path", "empty videos"),
        names_media=True,
    ),
    "fiftyone": Format(
        "FiftyOne's labels.json",
        ".json",
        Files(fiftyone.recognise, fiftyone.read, fiftyone.write),
        True,
        ("scores", "empty videos"),
        mark="json",
    ),
    "otio": Format(
        "OpenTimelineIO",
        ".otio",
        Files(otio.recognise, otio.read, otio.write),
        True,
        ("scores", "duration_s", "fps", "path"),
        in_frames=True,
        names_media=True,
        mark="json",
    ),
    "elan": Format(
        "ELAN",
        ".eaf",
        Files(elan.recognise, elan.read, elan.write),
        False,
        ("scores", "path", "empty videos"),
        names_media=True,
        mark="xml",
    ),
    "cvat": Format(
        "CVAT for video 1.1",
        ".xml",
        Files(cvat.recognise, cvat.read, cvat.write),
        False,
        ("scores", "path", "empty videos"),
        in_frames=True,
        mark="xml",
    ),
    "edl": Format(
        "an edit decision list (CMX 3600)",
        ".edl",
        Files(edl.recognise, edl.read, edl.write),
        True,
        ("scores",),
        in_frames=True,
        names_media=True,
        usual=edl.EVENTS,
        mark="edl",
    ),
    "vtt": Format(
        "WebVTT",
        ".vtt",
        Files(subtitles.recognise_vtt, subtitles.read, subtitles.write_vtt),
        False,
        ("scores", "empty videos"),
        mark="vtt",
    ),
    "srt": Format(
        "SubRip",
        ".srt",
        Files(subtitles.recognise_srt, subtitles.read, subtitles.write_srt),
        False,
        ("scores", "empty videos"),
    ),
    "csv": Format("a table (CSV)", ".csv", Files(table.recognise, table.read, table.write), True, ("scores", "subset")),
    "jsonl": Format(
        "JSON lines of afsd",
        json_lines.SUFFIX,
        Files(json_lines.recognise, json_lines.read, json_lines.write, json_lines.read_days),
        True,
        ("scores", "duration_s", "fps", "path", "empty videos"),
    ),
    "audacity": Format(
        "Audacity's labels",
        ".txt",
        Files(audacity.recognise, audacity.read, audacity.write),
        False,
        ("empty videos",),
    ),
    "thumos14-detections": Format(
        "THUMOS'14's text of detections",
        ".txt",
        Files(thumos14.recognise_detections, thumos14.read_detections, thumos14.write_detections),
        True,
        ("scores",),
    ),
    "thumos14": Format(
        "THUMOS'14's folder of annotations",
        ".txt",
        Folder(thumos14.recognise_folder, thumos14.read_folder, thumos14.write_folder),
        True,
        ("subset",),
    ),
}
"""Formats by name, in the order in which a file is compared with them; the first that recognises it is its format."""

BY_SUFFIX = {
    ".json": "activitynet",
    **{f".{name}": name for name in ("csv", "jsonl", "srt", "vtt", "edl", "otio")},
    ".eaf": "elan",
    ".xml": "cvat",
}
"""Format that is written by the suffix of a file; .txt is two formats'."""
TEXT_SUFFIXES = frozenset({".tsv", *(format.suffix for format in FORMATS.values())})
"""Suffixes of the files that are looked at in a folder."""


def format_named(name: str) -> Format:
    """Return the format of a name (InputError: there is none)."""
    require_choice("format", name, FORMATS)
    return FORMATS[name]


def recognise(document: Document) -> str | None:
    """Return the name of a file's format by its content; None if it is of no known one.

    Raises:
        AnnotationError: the file cannot be read, or begins as JSON or XML and is damaged.
    """
    for name, format in FORMATS.items():
        if isinstance(format.way, Files) and format.way.recognise(document):
            return name
    return None


def read_document(document: Document, name: str, options: ReadOptions) -> list[VideoSegments]:
    """Read a file in the format of a name (AnnotationError: it has another form)."""
    way = format_named(name).way
    if isinstance(way, Folder):
        raise AnnotationError(f"{document.path}: {FORMATS[name].description}: expected a folder, got a file")
    return way.read(document, options)


def read_documents(documents: Sequence[Document], name: str, options: ReadOptions) -> list[VideoSegments]:
    """Read files that go on one another, see `join_days`, or a single one (AnnotationError: it has another form)."""
    way = format_named(name).way
    if isinstance(way, Files) and way.read_days is not None:
        return way.read_days(documents, options)
    return [video for document in documents for video in read_document(document, name, options)]
