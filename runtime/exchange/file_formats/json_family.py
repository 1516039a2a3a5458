"""Read and write ActivityNet JSON and its relatives: annotations ("database") and detections ("results").

OpenTAD's annotations also give the number of frames, ActionFormer's the rate and a number per class. All are read
alike; classes are known by name, so numbers are not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.annotations.activitynet import parse_annotations
from runtime.common.text import quote
from runtime.errors import AnnotationError, InputError
from runtime.exchange.document import Document
from runtime.exchange.frame_rate import frame_of
from runtime.exchange.record import ReadOptions, VideoSegments, WriteOptions, require_rate
from runtime.results.detections import load_detections, results_document


def recognise(document: Document) -> bool:
    """Return whether a file is JSON of annotations or detections in ActivityNet's form."""
    content = document.json
    return isinstance(content, Mapping) and ("database" in content or "results" in content)


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read annotations or detections; of a file with both, annotations unless predictions are asked for.

    Raises:
        AnnotationError: the file has another form.
    """
    content, origin = document.json, str(document.path)
    if not isinstance(content, Mapping):
        raise AnnotationError(f'{origin}: got {quote(content)}, expected an object with "database" or "results"')
    if "results" in content and (options.kind == "predictions" or "database" not in content):
        return [VideoSegments.from_detections(found) for found in load_detections(document.path, keep_inverted=True)]
    return [VideoSegments.from_annotation(video) for video in parse_annotations(content, origin)]


def write_activitynet(videos: Sequence[VideoSegments], options: WriteOptions) -> str:
    """Return annotations, or detections if predictions are written; a segment without a score then has 1."""
    if options.kind == "predictions":
        document = results_document([video.to_detections() for video in videos])
        return _to_text({key: value for key, value in document.items() if key != "classes"})  # no model's
    return _to_text(_database(videos, {video.name: _known(fps=video.fps) for video in videos}))


def write_opentad(videos: Sequence[VideoSegments], options: WriteOptions) -> str:
    """Return OpenTAD's annotations with duration and number of frames, or detections.

    Raises:
        InputError: the length or the rate of a video is unknown.
    """
    if options.kind == "predictions":
        return write_activitynet(videos, options)
    more = {v.name: {"frame": frame_of(_require_length(v, "OpenTAD"), require_rate(v, "OpenTAD"))} for v in videos}
    return _to_text(_database(videos, more))


def write_actionformer(videos: Sequence[VideoSegments], options: WriteOptions) -> str:
    """Return ActionFormer's annotations with duration, rate, and a number for each class, counted in sorted order.

    Raises:
        InputError: the length or the rate of a video is unknown, or predictions are to be written.
    """
    if options.kind == "predictions":
        raise InputError(
            "ActionFormer keeps its detections as pickles, which are not safe to open; give --to activitynet, or "
            "--annotations to write what was found as annotations"
        )
    labels = sorted({one.label for video in videos for one in video.segments})
    more = {v.name: {"fps": require_rate(v, "ActionFormer")} for v in videos if _require_length(v, "ActionFormer")}
    document = _database(videos, more)
    for entry in document["database"].values():
        for one in entry["annotations"]:
            one["label_id"] = labels.index(one["label"])
    return _to_text(document)


def _require_length(video: VideoSegments, tool: str) -> float:
    if video.duration_s is None:
        raise InputError(f"{video.name}: {tool} needs its length, which is unknown; give --videos DIR with the videos")
    return video.duration_s


def _database(videos: Sequence[VideoSegments], more: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of a file of annotations; `more` has further keys of each video by name."""
    return {
        "version": "afsd 1",
        "database": {
            video.name: {
                **_known(subset=video.subset, duration=video.duration_s),
                **more[video.name],
                "annotations": [{"label": one.label, "segment": [one.start_s, one.end_s]} for one in video.segments],
            }
            for video in videos
        },
    }


def _known(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _to_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
