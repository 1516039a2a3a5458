"""Read THUMOS'14 text files of detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from runtime.annotations.activitynet import finite_number
from runtime.annotations.thumos14 import CLASS_IDS, read_lines
from runtime.errors import AnnotationError
from runtime.results.detections import Detections


def read_text_detections(path: Path) -> list[Detections]:
    """Lines `video start end class-id score` (seconds; UCF101 ids), separated by white space: the challenge's form.

    The ending .mp4 of a video's name is taken off, as the kit does.

    Returns:
        One Detections per video in the order of the file, classes in the order of CLASS_IDS.

    Raises:
        AnnotationError: unreadable, a line of another form, an id of no THUMOS'14 class, or NaN.
    """
    index_of = {identifier: index for index, identifier in enumerate(CLASS_IDS.values())}
    found: dict[str, list[tuple[float, float, int, float]]] = {}
    for fields, where in read_lines(path, 5, "video start end class-id score"):
        start, end, score = (finite_number(text, where) for text in (fields[1], fields[2], fields[4]))
        if not fields[3].isdigit() or int(fields[3]) not in index_of:
            raise AnnotationError(f"{where}: class id {fields[3]!r}; expected one of {', '.join(map(str, index_of))}")
        found.setdefault(fields[0].removesuffix(".mp4"), []).append((start, end, index_of[int(fields[3])], score))
    return [
        Detections(
            np.array([row[:2] for row in rows], np.float64),
            np.array([row[2] for row in rows], np.int32),
            np.array([row[3] for row in rows], np.float64),
            tuple(CLASS_IDS),
            video,
        )
        for video, rows in found.items()
    ]
