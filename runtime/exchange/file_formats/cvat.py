"""Read and write CVAT's annotations of a video (CVAT for video 1.1, XML).

CVAT holds shapes on frames, and no segments of time: a segment is a track whose box is the whole picture from the first
frame on, and is outside it from the frame behind the last. Files of CVAT are read so: each stretch of frames on which a
track is not outside is a segment, whatever its shapes; of CVAT for images, each stretch of frames with the same tag.
Frames are counted from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement

from runtime.annotations.activitynet import finite_number
from runtime.errors import AnnotationError, InputError
from runtime.exchange.document import Document, to_xml, xml_text
from runtime.exchange.frame_rate import frame_of, frames_of, seconds_of
from runtime.exchange.record import (
    ReadOptions,
    Segment,
    VideoSegments,
    WriteOptions,
    file_name,
    require_rate,
    require_single,
    stem_of,
)

SCORE = "score"
"""Attribute of a label that holds scores; CVAT keeps it where the label has an attribute of the name."""


@dataclass(frozen=True)
class _Task:
    """Holds what the head of a file says about a video."""

    name: str
    path: str
    last_frame: int | None
    size: tuple[int, int] | None


def recognise(document: Document) -> bool:
    """Return whether a file is XML with CVAT's root and tracks, images or its version in it."""
    root = document.xml
    return root is not None and root.tag == "annotations" and any(root.find(t) is not None for t in ("version", "meta"))


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read the tracks and tags of a task, or of all tasks of a project.

    Raises:
        AnnotationError: the file has another form, or nobody knows the frame rate.
    """
    root, origin = document.xml, str(document.path)
    if root is None or root.tag != "annotations":
        raise AnnotationError(f"{origin}: expected <annotations>, which CVAT writes")
    tasks = _tasks(root, document.stem)
    found: dict[str, list[Segment]] = {identifier: [] for identifier in tasks}
    first = next(iter(tasks))
    for number, track in enumerate(root.findall("track")):
        identifier = track.get("task_id", first)
        identifier = identifier if identifier in tasks else first
        where = f"{origin}: track {track.get('id', number)}"
        found[identifier] += _track(track, tasks[identifier], where, options)
    for identifier, task in tasks.items():
        images = [image for image in root.findall("image") if image.get("task_id", first) == identifier]
        found[identifier] += _tags(images, task, origin, options)
    return [
        VideoSegments(
            task.name,
            tuple(sorted(found[identifier], key=lambda one: (one.start_s, one.end_s))),
            task.path,
            fps=options.rate(task.name),
            size=task.size,
        )
        for identifier, task in tasks.items()
    ]


def write(videos: Sequence[VideoSegments], _: WriteOptions) -> str:
    """Return the file of a video, to be uploaded to its task as "CVAT 1.1".

    Raises:
        InputError: several videos, or the rate or the size of the picture is unknown.
    """
    video = require_single(videos, "CVAT")
    fps = require_rate(video, "CVAT")
    if video.size is None:
        raise InputError(f"{video.name}: CVAT needs the size of the picture; give --videos DIR with the videos")
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    frames = None if video.duration_s is None else max(frame_of(video.duration_s, fps), 1)
    _add_meta(root, video, frames)
    for number, one in enumerate(video.in_time_order()):
        first, behind = frames_of(one.start_s, one.end_s, fps)
        if frames is not None:  # CVAT refuses frames that its task has not
            first = min(first, frames - 1)
        attributes = {"id": str(number), "label": xml_text(one.label), "source": "file"}
        track = SubElement(root, "track", attributes)
        _add_box(track, first, video.size, one.score, outside=False)
        if frames is None or behind < frames:
            _add_box(track, behind, video.size, one.score, outside=True)
    return to_xml(root)


def _add_meta(root: Element, video: VideoSegments, frames: int | None) -> None:
    """Add the head: the task, its labels and the video's name and size."""
    assert video.size is not None
    task = SubElement(SubElement(root, "meta"), "task")
    SubElement(task, "name").text = xml_text(video.name)
    if frames is not None:
        SubElement(task, "size").text = str(frames)
    SubElement(task, "mode").text = "interpolation"
    SubElement(task, "start_frame").text = "0"
    if frames is not None:
        SubElement(task, "stop_frame").text = str(frames - 1)
    labels = SubElement(task, "labels")
    for name in sorted({one.label for one in video.segments}):
        label = SubElement(labels, "label")
        SubElement(label, "name").text = xml_text(name)
        SubElement(label, "attributes")
    size = SubElement(task, "original_size")
    SubElement(size, "width").text, SubElement(size, "height").text = map(str, video.size)
    SubElement(task, "source").text = xml_text(file_name(video.media))


def _add_box(track: Element, frame: int, size: tuple[int, int], score: float | None, *, outside: bool) -> None:
    box = SubElement(
        track,
        "box",
        {
            "frame": str(frame),
            "keyframe": "1",
            "outside": str(int(outside)),
            "occluded": "0",
            "xtl": "0.00",
            "ytl": "0.00",
            "xbr": f"{size[0]:.2f}",
            "ybr": f"{size[1]:.2f}",
            "z_order": "0",
        },
    )
    if score is not None:
        SubElement(box, "attribute", {"name": SCORE}).text = repr(score)


def _tasks(root: Element, stem: str) -> dict[str, _Task]:
    """Return the tasks of a file by their identifiers; one of the file's name where its head names none."""
    given = [*root.findall("meta/task"), *root.findall("meta/project/tasks/task"), *root.findall("meta/job")]
    tasks: dict[str, _Task] = {}
    for task in given:
        source = task.findtext("source") or task.findtext("name") or ""
        last = task.findtext("stop_frame")
        size = (task.findtext("original_size/width"), task.findtext("original_size/height"))
        tasks[task.findtext("id") or str(len(tasks))] = _Task(
            stem_of(source) or stem,
            source if "." in source else "",
            int(last) if last is not None and _is_count(last) else None,
            (int(size[0]), int(size[1])) if all(side is not None and _is_count(side) for side in size) else None,  # type: ignore[arg-type]
        )
    return tasks or {"0": _Task(stem, "", None, None)}


def _track(track: Element, task: _Task, where: str, options: ReadOptions) -> Iterator[Segment]:
    """Yield a segment for each stretch of frames on which the shapes of a track are not outside."""
    shapes = [shape for shape in track if shape.get("frame") is not None]
    frames = sorted(
        ((_frame(shape, where), shape.get("outside") == "1", shape) for shape in shapes), key=lambda item: item[0]
    )
    label, score, start = track.get("label", ""), None, None
    for frame, outside, shape in frames:
        if start is None and not outside:
            start, score = frame, _score(shape, where)
        elif start is not None and outside:
            yield _segment(start, frame, label, score, task, where, options)
            start = None
    if start is not None:
        behind = max(frames[-1][0], -1 if task.last_frame is None else task.last_frame) + 1
        yield _segment(start, behind, label, score, task, where, options)


def _tags(images: Sequence[Element], task: _Task, origin: str, options: ReadOptions) -> Iterator[Segment]:
    """Yield a segment for each stretch of frames that have the same tag; frames that the file leaves out end it."""
    numbers = sorted(((_frame(image, f"{origin}: image", "id"), image) for image in images), key=lambda item: item[0])
    steps = [later[0] - earlier[0] for earlier, later in pairwise(numbers)]
    step = max(min(steps, default=1), 1)
    open_since: dict[str, int] = {}
    previous = 0
    for number, image in [*numbers, (numbers[-1][0] + 2 * step, Element("image"))] if numbers else []:
        labels = {tag.get("label", "") for tag in image.findall("tag")}
        for label in [label for label in open_since if label not in labels or number > previous + step]:
            start = open_since.pop(label)
            yield _segment(start, previous + step, label, None, task, origin, options)
        for label in labels:
            open_since.setdefault(label, number)
        previous = number


def _segment(
    start: int, behind: int, label: str, score: float | None, task: _Task, where: str, options: ReadOptions
) -> Segment:
    fps = options.fps(task.name, None, where)
    return Segment(seconds_of(start, fps), seconds_of(behind, fps), label, score)


def _frame(shape: Element, where: str, attribute: str = "frame") -> int:
    text = shape.get(attribute, "")
    if not _is_count(text):
        raise AnnotationError(f"{where}: {attribute}: got {text!r}, expected the number of a frame")
    return int(text)


def _is_count(text: str) -> bool:
    """Return whether a text is a number of frames or pixels."""
    return re.fullmatch("[0-9]{1,12}", text) is not None


def _score(shape: Element, where: str) -> float | None:
    """Return the score of a shape; None where its attribute is missing or no number, as a label's own attributes."""
    for attribute in shape.findall("attribute"):
        if attribute.get("name") == SCORE and attribute.text:
            try:
                return finite_number(attribute.text, where)
            except AnnotationError:
                return None
    return None
