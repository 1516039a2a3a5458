"""Read and write projects of VIA 3, the VGG annotator, with temporal segments.

A segment is an entry of "metadata" with two times in "z"; its label is the value of an attribute of temporal segments
(anchor FILE1_Z2_XY0), here a list to choose from, and its score another attribute. Times are seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtime.annotations.activitynet import finite_number
from runtime.common.text import quote
from runtime.errors import AnnotationError
from runtime.exchange.document import Document
from runtime.exchange.record import ReadOptions, Segment, VideoSegments, WriteOptions, file_name, name_by_paths

ANCHOR = "FILE1_Z2_XY0"
"""Anchor of attributes of temporal segments."""
TEXT, CHECKBOX, SELECT = 1, 2, 4
"""Kinds of attributes; 3 is RADIO, 5 IMAGE."""
VIDEO, BY_HTTP, BY_FILE = 4, 2, 3
"""Type of a file, and the places where it may lie."""
LABEL, SCORE = "label", "score"
"""Names of the attributes."""


def recognise(document: Document) -> bool:
    """Return whether a file is a project of VIA 3; projects of VIA 2 have other keys."""
    content = document.json
    return isinstance(content, Mapping) and {"project", "attribute", "file", "metadata", "view"} <= content.keys()


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read the temporal segments of all files of a project, in the order of its views.

    The label is the first attribute, of those anchored to temporal segments before others, that has a value; a checkbox
    gives a segment for each of its marks.

    Raises:
        AnnotationError: the file has another form.
    """
    project, origin = document.json, str(document.path)
    for key in ("attribute", "file", "metadata", "view"):
        if not isinstance(project, Mapping) or not isinstance(project.get(key), Mapping):
            raise AnnotationError(f"{origin}: {key}: expected an object, as in projects of VIA 3")
    attributes = project["attribute"]
    segments: dict[str, list[Segment]] = {view: [] for view in project["view"]}
    others = 0
    for identifier, entry in project["metadata"].items():
        where = f"{origin}: metadata {quote(identifier)}"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("z"), list):
            raise AnnotationError(f'{where}: got {quote(entry)}, expected {{"vid", "z", "xy", "av"}}')
        view = str(entry.get("vid"))
        if len(entry["z"]) != 2 or view not in segments:
            others += 1
            continue
        segments[view] += _segments(entry, attributes, where)
    if others:
        options.note(f"{origin}: {others} entries are no segments of time and are left out")
    found = []
    paths = [_path(project, view) for view in segments]
    names = name_by_paths(paths)
    for (view, ones), path, stem in zip(segments.items(), paths, names, strict=True):
        name = stem or f"{document.stem}-{view}"
        ordered = tuple(sorted(ones, key=lambda one: (one.start_s, one.end_s)))
        found.append(VideoSegments(name, ordered, path, fps=options.rate(name)))
    return found


def write(videos: Sequence[VideoSegments], options: WriteOptions) -> str:
    """Return a project with all videos."""
    labels = sorted({one.label for video in videos for one in video.segments})
    scored = any(video.scored for video in videos)
    attributes = {"1": _attribute(LABEL, SELECT, {str(number): label for number, label in enumerate(labels)})}
    if scored:
        attributes["2"] = _attribute(SCORE, TEXT, {})
    files, views, metadata = {}, {}, {}
    for number, video in enumerate(videos, 1):
        media = options.media_of(video)
        place = BY_HTTP if media.startswith(("http://", "https://")) else BY_FILE
        files[str(number)] = {
            "fid": str(number),
            "fname": file_name(media),
            "type": VIDEO,
            "loc": place,
            "src": media,
        }
        views[str(number)] = {"fid_list": [str(number)]}
        for index, one in enumerate(video.segments):
            values = {"1": str(labels.index(one.label))} | ({} if one.score is None else {"2": repr(one.score)})
            entry = {"vid": str(number), "flg": 0, "z": [one.start_s, one.end_s], "xy": [], "av": values}
            metadata[f"{number}_{index:08d}"] = entry
    project = {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": "afsd",
            "creator": "afsd",
            "created": 0,
            "vid_list": list(views),
        },
        "config": {
            "file": {"loc_prefix": {str(place): "" for place in range(1, 5)}},
            "ui": {
                "file_content_align": "center",
                "file_metadata_editor_visible": True,
                "spatial_metadata_editor_visible": False,
                "temporal_segment_metadata_editor_visible": True,
                "spatial_region_label_attribute_id": "",
                "gtimeline_visible_row_count": str(max(min(len(labels), 20), 1)),
            },
        },
        "attribute": attributes,
        "file": files,
        "metadata": metadata,
        "view": views,
    }
    return json.dumps(project, indent=1, ensure_ascii=False) + "\n"


def _attribute(name: str, kind: int, options: dict[str, str]) -> dict[str, Any]:
    return {
        "aname": name,
        "anchor_id": ANCHOR,
        "type": kind,
        "desc": "",
        "options": options,
        "default_option_id": "",
    }


def _segments(entry: Mapping[str, Any], attributes: Mapping[str, Any], where: str) -> Iterator[Segment]:
    """Yield the segments of an entry, one per label."""
    start, end = (finite_number(moment, f"{where}: z") for moment in entry["z"])
    if end < start:
        raise AnnotationError(f"{where}: z: got [{start:g}, {end:g}], expected the end not before the start")
    values = entry.get("av") if isinstance(entry.get("av"), Mapping) else {}
    assert isinstance(values, Mapping)
    score: float | None = None
    labels: list[str] = []
    for identifier in sorted(values, key=lambda key: _rank(attributes.get(key))):
        described = attributes.get(identifier)
        described = described if isinstance(described, Mapping) else {}
        value = str(values[identifier])
        if described.get("aname") == SCORE and value:
            score = finite_number(value, f"{where}: score")
        elif value and not labels:
            labels = _labels(value, described)
    yield from (Segment(start, end, label, score) for label in labels or [""])


def _rank(attribute: object) -> int:
    """Return 0 for attributes of temporal segments, 1 for others."""
    return int(not (isinstance(attribute, Mapping) and attribute.get("anchor_id") == ANCHOR))


def _labels(value: str, attribute: Mapping[str, Any]) -> list[str]:
    """Return the texts that the value of an attribute stands for: names of its options, or the value itself."""
    options = attribute.get("options")
    options = options if isinstance(options, Mapping) else {}
    chosen = value.split(",") if attribute.get("type") == CHECKBOX else [value]
    return [str(options.get(one, one)) for one in chosen if one]


def _path(project: Mapping[str, Any], view: str) -> str:
    """Return the path of the file that a view shows; empty if the project does not say."""
    shown = project["view"][view]
    files = shown.get("fid_list") if isinstance(shown, Mapping) else None
    file = project["file"].get(str(files[0])) if isinstance(files, list) and files else None
    if not isinstance(file, Mapping):
        return ""
    source = str(file.get("src") or "")
    return source if file.get("loc") in (BY_HTTP, BY_FILE) and source else str(file.get("fname") or "")
