"""Read and write OpenTimelineIO (.otio, JSON): a track with a clip for each segment, one behind the other.

A clip is named by its label and refers to the video's file; its score is in its metadata under "afsd". Times are frames
at the video's rate, as editors want them. In files of others, markers on clips are segments, and where there are none
the clips themselves; a clip's times count from the start of its media.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from runtime.annotations.activitynet import finite_number
from runtime.common.text import quote
from runtime.errors import AnnotationError
from runtime.exchange.document import Document
from runtime.exchange.frame_rate import exact_rate, frame_of, frames_of
from runtime.exchange.record import (
    ReadOptions,
    Segment,
    VideoSegments,
    WriteOptions,
    from_url,
    name_by_paths,
    require_rate,
    to_url,
)

SCHEMA = "OTIO_SCHEMA"
OURS = "afsd"
"""Key of metadata."""


def recognise(document: Document) -> bool:
    """Return whether a file is JSON with an OpenTimelineIO schema."""
    return isinstance(document.json, Mapping) and SCHEMA in document.json


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read the clips, or the markers on them, of all tracks (AnnotationError: the file has another form)."""
    origin = str(document.path)
    clips = list(_find(document.json, "Clip"))
    marked = any(clip.get("markers") for clip in clips)
    found: dict[str, list[Segment]] = {}
    facts: dict[str, tuple[str, float | None, float | None]] = {}
    paths = [from_url(str(_media(clip).get("target_url") or "")) for clip in clips]
    different = list(dict.fromkeys(paths))
    stems = dict(
        zip(different, name_by_paths([unquote(path) if "://" in path else path for path in different]), strict=True)
    )
    for number, (clip, path) in enumerate(zip(clips, paths, strict=True)):
        where = f"{origin}: clip {number}"
        media = _media(clip)
        name = stems[path] or str(media.get("name") or clip.get("name") or "") or document.stem
        whole = _range(media.get("available_range"), where)
        shown = _range(clip.get("source_range"), where) or whole
        if shown is None:
            raise AnnotationError(f"{where}: has no source_range, so nobody knows which part of its media it shows")
        offset = whole[0] if whole else 0.0
        facts.setdefault(name, (path, whole[1] if whole else None, shown[2]))
        segments = found.setdefault(name, [])
        if not marked:
            label = str(clip.get("name") or name)
            segments.append(Segment(shown[0] - offset, shown[0] + shown[1] - offset, label, _score(clip, where)))
        for marker in clip.get("markers") or []:
            part = _range(marker.get("marked_range"), where) if isinstance(marker, Mapping) else None
            if part is None:
                raise AnnotationError(f"{where}: marker: got {quote(marker)}, expected a marked_range")
            label = str(marker.get("name") or name)
            segments.append(Segment(part[0] - offset, part[0] + part[1] - offset, label, _score(marker, where)))
    return [
        VideoSegments(name, tuple(ones), facts[name][0], facts[name][1], options.rate(name) or facts[name][2])
        for name, ones in found.items()
    ]


def write(videos: Sequence[VideoSegments], options: WriteOptions) -> str:
    """Return a timeline of all videos' segments (InputError: the rate of a video is unknown)."""
    clips = []
    for video in videos:
        fps = require_rate(video, "OpenTimelineIO")
        rate = float(exact_rate(fps))
        whole = None if video.duration_s is None else _to_range(0, frame_of(video.duration_s, fps), rate)
        for one in video.in_time_order():
            first, behind = frames_of(one.start_s, one.end_s, fps)
            reference = {
                SCHEMA: "ExternalReference.1",
                "metadata": {},
                "name": video.name,
                "available_range": whole,
                "target_url": to_url(options.media_of(video)),
            }
            clips.append(
                {
                    SCHEMA: "Clip.1",
                    "metadata": {} if one.score is None else {OURS: {"score": one.score}},
                    "name": one.label,
                    "source_range": _to_range(first, behind - first, rate),
                    "effects": [],
                    "markers": [],
                    "media_reference": reference,
                }
            )
    track = _composition("Track.1", "actions", clips) | {"kind": "Video"}
    stack = _composition("Stack.1", "tracks", [track])
    timeline = {SCHEMA: "Timeline.1", "metadata": {}, "name": "afsd", "global_start_time": None, "tracks": stack}
    return json.dumps(timeline, indent=1, ensure_ascii=False) + "\n"


def _composition(schema: str, name: str, children: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        SCHEMA: schema,
        "metadata": {},
        "name": name,
        "source_range": None,
        "effects": [],
        "markers": [],
        "children": children,
    }


def _to_range(start: int, length: int, rate: float) -> dict[str, Any]:
    moments = ({SCHEMA: "RationalTime.1", "rate": rate, "value": float(value)} for value in (start, length))
    return {SCHEMA: "TimeRange.1", "start_time": next(moments), "duration": next(moments)}


def _find(node: object, kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a schema at any depth, in the order of the file."""
    waiting = [node]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            if str(item.get(SCHEMA, "")).startswith(f"{kind}."):
                yield item
            else:
                waiting += reversed(list(item.values()))
        elif isinstance(item, list):
            waiting += reversed(item)


def _media(clip: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the media reference of a clip of either version; empty if it has none."""
    references = clip.get("media_references")
    if isinstance(references, Mapping):
        chosen = references.get(str(clip.get("active_media_reference_key", "DEFAULT_MEDIA")))
    else:
        chosen = clip.get("media_reference")
    return chosen if isinstance(chosen, Mapping) else {}


def _range(given: object, where: str) -> tuple[float, float, float] | None:
    """Return start and length in seconds, and the rate, of a time range; None for none."""
    if given is None:
        return None
    start, length = (
        _time(given.get(k) if isinstance(given, Mapping) else None, where) for k in ("start_time", "duration")
    )
    return start[0], length[0], length[1]


def _time(given: object, where: str) -> tuple[float, float]:
    """Return seconds and rate of a rational time."""
    if not isinstance(given, Mapping):
        raise AnnotationError(f"{where}: got {quote(given)}, expected a RationalTime")
    value, rate = finite_number(given.get("value"), where), finite_number(given.get("rate"), where)
    if rate <= 0:
        raise AnnotationError(f"{where}: rate: got {rate:g}, expected more than 0")
    return value / float(exact_rate(rate)), rate


def _score(holder: Mapping[str, Any], where: str) -> float | None:
    metadata = holder.get("metadata")
    ours = metadata.get(OURS) if isinstance(metadata, Mapping) else None
    score = ours.get("score") if isinstance(ours, Mapping) else None
    return None if score is None else finite_number(score, f"{where}: score")
