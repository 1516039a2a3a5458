"""Write the detections and the failures of a job as tables for data tools: Parquet, and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.common.files import atomic_path, exists, open_file
from runtime.errors import InputError, import_failure
from runtime.fleet.summary import FailedVideo
from runtime.jobs.failures import BEGINNING
from runtime.results.detections import Detections
from runtime.results.facts import VideoFacts
from runtime.results.json_lines import ROWS

if TYPE_CHECKING:
    from pyarrow import Schema, Table

DETECTIONS, FAILURES, LINES = "detections.parquet", "failures.parquet", ROWS
"""Names of the tables in the folder of the results."""
MARK = {b"afsd": b"1"}
"""Metadata of the tables' schemas, by which they are known as this project's; the value is the columns' version."""
ROWS_PER_GROUP = 65_536
"""Rows that are held in memory before they are written."""
LINE_BEGINNING = BEGINNING.encode()
"""First bytes of the JSON lines."""


def detection_schema() -> Schema:
    """Return the schema of the detections: one row per detection."""
    pa = import_pyarrow()
    columns = [
        ("video", pa.string()), ("path", pa.string()), ("label", pa.string()), ("start_s", pa.float64()),
        ("end_s", pa.float64()), ("score", pa.float64()), ("model", pa.string()), ("threshold", pa.float64()),
        ("fps", pa.float64()), ("duration_s", pa.float64()),
    ]  # fmt: skip
    return pa.schema(columns, metadata=MARK)


def failure_schema() -> Schema:
    """Return the schema of the failures: one row per video that failed."""
    pa = import_pyarrow()
    return pa.schema([(name, pa.string()) for name in ("video", "path", "kind", "error")], metadata=MARK)


def import_pyarrow() -> Any:
    """Import PyArrow with Parquet (MissingDependencyError: not installed)."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise import_failure(error, "pyarrow", "ray", "tables of a job on Ray") from None
    return pyarrow


def detection_table(videos: Iterable[Detections]) -> Table:
    """Return the detections of videos as an Arrow table."""
    rows = [row for found in videos for row in detection_rows(found)]
    return import_pyarrow().Table.from_pylist(rows, schema=detection_schema())


def failure_table(failures: Iterable[FailedVideo]) -> Table:
    """Return the videos that failed as an Arrow table."""
    rows = [{"video": _text(f.video), "path": _text(f.path), "kind": f.kind, "error": _text(f.error)} for f in failures]
    return import_pyarrow().Table.from_pylist(rows, schema=failure_schema())


def detection_rows(found: Detections) -> Iterator[dict[str, Any]]:
    """Yield the rows of a video, by the columns of `detection_schema`; what is not known is None."""
    facts = found.facts or VideoFacts()
    of_video = {
        "model": _text(facts.model),
        "threshold": facts.threshold,
        "fps": facts.fps,
        "duration_s": facts.duration_s,
    }
    begin = {"video": _text(found.video), "path": _text(facts.path)}
    for one in found:
        times = {"start_s": one.start_s, "end_s": one.end_s, "score": one.score}
        yield begin | {"label": _text(one.label)} | times | of_video


class FleetTables:
    """Writes the tables of all videos into the folder of the results."""

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        """Take the folder; `overwrite`: write over files of others, too."""
        self._folder, self._overwrite = folder, overwrite

    def require_free(self) -> None:
        """Check, before any work, that no file of others is where the tables will be (InputError: one is)."""
        if self._overwrite:
            return
        for name in (DETECTIONS, FAILURES, LINES):
            path = self._folder / name
            if exists(path) and not (_are_lines(path) if name == LINES else _is_ours(path)):
                raise InputError(
                    f"{path}: is there already and no table of afsd, so it is not written over; choose another place "
                    "for the results, or overwrite"
                )

    def write(self, videos: Iterable[Detections], failures: Sequence[FailedVideo]) -> None:
        """Write the tables, each atomically, a part of the rows in memory at a time (OSError: not possible)."""
        pa = import_pyarrow()
        schema = detection_schema()
        with ExitStack() as stack:
            parquet = stack.enter_context(atomic_path(self._folder / DETECTIONS))
            lines = stack.enter_context(atomic_path(self._folder / LINES))
            writer = stack.enter_context(pa.parquet.ParquetWriter(parquet, schema))
            file = stack.enter_context(lines.open("w", encoding="utf-8", newline="\n"))
            for rows in _in_groups(row for found in videos for row in detection_rows(found)):
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        with atomic_path(self._folder / FAILURES) as unfinished:
            pa.parquet.write_table(failure_table(failures), unfinished)


def _in_groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(row)
        if len(group) == ROWS_PER_GROUP:
            yield group
            group = []
    if group:
        yield group


def _is_ours(path: Path) -> bool:
    """Return whether a file is a table that this project wrote."""
    pa = import_pyarrow()
    try:
        metadata = pa.parquet.read_schema(path).metadata or {}
    except (OSError, ValueError, pa.ArrowException):
        return False
    return MARK.items() <= metadata.items()


def _are_lines(path: Path) -> bool:
    """Return whether a file is empty or begins as the lines that this project writes."""
    with open_file(path) as file:
        return file.read(len(LINE_BEGINNING)) in (b"", LINE_BEGINNING)


def _text(text: str) -> str:
    """Return text as Arrow takes it: bytes of a file's name that are no text become escapes such as \\udcff."""
    return text.encode("utf-8", "backslashreplace").decode()
