"""Read and write Label Studio's tasks with labels on a video's timeline (TimelineLabels).

A region has a range of frames, counted from 1, with its last frame in it. Label Studio takes frame f for the time from
(f − 1) / fps to f / fps, at the rate that the labelling interface gives (`<Video frameRate="…">`), whatever the file's.
The rate is in no file that Label Studio writes; tasks written here keep it in their data under `fps`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from runtime.annotations.activitynet import finite_number, positive_number
from runtime.common.text import counted, quote
from runtime.errors import AnnotationError
from runtime.exchange.document import Document
from runtime.exchange.frame_rate import frames_of, seconds_of
from runtime.exchange.record import (
    ReadOptions,
    Segment,
    VideoSegments,
    WriteOptions,
    file_name,
    name_by_paths,
    require_rate,
    stem_of,
)

CONTROL, OBJECT = "videoLabels", "video"
"""Names of the tags of Label Studio's own template: <TimelineLabels name="videoLabels" toName="video">."""
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""Name of an uploaded file: Label Studio puts eight digits before it."""


def recognise(document: Document) -> bool:
    """Return whether a file is a list of tasks, in Label Studio's form JSON or JSON-MIN, or a single one."""
    tasks = document.json
    tasks = [tasks] if isinstance(tasks, Mapping) else tasks
    return (
        isinstance(tasks, list) and bool(tasks) and all(isinstance(task, Mapping) and _is_task(task) for task in tasks)
    )


def _is_task(task: Mapping[str, Any]) -> bool:
    if isinstance(task.get("data"), Mapping):
        return any(isinstance(task.get(key), list) for key in ("annotations", "predictions"))
    return any(_is_minimal(value) for value in task.values())


def _is_minimal(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(one, Mapping) and "ranges" in one for one in value)


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read tasks; of a task with both, annotations unless predictions are asked for, the last that was not cancelled.

    Regions of TimelineLabels, and those of Labels on the sound of a video, whose times are seconds, are read; others
    are left out with a note. A region with several labels is one segment for each.

    Raises:
        AnnotationError: a task has another form, or nobody knows the frame rate.
    """
    tasks = document.json if isinstance(document.json, list) else [document.json]
    others: dict[str, int] = {}
    places = [f"{document.path}: task {index}" for index in range(len(tasks))]
    names = name_by_paths([_path(task, where) for task, where in zip(tasks, places, strict=True)])
    videos = [_task(task, name, where, options, others) for task, name, where in zip(tasks, names, places, strict=True)]
    for kind, count in others.items():
        options.note(f"{document.path}: {counted(count, 'region')} of the type {kind} left out, as no segments of time")
    return videos


def write(videos: Sequence[VideoSegments], options: WriteOptions) -> str:
    """Return tasks to import, with predictions (pre-annotations) or annotations.

    The names of the tags are those of Label Studio's template; see docs/formats.md for the labelling interface.

    Raises:
        InputError: the frame rate of a video is unknown.
    """
    tasks = []
    for video in videos:
        fps = require_rate(video, "Label Studio")
        facts = {"fps": fps, "duration": video.duration_s, "subset": video.subset or None}
        results = [_region(one, fps, f"{index:05d}") for index, one in enumerate(video.segments)]
        made: dict[str, Any] = {"result": results}
        if options.kind == "predictions":
            scores = [one.score for one in video.segments if one.score is not None]
            made = {"model_version": "afsd", **({"score": max(scores)} if scores else {}), **made}
        data = {OBJECT: options.media_of(video)} | {key: value for key, value in facts.items() if value is not None}
        tasks.append({"data": data, options.kind: [made]})
    return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"


def _region(one: Segment, fps: float, identifier: str) -> dict[str, Any]:
    first, behind = frames_of(one.start_s, one.end_s, fps)
    region: dict[str, Any] = {
        "id": identifier,
        "type": "timelinelabels",
        "from_name": CONTROL,
        "to_name": OBJECT,
        "value": {"ranges": [{"start": first + 1, "end": behind}], "timelinelabels": [one.label]},
    }
    return region if one.score is None else region | {"score": one.score}


def _data(task: Mapping[str, Any]) -> Mapping[str, Any]:
    data = task.get("data")
    return data if isinstance(data, Mapping) else task  # JSON-MIN


def _path(task: object, where: str) -> str:
    """Return the path of the video of a task."""
    if not isinstance(task, Mapping):
        raise AnnotationError(f"{where}: got {quote(task)}, expected a task")
    data = _data(task)
    path = path_of(
        str(data.get(OBJECT) or next((v for v in data.values() if _is_address(v)), "") or task.get("file_upload", ""))
    )
    if not stem_of(path):
        raise AnnotationError(f"{where}: names no video; expected its address under data.{OBJECT}")
    return path


def _task(
    task: Mapping[str, Any], name: str, where: str, options: ReadOptions, others: dict[str, int]
) -> VideoSegments:
    data, path = _data(task), _path(task, where)
    stored, duration = (positive_number(data.get(key), f"{where}: {key}") for key in ("fps", "duration"))
    segments = []
    for region in _regions(task, where, options):
        found = list(_segments(region, where, lambda: options.fps(name, stored, where)))
        segments += found
        if not found:
            kind = str(region.get("type", "unknown"))
            others[kind] = others.get(kind, 0) + 1
    rate = options.rate(name)
    fps = rate if rate is not None and (options.rate_wins or stored is None) else stored
    subset = data.get("subset")
    return VideoSegments(name, tuple(segments), path, duration, fps, subset=subset if isinstance(subset, str) else "")


def _is_address(value: object) -> bool:
    return isinstance(value, str) and "." in file_name(path_of(value))


def path_of(address: str) -> str:
    """Return the path of a video by its address in a task: without the query, and as it was called before upload."""
    try:
        parts = urlsplit(address) if "://" in address or address.startswith("/data/") else None
    except ValueError:  # no address, whatever it looks like
        parts = None
    if parts is None:
        return address
    path = unquote(parts.path)
    if parts.query and parts.path.rstrip("/").endswith("local-files"):
        path = parse_qs(parts.query).get("d", [path])[0]
    uploaded = _UPLOADED.fullmatch(file_name(path)) if "/upload/" in path else None
    return path if uploaded is None else uploaded[1]


def _regions(task: Mapping[str, Any], where: str, options: ReadOptions) -> Iterator[Mapping[str, Any]]:
    """Yield the regions of the set that is read."""
    if not isinstance(task.get("data"), Mapping):  # JSON-MIN
        for value in task.values():
            if _is_minimal(value):
                yield from ({"type": "timelinelabels", "value": one} for one in value if isinstance(one, Mapping))
        return
    sets = {kind: _sets(task, kind) for kind in ("annotations", "predictions")}
    kind = options.kind or ("annotations" if sets["annotations"] else "predictions")
    if len(sets[kind]) > 1:
        options.note(f"{where}: has {len(sets[kind])} sets of {kind}; the last one is read")
    for region in sets[kind][-1].get("result") or [] if sets[kind] else []:
        if not isinstance(region, Mapping):
            raise AnnotationError(f"{where}: region: got {quote(region)}, expected an object with a value")
        yield region


def _sets(task: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """Return the sets of regions of a task, the one that is marked as ground truth last."""
    given = task.get(kind)
    sets = (
        [one for one in given if isinstance(one, Mapping) and not one.get("was_cancelled")]
        if isinstance(given, list)
        else []
    )
    return sorted(sets, key=lambda one: bool(one.get("ground_truth")))


def _segments(region: Mapping[str, Any], where: str, fps: Any) -> Iterator[Segment]:
    """Yield the segments of a region; none if it is no segment of time."""
    value = region.get("value")
    if not isinstance(value, Mapping):
        return
    labels: list[Any] = next(
        (value[key] for key in ("timelinelabels", "labels") if isinstance(value.get(key), list)), []
    )
    score = region.get("score")
    score = None if score is None else finite_number(score, f"{where}: score")
    times: list[tuple[float, float]] = []
    if isinstance(value.get("ranges"), list):
        for one in value["ranges"]:
            if not isinstance(one, Mapping):
                raise AnnotationError(f"{where}: range: got {quote(one)}, expected start and end, numbers of frames")
            first, last = (finite_number(one.get(side), f"{where}: {side} of a range") for side in ("start", "end"))
            times.append((seconds_of(max(first - 1, 0), fps()), seconds_of(last, fps())))
    elif region.get("type") == "labels" and "start" in value and "end" in value:
        start, end = (finite_number(value[side], f"{where}: {side}") for side in ("start", "end"))
        times.append((start, end))
    for start, end in times:
        if end < start:
            raise AnnotationError(f"{where}: region: got [{start:g}, {end:g}] s, expected the end not before the start")
        yield from (Segment(start, end, str(label), score) for label in labels)
