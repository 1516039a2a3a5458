"""ActivityNet annotation files: which action happens when, in which video. The one reader of this format.

    {"database": {video: {"subset", "duration", "fps", "annotations": [{"label", "segment": [start_s, end_s]}]}}}

Only `annotations` is required; numbers may be strings, as in the published THUMOS14 file. `frame`, the number of frames
(OpenTAD), gives the rate where `fps` is missing. Other keys are ignored, so are numbers of classes (`label_id` of
ActionFormer): classes go by their names.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.common.files import read_text
from runtime.errors import AnnotationError


@dataclass(frozen=True)
class Instance:
    """One action: `label` from `start_s` to `end_s`, seconds from the start of the video; the end is not earlier."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class VideoAnnotation:
    """What a file says about one video; where it is silent, `duration_s` and `fps` are None and `subset` is empty."""

    name: str
    subset: str
    duration_s: float | None
    fps: float | None
    instances: tuple[Instance, ...]


def load_annotations(path: str | os.PathLike[str], subset: str | None = None) -> tuple[VideoAnnotation, ...]:
    """The videos of an ActivityNet JSON file in the order of the file; with `subset`, only those of that subset.

    `subset` "" takes the only subset there is, or else "test".

    Raises:
        AnnotationError: no such file, not JSON, not this format (with the video, the number of the annotation, and
            what is wrong), a key that is there twice, or no video of the subset.
    """
    videos = parse_annotations(read_document(path), str(path))
    if subset is None:
        return videos
    if not subset:
        subsets = {video.subset for video in videos}
        subset = subsets.pop() if len(subsets) == 1 else "test"
    chosen = tuple(video for video in videos if video.subset == subset)
    if not chosen:
        there = ", ".join(sorted({repr(video.subset) for video in videos})) or "no video at all"
        raise AnnotationError(f"{path}: no video of subset {subset!r}; the file has {there}")
    return chosen


def parse_splits(document: object, source: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Names of the training and test videos of each fold, {"splits": {fold: {"train": [video, …], "test": […]}}}; none
    where the document has no splits. `source` names it in errors (AnnotationError: of another form)."""
    splits = document.get("splits") if isinstance(document, Mapping) else None
    folds = {}
    for name, split in splits.items() if isinstance(splits, Mapping) else ():
        sides = [split.get(side) if isinstance(split, Mapping) else None for side in ("train", "test")]
        if not all(isinstance(side, list) and all(isinstance(video, str) for video in side) for side in sides):
            raise AnnotationError(f'{source}: splits: {name}: expected {{"train": [video, …], "test": [video, …]}}')
        folds[str(name)] = (tuple(sides[0] or ()), tuple(sides[1] or ()))
    return folds


def read_document(path: str | os.PathLike[str]) -> object:
    """Read a JSON file, packed with gzip or not (AnnotationError: no such file, not JSON, or a key given twice)."""
    path = Path(path)
    try:
        return json.loads(read_text(path), object_pairs_hook=_without_duplicates)
    except FileNotFoundError:
        raise AnnotationError(f"{path}: no such annotation file") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise AnnotationError(f"{path}: cannot be read as JSON: {' '.join(str(error).split())}") from None


def parse_annotations(document: object, source: str) -> tuple[VideoAnnotation, ...]:
    """`load_annotations` for a document that is in memory already; `source` names it in errors (AnnotationError)."""
    database = document.get("database") if isinstance(document, Mapping) else None
    if not isinstance(database, Mapping):
        raise AnnotationError(f'{source}: expected {{"database": {{video: {{"annotations": […]}}}}}}')
    return tuple(_video(str(name), entry, f"{source}: {name}") for name, entry in database.items())


def class_names(videos: Iterable[VideoAnnotation]) -> tuple[str, ...]:
    """The sorted labels of the videos; number k of them (from 0) is class k + 1 of the network, 0 the background."""
    return tuple(sorted({instance.label for video in videos for instance in video.instances}))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key given twice is an error, since the first one would be lost without a word."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} is there twice; keep one of the two")
    return content


def _video(name: str, entry: object, where: str) -> VideoAnnotation:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("annotations"), list):
        raise AnnotationError(f'{where}: expected {{"annotations": [{{"label", "segment"}}, …]}}')
    subset = entry.get("subset", "")
    if not isinstance(subset, str):
        raise AnnotationError(f"{where}: subset: got {subset!r}, expected text")
    duration_s, fps = _positive(entry, "duration", where), _positive(entry, "fps", where)
    if fps is None and duration_s is not None:
        frames = _positive(entry, "frame", where)
        fps = None if frames is None else frames / duration_s
    return VideoAnnotation(
        name=name,
        subset=subset,
        duration_s=duration_s,
        fps=fps,
        instances=tuple(_instance(item, f"{where}: annotation {i}") for i, item in enumerate(entry["annotations"])),
    )


def _instance(item: object, where: str) -> Instance:
    label = item.get("label") if isinstance(item, Mapping) else None
    segment = item.get("segment") if isinstance(item, Mapping) else None
    if not isinstance(label, str) or not label:
        raise AnnotationError(f"{where}: label: got {label!r}, expected the name of a class")
    if not isinstance(segment, (list, tuple)) or len(segment) != 2:
        raise AnnotationError(f"{where}: segment: got {segment!r}, expected [start, end] in seconds")
    start, end = finite_number(segment[0], f"{where}: start"), finite_number(segment[1], f"{where}: end")
    if start < 0 or end < start:
        raise AnnotationError(f"{where}: segment: got [{start:g}, {end:g}], expected 0 <= start <= end in seconds")
    return Instance(start, end, label)


def _positive(entry: Mapping[Any, Any], key: str, where: str) -> float | None:
    if entry.get(key) is None:
        return None
    value = finite_number(entry[key], f"{where}: {key}")
    if value <= 0:
        raise AnnotationError(f"{where}: {key}: got {value:g}, expected more than 0")
    return value


def finite_number(value: object, where: str) -> float:
    """A number of a file, written as text or not; AnnotationError, with `where`, for anything else and for NaN."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise AnnotationError(f"{where}: got {value!r}, expected a number")
    return number
