"""Read THUMOS14's published annotation tables, note their faults, and convert them to the ActivityNet format.

<tables>/val_video_info.csv    video, fps, sample_fps, count, sample_count
<tables>/val_Annotation.csv    video, type, type_idx, start, end, startFrame, endFrame      (and the same for test)
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from runtime.annotations.activitynet import finite_number
from runtime.annotations.thumos14 import CLASS_IDS
from runtime.common.files import read_text
from runtime.errors import AnnotationError
from training.data.annotations import FrameAnnotation, FrameInstance
from training.preparation.preparation_report import Findings

Subset = Literal["val", "test"]
SUBSET_NAMES: Mapping[Subset, str] = {"val": "training", "test": "test"}
"""Names of THUMOS14's subsets in the written annotation file; the validation set is the training set."""

Faults = Literal["keep", "repair"]
"""Origin of times: the tables' frame numbers, as published; or their seconds, cut at the end of the video."""

AMBIGUOUS_ID = 0
"""Value of `type_idx` in rows without a class."""
INFO_COLUMNS = ("video", "fps", "sample_fps", "count", "sample_count")
ROW_COLUMNS = ("video", "type_idx", "start", "end", "startFrame", "endFrame")
USUAL_FPS = 30.0
"""Frame rate with which frame numbers were computed even for some videos with another rate."""


@dataclass(frozen=True)
class TableRow:
    """Holds one action of the tables."""

    class_id: int
    """UCF101 id of the class (column `type_idx`); 0: Ambiguous."""
    start_s: float
    end_s: float
    start_frame: float
    end_frame: float
    """Last frame; frames count in the video, as in the tables."""


@dataclass(frozen=True)
class TableVideo:
    """Holds one video of the tables with its rows in order, including Ambiguous."""

    name: str
    fps: float
    sample_fps: float
    frames: float
    """Number of frames of the video (column count)."""
    sampled: int
    """Number of sampled frames (column sample_count)."""
    rows: tuple[TableRow, ...]

    @property
    def actions(self) -> tuple[TableRow, ...]:
        """Rows with a class."""
        return tuple(row for row in self.rows if row.class_id != AMBIGUOUS_ID)

    def to_sampled_frames(self, row: TableRow) -> tuple[float, float]:
        """Convert start and end of a row to sampled frames, as the published training does."""
        ratio = self.sampled / self.frames
        return row.start_frame * ratio, row.end_frame * ratio


@dataclass(frozen=True)
class ThumosTables:
    """Holds the tables of one subset."""

    videos: tuple[TableVideo, ...]
    """Videos in the order of the info table, including those without actions."""
    without_info: tuple[str, ...] = field(default=())
    """Videos of the annotation table that are missing in the info table; all their rows are Ambiguous."""


def read_tables(folder: str | os.PathLike[str], subset: Subset) -> ThumosTables:
    """Read both tables of a subset in `folder` (AnnotationError: see `read_table_files`)."""
    return read_table_files(Path(folder) / f"{subset}_video_info.csv", _find_annotation_table(Path(folder), subset))


def read_table_files(info_csv: str | os.PathLike[str], annotation_csv: str | os.PathLike[str]) -> ThumosTables:
    """Read the two tables of a subset.

    Raises:
        AnnotationError: a missing file or column, a value that is not a number, an unknown class or video, no video.
    """
    info = {row["video"]: row for row in _read_rows(info_csv, INFO_COLUMNS)}
    if not info:
        raise AnnotationError(f"{info_csv}: names no video; the table is empty or cut off")
    rows: dict[str, list[TableRow]] = {name: [] for name in info}
    without_info: dict[str, None] = {}
    for line, cells in enumerate(_read_rows(annotation_csv, ROW_COLUMNS), start=2):
        where = f"{annotation_csv}: line {line}"
        row = _parse_row(cells, where)
        if row.class_id == AMBIGUOUS_ID and cells["video"] not in info:
            without_info[cells["video"]] = None
            continue
        if row.class_id not in (AMBIGUOUS_ID, *CLASS_IDS.values()) or cells["video"] not in info:
            raise AnnotationError(f"{where}: class {row.class_id} of video {cells['video']!r} is unknown")
        rows[cells["video"]].append(row)
    videos = tuple(
        TableVideo(
            name,
            _positive(cells, "fps", f"{info_csv}: {name}"),
            _positive(cells, "sample_fps", f"{info_csv}: {name}"),
            _positive(cells, "count", f"{info_csv}: {name}"),
            int(_positive(cells, "sample_count", f"{info_csv}: {name}")),
            tuple(rows[name]),
        )
        for name, cells in info.items()
    )
    return ThumosTables(videos, tuple(without_info))


def to_frame_annotations(tables: ThumosTables) -> tuple[FrameAnnotation, ...]:
    """Convert the videos to sampled frames as the published training does: startFrame × sample_count / count.

    The same factor applies to endFrame. The tables' faults are kept; Ambiguous is left out.
    """
    index = {original: k + 1 for k, original in enumerate(CLASS_IDS.values())}
    return tuple(
        FrameAnnotation(
            video.name,
            video.sampled,
            tuple(FrameInstance(*video.to_sampled_frames(row), index[row.class_id]) for row in video.actions),
        )
        for video in tables.videos
    )


def make_database(tables: ThumosTables, subset: Subset, faults: Faults) -> dict[str, Any]:
    """Make the `database` of an ActivityNet file from the videos of the tables; times in seconds.

    With "keep" seconds are sampled frames / sample_fps, so that training, which multiplies by sample_fps, gets the
    published numbers within one rounding of the last bit. With "repair" they are the tables' seconds, cut at the end of
    the video; actions that begin after the end are left out.
    """
    names = {class_id: name for name, class_id in CLASS_IDS.items()}
    database = {}
    for video in tables.videos:
        duration = video.frames / video.fps
        segments = [(names[row.class_id], _seconds(video, row, faults)) for row in video.actions]
        database[video.name] = {
            "subset": SUBSET_NAMES[subset],
            "duration": duration,
            "fps": video.fps,
            "annotations": [
                {"label": label, "segment": list(segment)}
                for label, segment in segments
                if faults == "keep" or segment[0] < segment[1]
            ],
        }
    return database


def find_faults(tables: ThumosTables, faults: Faults, found: Findings) -> None:
    """Note the known faults of the tables, video by video."""
    done = "repaired" if faults == "repair" else "kept"
    for name in tables.without_info:
        found.note("videos of the annotation table that the info table lacks (only Ambiguous rows), left out", name)
    for video in tables.videos:
        if _has_numbers_at_30_fps(video):
            shift = USUAL_FPS / video.fps - 1
            found.note(
                f"frame numbers made with 30 fps for a {video.fps:.2f}-fps video, {shift:+.1%} in time ({done})",
                video.name,
            )
        late = sum(row.end_frame > video.frames for row in video.actions)
        found.note(f"annotations that end after the last frame ({done})", video.name, count=late)
        found.note("Ambiguous rows, left out", video.name, count=len(video.rows) - len(video.actions))
        found.note("CliffDiving rows that are Diving rows too (kept)", video.name, count=_count_double_rows(video))
        if not video.actions:
            found.note("videos without any action", video.name)


def _seconds(video: TableVideo, row: TableRow, faults: Faults) -> tuple[float, float]:
    if faults == "repair":
        return row.start_s, min(row.end_s, video.frames / video.fps)
    start, end = video.to_sampled_frames(row)
    return start / video.sample_fps, end / video.sample_fps


def _has_numbers_at_30_fps(video: TableVideo) -> bool:
    """Return whether every frame number is the seconds × 30 fps although the video has another rate."""

    def fits(fps: float) -> bool:
        return all(
            (int(row.start_s * fps), int(row.end_s * fps)) == (row.start_frame, row.end_frame) for row in video.rows
        )

    return bool(video.rows) and fits(USUAL_FPS) and not fits(video.fps)


def _count_double_rows(video: TableVideo) -> int:
    """Count CliffDiving rows that have a Diving row of equal frames."""
    spans = {
        name: [(r.start_frame, r.end_frame) for r in video.rows if r.class_id == CLASS_IDS[name]]
        for name in ("CliffDiving", "Diving")
    }
    return sum(span in spans["Diving"] for span in spans["CliffDiving"])


def _parse_row(cells: Mapping[str, str], where: str) -> TableRow:
    start, end = _number(cells, "startFrame", where), _number(cells, "endFrame", where)
    start_s, end_s = _number(cells, "start", where), _number(cells, "end", where)
    row = TableRow(int(_number(cells, "type_idx", where)), start_s, end_s, start, end)
    if row.class_id != AMBIGUOUS_ID and not 0 <= start < end:
        raise AnnotationError(f"{where}: got frames {start:g} to {end:g}, expected 0 <= start < end")
    return row


def _find_annotation_table(folder: Path, subset: Subset) -> Path:
    """Return the annotation table with Ambiguous rows, or if there is none the table without."""
    whole, ours = folder / f"{subset}_Annotation.csv", folder / f"{subset}_Annotation_ours.csv"
    return ours if ours.is_file() and not whole.is_file() else whole


def _read_rows(path: str | os.PathLike[str], columns: Sequence[str]) -> Iterator[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise AnnotationError(f"{path}: column {missing[0]!r} is missing; expected {', '.join(columns)}")
        yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AnnotationError(f"{path}: cannot be read as a table: {error}") from None


def _positive(row: Mapping[str, str], key: str, where: object) -> float:
    value = _number(row, key, where)
    if not value > 0:
        raise AnnotationError(f"{where}: {key}: got {value:g}, expected more than 0")
    return value


def _number(row: Mapping[str, str], key: str, where: object) -> float:
    return finite_number(row[key], f"{where}: {key}")
