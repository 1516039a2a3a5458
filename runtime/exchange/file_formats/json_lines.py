"""Read and write JSON lines: a detection a line, or a video, as `afsd detect` and `afsd watch` give them out.

    {"video": "street", "label": "jump", "score": 0.8, "segment": [1.5, 3.0]}
    {"event": "detection", "video": "street", "label": "jump", "score": 0.8, "segment": [1.5, 3.0], …}
    {"video": "street", "detections": [{"label": "jump", "score": 0.8, "segment": [1.5, 3.0]}, …], "facts": {…}, …}
    {"video": "street", "label": "jump", "start_s": 1.5, "end_s": 3.0, "score": 0.8, "path": …, "threshold": …, …}
    {"video": "broken", "error": "VideoError", "message": "…", …}

They are of --stream, watch, --jsonl and --format jsonl; the third is written here. Other events of `afsd watch` are no
segments; where it starts it says what it looks with. A file may hold several runs on the same video, since --stream and
watch append: of those that say where they start, the last is read; what is there twice is read once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from runtime.annotations.activitynet import finite_number
from runtime.common.mappings import StructureError, from_mapping
from runtime.common.text import counted, quote
from runtime.errors import AnnotationError
from runtime.exchange.document import Document
from runtime.exchange.record import ReadOptions, Segment, VideoSegments, WriteOptions, origin_of
from runtime.results.facts import VideoFacts, known_facts

SUFFIX = ".jsonl"
FACTS = tuple(field.name for field in fields(VideoFacts))
"""What a line may say of a video, or of the run."""


def recognise(document: Document) -> bool:
    """Return whether a file has the suffix of JSON lines."""
    return document.suffix == SUFFIX


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read the detections of the videos in the order in which they first appear.

    Raises:
        AnnotationError: a line is whole and has another form.
    """
    found: dict[str, dict[Segment, None]] = {}
    facts: dict[str, VideoFacts] = {}
    halves = runs = twice = failed = 0
    for number, line in enumerate(document.text.split("\n"), 1):
        where = f"{document.path}: line {number}"
        if not line.strip():
            continue
        try:
            entry: Any = json.loads(line)
        except (ValueError, RecursionError):
            if not line.lstrip().startswith("{"):
                raise AnnotationError(f"{where}: got {quote(line)}, expected an object of JSON") from None
            halves += 1  # a process was ended in the middle of it
            continue
        video = entry.get("video") if isinstance(entry, Mapping) else None
        if not isinstance(video, str) or not video:
            raise AnnotationError(f'{where}: got {quote(entry)}, expected {{"video", "label", "score", "segment"}}')
        if "error" in entry:
            failed += 1
            continue
        segments = found.setdefault(video, {})
        if isinstance(entry.get("detections"), list):
            segments.clear()
            segments.update(dict.fromkeys(_segment(one, where) for one in entry["detections"]))
            facts[video] = _facts(entry.get("facts"))
            continue
        if entry.get("event", "detection") != "detection":
            if entry["event"] == "started":
                runs += bool(segments)
                segments.clear()
                facts[video] = _facts({key: entry.get(key) for key in FACTS} | {"path": entry.get("source")})
            continue
        if "start_s" in entry:
            facts[video] = _facts({key: entry.get(key) for key in FACTS})
        segment = _segment(entry, where)
        twice += segment in segments
        segments[segment] = None
    for count, what in (
        (halves, "half written and left out"),
        (failed, "of a video that failed"),
        (runs, "the start of a further run, of which the last is read"),
        (twice, "there twice and read once"),
    ):
        if count:
            options.note(f"{document.path}: {counted(count, 'line')}: {what}")
    return [_video(name, tuple(segments), facts.get(name, VideoFacts()), options) for name, segments in found.items()]


def _video(name: str, segments: tuple[Segment, ...], facts: VideoFacts, options: ReadOptions) -> VideoSegments:
    fps = facts.fps if facts.fps is not None and not options.rate_wins else options.rate(name)
    return VideoSegments(
        name, segments, facts.path, facts.duration_s, fps, threshold=facts.threshold, origin=origin_of(facts)
    )


def write(videos: Sequence[VideoSegments], options: WriteOptions) -> str:
    """Return a line for each video, with what is known of it and, of predictions, of where they are from."""
    lines = []
    for video in videos:
        facts = video.facts() if options.kind == "predictions" else VideoFacts(video.path, video.duration_s, video.fps)
        segments = [
            {"label": one.label}
            | ({} if one.score is None else {"score": one.score})
            | {"segment": [one.start_s, one.end_s]}
            for one in video.segments
        ]
        lines.append({"video": video.name, "detections": segments, "facts": known_facts(facts)})
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)


def _facts(entry: object) -> VideoFacts:
    """Return what a line says of its video; nothing where it is none of this project's."""
    known = {key: value for key, value in entry.items() if value is not None} if isinstance(entry, Mapping) else {}
    try:
        return from_mapping(VideoFacts, known)
    except StructureError:
        return VideoFacts()


def _segment(entry: object, where: str) -> Segment:
    if not isinstance(entry, Mapping):
        raise AnnotationError(f'{where}: got {quote(entry)}, expected {{"label", "score", "segment"}}')
    label, times, score = entry.get("label"), entry.get("segment"), entry.get("score")
    if times is None and "start_s" in entry:
        times = [entry["start_s"], entry.get("end_s")]
    if not isinstance(label, str):
        raise AnnotationError(f"{where}: label: got {quote(label)}, expected the name of a class")
    if not isinstance(times, list) or len(times) != 2:
        raise AnnotationError(f"{where}: segment: got {quote(times)}, expected [start, end] in seconds")
    start, end = (finite_number(moment, f"{where}: segment") for moment in times)
    if end < start:
        raise AnnotationError(f"{where}: segment: got [{start:g}, {end:g}], expected the end not before the start")
    return Segment(start, end, label, None if score is None else finite_number(score, f"{where}: score"))
