"""Read ActivityNet annotation files; all packages read this format here.

    {"database": {video: {"subset", "duration", "fps", "annotations": [{"label", "segment": [start_s, end_s]}]}}}

Only `annotations` is required; numbers may be strings, as in the published THUMOS14 file. `frame`, the number of frames
(OpenTAD), gives the rate where `fps` is missing. Other keys are ignored, also class numbers (`label_id` of
ActionFormer): classes are identified by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runtime.common.files import PathLike, read_json
from runtime.common.text import quote
from runtime.errors import AnnotationError


@dataclass(frozen=True)
class Instance:
    """Holds one action: `label` from `start_s` to `end_s` ≥ `start_s`, in seconds from the start of the video."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class VideoAnnotation:
    """Holds the annotations of one video; unknown `duration_s` and `fps` are None, an unknown `subset` is empty."""

    name: str
    subset: str
    duration_s: float | None
    fps: float | None
    instances: tuple[Instance, ...]


def load_annotations(path: PathLike, subset: str | None = None) -> tuple[VideoAnnotation, ...]:
    """Load the videos of an ActivityNet JSON file in the order of the file, all or those of one subset.

    `subset` "" means the only subset of the file, or else "test".

    Raises:
        AnnotationError: the file is not found, not JSON or not in this format, has a key twice, or has no video of the
            subset; the message names the video, the annotation and the fault.
    """
    return choose_subset(parse_annotations(read_document(path), str(path)), subset, str(path))


def choose_subset(videos: tuple[VideoAnnotation, ...], subset: str | None, origin: str) -> tuple[VideoAnnotation, ...]:
    """Return the videos of a subset as `load_annotations` does; `origin` names the file in an AnnotationError."""
    if subset is None:
        return videos
    if not subset:
        subsets = {video.subset for video in videos}
        subset = subsets.pop() if len(subsets) == 1 else "test"
    chosen = tuple(video for video in videos if video.subset == subset)
    if not chosen:
        there = ", ".join(sorted({repr(video.subset) for video in videos})) or "no video at all"
        raise AnnotationError(f"{origin}: no video of subset {subset!r}; the file has {there}")
    return chosen


def parse_splits(document: object, origin: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return the names of the training and test videos of each fold; none if the document has no splits.

    The form is {"splits": {fold: {"train": [video, …], "test": [video, …]}}} (else AnnotationError, which begins with
    `origin`).
    """
    splits = document.get("splits") if isinstance(document, Mapping) else None
    folds = {}
    for name, split in splits.items() if isinstance(splits, Mapping) else ():
        sides = [split.get(side) if isinstance(split, Mapping) else None for side in ("train", "test")]
        if not all(isinstance(side, list) and all(isinstance(video, str) for video in side) for side in sides):
            raise AnnotationError(f'{origin}: splits: {name}: expected {{"train": [video, …], "test": [video, …]}}')
        folds[str(name)] = (tuple(sides[0] or ()), tuple(sides[1] or ()))
    return folds


def read_document(path: PathLike) -> object:
    """Read a JSON file (AnnotationError: the file is not found, not JSON, or has a key twice)."""
    document: object = read_json(path, "file of annotations", AnnotationError)
    return document


def parse_annotations(document: object, origin: str) -> tuple[VideoAnnotation, ...]:
    """Read the videos of a parsed document as `load_annotations` does; `origin` names it in an AnnotationError."""
    database = document.get("database") if isinstance(document, Mapping) else None
    if not isinstance(database, Mapping):
        raise AnnotationError(f'{origin}: expected {{"database": {{video: {{"annotations": […]}}}}}}')
    return tuple(_video(str(name), entry, f"{origin}: {name}") for name, entry in database.items())


def class_names(videos: Iterable[VideoAnnotation]) -> tuple[str, ...]:
    """Return the sorted labels of the videos; label k (from 0) is class k + 1 of the network, 0 is the background."""
    return tuple(sorted({instance.label for video in videos for instance in video.instances}))


def _video(name: str, entry: object, where: str) -> VideoAnnotation:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("annotations"), list):
        raise AnnotationError(f'{where}: expected {{"annotations": [{{"label", "segment"}}, …]}}')
    subset = entry.get("subset", "")
    if not isinstance(subset, str):
        raise AnnotationError(f"{where}: subset: got {quote(subset)}, expected text")
    duration_s, fps = (positive_number(entry.get(key), f"{where}: {key}") for key in ("duration", "fps"))
    if fps is None and duration_s is not None:
        frames = positive_number(entry.get("frame"), f"{where}: frame")
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
        raise AnnotationError(f"{where}: label: got {quote(label)}, expected the name of a class")
    if not isinstance(segment, (list, tuple)) or len(segment) != 2:
        raise AnnotationError(f"{where}: segment: got {quote(segment)}, expected [start, end] in seconds")
    start, end = finite_number(segment[0], f"{where}: start"), finite_number(segment[1], f"{where}: end")
    if start < 0 or end < start:
        raise AnnotationError(f"{where}: segment: got [{start:g}, {end:g}], expected 0 <= start <= end in seconds")
    return Instance(start, end, label)


def finite_number(value: object, where: str) -> float:
    """Return a number of a file, given as number or text; AnnotationError, with `where`, for anything else and NaN."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):  # JSON's integers have any number of digits
        number = math.nan
    if not math.isfinite(number):
        raise AnnotationError(f"{where}: got {quote(value)}, expected a number")
    return number


def positive_number(value: object, where: str) -> float | None:
    """Return a number of a file that is above 0, None for None and empty text; AnnotationError for anything else."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    number = finite_number(value, where)
    if number <= 0:
        raise AnnotationError(f"{where}: got {number:g}, expected more than 0")
    return number
