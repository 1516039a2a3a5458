"""Give segments to FiftyOne, and read and write its data sets of temporal detections on the disk (labels.json).

`FiftyOneTemporalDetectionDataset` is a folder with the videos in data/ and labels.json: class names, and for each
video's name a list of labels with a support of frames, counted from 1 with the last one in it, or with timestamps in
seconds, which are written here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runtime.annotations.activitynet import finite_number
from runtime.common.ranges import FramesPerSecond, require_in_range
from runtime.common.text import quote
from runtime.errors import AnnotationError, InputError, import_failure
from runtime.exchange.document import Document
from runtime.exchange.frame_rate import exact_rate, seconds_of
from runtime.exchange.record import ReadOptions, Segment, VideoSegments, WriteOptions

if TYPE_CHECKING:
    from runtime.results.detections import Detections


def recognise(document: Document) -> bool:
    """Return whether a file is FiftyOne's labels.json of temporal detections."""
    content = document.json
    labels = content.get("labels") if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping) or "classes" not in content or not isinstance(labels, Mapping):
        return False
    lists = [entries for entries in labels.values() if entries]
    return all(isinstance(entries, list) and all(_is_temporal(one) for one in entries) for entries in lists)


def _is_temporal(entry: object) -> bool:
    return isinstance(entry, Mapping) and ("timestamps" in entry or "support" in entry)


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read the labels of all videos (AnnotationError: another form, or frames without a rate)."""
    content, origin = document.json, str(document.path)
    if not isinstance(content, Mapping) or not isinstance(content.get("labels"), Mapping):
        raise AnnotationError(f'{origin}: expected {{"classes": […], "labels": {{video: […]}}}}')
    classes = content.get("classes")
    classes = classes if isinstance(classes, list) else []
    videos = []
    for name, entries in content["labels"].items():
        where = f"{origin}: {name}"
        if entries is not None and not isinstance(entries, list):
            raise AnnotationError(f"{where}: got {quote(entries)}, expected a list of labels")
        segments = [_segment(entry, classes, name, where, options) for entry in entries or []]
        videos.append(VideoSegments(name, tuple(segments), fps=options.rate(name)))
    return videos


def write(videos: Sequence[VideoSegments], _: WriteOptions) -> str:
    """Return the labels of all videos, with timestamps in seconds."""
    classes = sorted({one.label for video in videos for one in video.segments})
    number = {label: index for index, label in enumerate(classes)}
    labels = {
        video.name: [
            {"label": number[one.label], "timestamps": [one.start_s, one.end_s]}
            | ({} if one.score is None else {"confidence": one.score})
            for one in video.segments
        ]
        for video in videos
    }
    return json.dumps({"classes": classes, "labels": labels}, indent=1, ensure_ascii=False) + "\n"


def to_fiftyone(found: Detections, sample: Any = None, fps: float | None = None) -> Any:
    """Return detections as `fiftyone.TemporalDetections`; see `Detections.to_fiftyone`."""
    require_in_range("fps", fps, FramesPerSecond | None)
    try:
        import fiftyone
    except ImportError as error:
        raise import_failure(error, "fiftyone", "", "Detections.to_fiftyone") from None
    if (sample is None) == (fps is None):
        raise InputError("to_fiftyone: give the sample, whose metadata has the frame rate, or fps")
    made = []
    for one in found:
        facts = {"label": one.label, "confidence": one.score}
        if fps is None:
            times = [one.start_s, one.end_s]
            made.append(fiftyone.TemporalDetection.from_timestamps(times, sample=sample, **facts))
        else:
            made.append(fiftyone.TemporalDetection(support=to_support(one.start_s, one.end_s, fps), **facts))
    return fiftyone.TemporalDetections(detections=made)


def to_support(start_s: float, end_s: float, fps: float) -> list[int]:
    """Return the first and the last frame, counted from 1, that are on screen within a segment."""
    rate = float(exact_rate(fps))
    first = max(math.floor(start_s * rate + 1e-6), 0) + 1
    return [first, max(math.ceil(end_s * rate - 1e-6), first)]


def _segment(entry: object, classes: Sequence[Any], name: str, where: str, options: ReadOptions) -> Segment:
    times = entry.get("timestamps", entry.get("support")) if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(times, list) or len(times) != 2:
        raise AnnotationError(f'{where}: got {quote(entry)}, expected {{"label", "timestamps": [start, end]}}')
    start, end = (finite_number(moment, where) for moment in times)
    if "timestamps" not in entry:
        fps = options.fps(name, None, where)
        start, end = seconds_of(max(start - 1, 0), fps), seconds_of(end, fps)
    if end < start:
        raise AnnotationError(f"{where}: got [{start:g}, {end:g}] s, expected the end not before the start")
    label = entry.get("label")
    if isinstance(label, int) and not isinstance(label, bool):
        if not 0 <= label < len(classes):
            raise AnnotationError(f"{where}: label: got {quote(label)}, expected a number below {len(classes)}")
        label = classes[label]
    score = entry.get("confidence")
    return Segment(start, end, str(label or ""), None if score is None else finite_number(score, where))
