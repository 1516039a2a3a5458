"""Read THUMOS'14 text files of detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from runtime.annotations.activitynet import finite_number
from runtime.annotations.thumos14 import CLASS_IDS, read_lines
from runtime.common.text import quote
from runtime.errors import AnnotationError
from runtime.results.detections import Detections


def read_text_detections(path: Path) -> list[Detections]:
    """Read the challenge's text files: lines `video start end class-id score` in seconds, with UCF101 ids.

    The suffix .mp4 of a video's name is removed, as the kit does.

    Returns:
        One Detections per video in the order of the file, classes in the order of CLASS_IDS.

    Raises:
        AnnotationError: the file cannot be read, a line has another form or NaN, or an id is of no THUMOS'14 class.
    """
    index_of = {str(identifier): index for index, identifier in enumerate(CLASS_IDS.values())}
    found: dict[str, list[tuple[float, float, int, float]]] = {}
    for fields, where in read_lines(path, 5, "video start end class-id score"):
        start, end, score = (finite_number(text, where) for text in (fields[1], fields[2], fields[4]))
        if fields[3] not in index_of:
            raise AnnotationError(f"{where}: class id {quote(fields[3])}; expected one of {', '.join(index_of)}")
        found.setdefault(fields[0].removesuffix(".mp4"), []).append((start, end, index_of[fields[3]], score))
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
