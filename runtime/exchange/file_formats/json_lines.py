"""Read and write JSON lines: a detection a line, or a video, as `afsd detect` and `afsd watch` give them out.

    {"video": "street", "label": "jump", "score": 0.8, "segment": [1.5, 3.0]}
    {"event": "detection", "video": "street", "label": "jump", "score": 0.8, "segment": [1.5, 3.0], …}
    {"video": "street", "detections": [{"label": "jump", "score": 0.8, "segment": [1.5, 3.0]}, …], "facts": {…}, …}
    {"video": "street", "label": "jump", "start_s": 1.5, "end_s": 3.0, "score": 0.8, "path": …, "threshold": …, …}
    {"video": "broken", "error": "VideoError", "message": "…", …}

They are of --stream, watch, --jsonl and --format jsonl; the third is written here. Other events of `afsd watch` are no
segments; where it starts it says what it looks with. Since --stream and watch append, lines may be there twice, which
are read once, and those of several runs, which `Runs` keeps apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from runtime.annotations.activitynet import finite_number
from runtime.common.mappings import StructureError, from_mapping
from runtime.common.text import counted, quote, some
from runtime.errors import AnnotationError
from runtime.exchange.document import Document
from runtime.exchange.record import ReadOptions, Segment, VideoSegments, WriteOptions, origin_of
from runtime.exchange.runs import Runs
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
    return read_days([document], options)


def read_days(documents: Sequence[Document], options: ReadOptions) -> list[VideoSegments]:
    """Read files as if they were one: a run of a watch goes on from a day's file to the next one.

    Raises:
        AnnotationError: a line is whole and has another form.
    """
    videos: dict[str, Runs] = {}
    for document in documents:
        _read_lines(document, videos, options)
    place = documents[0].path if len(documents) == 1 else documents[0].path.parent
    for count, what in (
        (
            sum(runs.replaced for runs in videos.values()),
            "the start of a further run on a file, of which the last is read",
        ),
        (sum(runs.twice for runs in videos.values()), "there twice and read once"),
    ):
        if count:
            options.note(f"{place}: {counted(count, 'line')}: {what}")
    taken = set(videos)
    found = []
    for name, runs in videos.items():
        named = runs.named(name, taken)
        found += [
            _video(shown, tuple(run.segments), run.facts, options.rate(name), options.rate_wins)
            for shown, run in named.items()
        ]
        if further := list(named)[1:]:
            what = counted(len(further), "further run")
            options.note(f"{place}: {quote(name)}: {what}, with seconds counted anew, kept apart as {some(further)}")
    return found


def _read_lines(document: Document, videos: dict[str, Runs], options: ReadOptions) -> None:
    """Add what the lines of a file say to the runs of their videos, and note the lines that are left out."""
    halves = failed = 0
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
        runs = videos.setdefault(video, Runs())
        if isinstance(entry.get("detections"), list):
            runs.current.segments = dict.fromkeys(_segment(one, where) for one in entry["detections"])
            runs.current.facts = _facts(entry.get("facts"))
        elif entry.get("event", "detection") == "detection":
            if "start_s" in entry:
                runs.current.facts = _facts({key: entry.get(key) for key in FACTS})
            runs.add(_segment(entry, where))
        elif entry["event"] == "started":
            runs.start(_facts({key: entry.get(key) for key in FACTS} | {"path": entry.get("source")}), entry)
    for count, what in ((halves, "half written and left out"), (failed, "of a video that failed")):
        if count:
            options.note(f"{document.path}: {counted(count, 'line')}: {what}")


def _video(
    name: str, segments: tuple[Segment, ...], facts: VideoFacts, known: float | None, known_wins: bool
) -> VideoSegments:
    fps = facts.fps if facts.fps is not None and not known_wins else known
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
