"""Annotations in the unit of training, sampled frames: from seconds (ActivityNet files) or from THUMOS14's tables."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.annotations import VideoAnnotation
from runtime.errors import AnnotationError
from runtime.thumos14 import CLASS_IDS

AMBIGUOUS_ID = 0
"""`type_idx` of the rows of THUMOS14's tables that name no class."""


@dataclass(frozen=True)
class FrameInstance:
    """One action from `start` to `end` in (fractional) sampled frames; `label` is the network's class, 1 … K−1."""

    start: float
    end: float
    label: int

    @property
    def length(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class FrameAnnotation:
    """A video as training sees it: `frames` sampled frames and its instances in the order of the annotations."""

    name: str
    frames: int
    instances: tuple[FrameInstance, ...]


def to_sampled_frames(
    video: VideoAnnotation, *, frames: int, sample_fps: float, classes: Sequence[str]
) -> FrameAnnotation:
    """Seconds × sample_fps; instances without length are left out, as no location could be matched to them.

    Args:
        frames: number of sampled frames of the video.
        classes: action names; number k (from 0) becomes label k + 1.

    Raises:
        AnnotationError: a label that is not among the classes.
    """
    index = {name: k + 1 for k, name in enumerate(classes)}
    unknown = sorted({i.label for i in video.instances} - index.keys())
    if unknown:
        raise AnnotationError(f"{video.name}: label {unknown[0]!r} is not one of the classes {', '.join(classes)}")
    instances = tuple(
        FrameInstance(i.start_s * sample_fps, i.end_s * sample_fps, index[i.label])
        for i in video.instances
        if i.end_s > i.start_s
    )
    return FrameAnnotation(video.name, frames, instances)


def read_thumos_tables(
    info_csv: str | os.PathLike[str],
    annotation_csv: str | os.PathLike[str],
    class_ids: Sequence[int] = tuple(CLASS_IDS.values()),
) -> tuple[FrameAnnotation, ...]:
    """The videos of the published THUMOS14 tables, in the order of the info table; those without actions included.

    Times are startFrame and endFrame × sample_count / count, as the published training does, with the tables' own
    faults (frame numbers at 30 fps for 29.97 fps videos, and for video_validation_0000666). Ambiguous rows are
    left out.

    Args:
        info_csv: columns video, fps, sample_fps, count, sample_count.
        annotation_csv: columns video, type, type_idx, start, end, startFrame, endFrame.
        class_ids: `type_idx` of the classes in the network's order.

    Raises:
        AnnotationError: a missing file or column, a value that is no number, an unknown class or video.
    """
    info = {row["video"]: row for row in _rows(info_csv, ("video", "count", "sample_count"))}
    index = {original: k + 1 for k, original in enumerate(class_ids)}
    instances: dict[str, list[FrameInstance]] = {name: [] for name in info}
    columns = ("video", "type_idx", "startFrame", "endFrame")
    for line, row in enumerate(_rows(annotation_csv, columns), start=2):
        where = f"{annotation_csv}: line {line}"
        class_id = int(_number(row, "type_idx", where))
        if class_id == AMBIGUOUS_ID:
            continue
        if class_id not in index or row["video"] not in info:
            raise AnnotationError(f"{where}: class {class_id} of video {row['video']!r} is unknown")
        counts = info[row["video"]]
        ratio = _number(counts, "sample_count", info_csv) / _number(counts, "count", info_csv)
        start, end = (_number(row, key, where) * ratio for key in ("startFrame", "endFrame"))
        if not 0 <= start < end:
            raise AnnotationError(f"{where}: got frames {start:g} to {end:g}, expected 0 <= start < end")
        instances[row["video"]].append(FrameInstance(start, end, index[class_id]))
    return tuple(
        FrameAnnotation(name, int(_number(row, "sample_count", info_csv)), tuple(instances[name]))
        for name, row in info.items()
    )


def _rows(path: str | os.PathLike[str], columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = sorted(set(columns) - set(reader.fieldnames or ()))
            if missing:
                raise AnnotationError(f"{path}: column {missing[0]!r} is missing; expected {', '.join(columns)}")
            return list(reader)
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: cannot be read as a table: {error}") from None


def _number(row: Mapping[str, str], key: str, where: object) -> float:
    try:
        return float(row[key])
    except (TypeError, ValueError):
        raise AnnotationError(f"{where}: {key}: got {row[key]!r}, expected a number") from None
