"""Read THUMOS'14's own files: the classes, the official evaluation kit's annotations, and annotation tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from runtime.annotations.activitynet import Instance, VideoAnnotation, finite_number
from runtime.common.files import read_text
from runtime.errors import AnnotationError

CLASS_IDS = {
    "BaseballPitch": 7,
    "BasketballDunk": 9,
    "Billiards": 12,
    "CleanAndJerk": 21,
    "CliffDiving": 22,
    "CricketBowling": 23,
    "CricketShot": 24,
    "Diving": 26,
    "FrisbeeCatch": 31,
    "GolfSwing": 33,
    "HammerThrow": 36,
    "HighJump": 40,
    "JavelinThrow": 45,
    "LongJump": 51,
    "PoleVault": 68,
    "Shotput": 79,
    "SoccerPenalty": 85,
    "TennisSwing": 92,
    "ThrowDiscus": 93,
    "VolleyballSpiking": 97,
}
"""UCF101 ids of THUMOS'14's detection classes, in the order of its class list (index 1…20 of the network)."""

AMBIGUOUS = "Ambiguous"
"""Label of regions with something like an action: they are no class, and detections there are no false positives."""

KIT_SUFFIX = "_test.txt"
"""Suffix of the kit's files, one per class, with lines `video start end` in seconds."""


def read_kit_annotations(folder: Path) -> tuple[VideoAnnotation, ...]:
    """Read the official kit's `annotation` folder: `<Class>_test.txt` for the 20 classes, and `Ambiguous_test.txt`.

    Videos are sorted by name; instances are in the kit's order within a class.

    Raises:
        AnnotationError: a file is missing, or a line has another form.
    """
    labels = [*CLASS_IDS, AMBIGUOUS]
    missing = [label for label in labels if not (folder / f"{label}{KIT_SUFFIX}").is_file()]
    if missing:
        raise AnnotationError(
            f"{folder}: {', '.join(f'{label}{KIT_SUFFIX}' for label in missing[:3])}{' …' if missing[3:] else ''} "
            "not found; expected the THUMOS'14 kit's folder of annotations, one file per class and Ambiguous"
        )
    rows = (
        (fields[0], label, fields[1], fields[2], where)
        for label in labels
        for fields, where in read_lines(folder / f"{label}{KIT_SUFFIX}", 3, "video start end")
    )
    return _videos(rows)


def read_table_annotations(path: Path) -> tuple[VideoAnnotation, ...]:
    """Read an annotation table with the columns `video`, `type`, `start`, `end` (s), such as `test_Annotation.csv`.

    Raises:
        AnnotationError: the file cannot be read, lacks a column, or has a row of another form.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        lacking = [name for name in ("video", "type", "start", "end") if name not in (reader.fieldnames or [])]
        if lacking:
            raise AnnotationError(f"{path}: no column {', '.join(lacking)}; expected video, type, start, end")
        rows = [
            (row["video"], row["type"], row["start"], row["end"], f"{path}: line {number}")
            for number, row in enumerate(reader, 2)
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AnnotationError(f"{path}: cannot be read as a table ({error})") from None
    return _videos(rows)


def read_lines(path: Path, columns: int, form: str) -> Iterator[tuple[list[str], str]]:
    """Yield every line that is not empty, split at white space, with its position for error messages."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise AnnotationError(f"{path}: file not found") from None
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: cannot be read as text ({error})") from None
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if fields and len(fields) != columns:
            raise AnnotationError(f"{path}: line {number}: got {line.strip()[:60]!r}, expected {form}")
        if fields:
            yield fields, f"{path}: line {number}"


def _videos(rows: Iterable[tuple[str, str, str, str, str]]) -> tuple[VideoAnnotation, ...]:
    """Group rows (video, label, start, end, position) into videos sorted by name, instances in the rows' order."""
    instances: dict[str, list[Instance]] = {}
    for video, label, start_text, end_text, where in rows:
        start, end = finite_number(start_text, where), finite_number(end_text, where)
        if not 0 <= start <= end:
            raise AnnotationError(f"{where}: segment: got [{start:g}, {end:g}], expected 0 <= start <= end in seconds")
        instances.setdefault(video, []).append(Instance(start, end, label))
    return tuple(VideoAnnotation(name, "test", None, None, tuple(instances[name])) for name in sorted(instances))
