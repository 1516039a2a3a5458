"""Write the detections of all videos of a folder as tables for data tools: Parquet, and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.common.files import atomic_path, exists, open_file
from runtime.common.overwriting import ELSEWHERE
from runtime.errors import InputError, import_failure
from runtime.jobs.failures import BEGINNING
from runtime.results.detections import Detections
from runtime.results.facts import VideoFacts
from runtime.results.json_lines import ROWS

if TYPE_CHECKING:
    from pyarrow import Schema, Table

ROW_TABLES = {"parquet": "detections.parquet", "jsonl": ROWS}
"""Names of the tables in the folder of the results, by their formats."""
MARK = b"afsd"
"""Metadata of the tables' schemas, by which they are known as this project's."""
VERSION = b"2"
"""Version of the columns of the detections: its value."""
ROWS_PER_GROUP = 65_536
"""Rows that are held in memory before they are written."""
LINE_BEGINNING = BEGINNING.encode()
"""First bytes of the JSON lines."""
Add = Callable[[Detections], None]
"""Function that writes the rows of a video."""


def import_pyarrow() -> Any:
    """Import PyArrow with Parquet (MissingDependencyError: not installed)."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise import_failure(error, "pyarrow", "ray", "a table in Parquet") from None
    return pyarrow


def detection_schema() -> Schema:
    """Return the schema of the detections: one row per detection."""
    pa = import_pyarrow()
    columns = [
        ("video", pa.string()), ("path", pa.string()), ("label", pa.string()), ("start_s", pa.float64()),
        ("end_s", pa.float64()), ("score", pa.float64()), ("model", pa.string()), ("threshold", pa.float64()),
        ("fps", pa.float64()), ("duration_s", pa.float64()), ("exclusive", pa.string()), ("merge_gap", pa.float64()),
        ("min_length", pa.float64()),
    ]  # fmt: skip
    return pa.schema(columns, metadata={MARK: VERSION})


def detection_rows(found: Detections) -> Iterator[dict[str, Any]]:
    """Yield the rows of a video, by the columns of `detection_schema`; what is not known is None or empty."""
    facts = found.facts or VideoFacts()
    of_video = {
        "model": plain_text(facts.model),
        "threshold": facts.threshold,
        "fps": facts.fps,
        "duration_s": facts.duration_s,
        "exclusive": facts.exclusive,
        "merge_gap": facts.merge_gap,
        "min_length": facts.min_length,
    }
    begin = {"video": plain_text(found.video), "path": plain_text(facts.path)}
    for one in found:
        times = {"start_s": one.start_s, "end_s": one.end_s, "score": one.score}
        yield begin | {"label": plain_text(one.label)} | times | of_video


def plain_text(text: str) -> str:
    """Return text as Arrow takes it: bytes of a file's name that are no text become escapes such as \\udcff."""
    return text.encode("utf-8", "backslashreplace").decode()


def detection_table(videos: Iterable[Detections]) -> Table:
    """Return the detections of videos as an Arrow table."""
    rows = [row for found in videos for row in detection_rows(found)]
    return import_pyarrow().Table.from_pylist(rows, schema=detection_schema())


@contextmanager
def row_writer(folder: Path, formats: Iterable[str]) -> Iterator[Add]:
    """Yield a function that adds the rows of a video to the tables of some formats; each table is written atomically.

    Args:
        folder: folder of the tables.
        formats: names in `ROW_TABLES`; others are not written here.

    Raises:
        MissingDependencyError: PyArrow is not installed, which Parquet needs.
        OSError: a file cannot be written.
    """
    with ExitStack() as stack:
        writers = [
            stack.enter_context(open_table(path))
            for name, open_table in (("parquet", _parquet), ("jsonl", _lines))
            if name in formats and (path := stack.enter_context(atomic_path(folder / ROW_TABLES[name])))
        ]

        def add(found: Detections) -> None:
            for write in writers:
                write(found)

        yield add


@contextmanager
def _parquet(path: Path) -> Iterator[Add]:
    pa, schema = import_pyarrow(), detection_schema()
    group: list[dict[str, Any]] = []

    def write() -> None:
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            group.clear()

    def add(found: Detections) -> None:
        for row in detection_rows(found):
            group.append(row)
            if len(group) == ROWS_PER_GROUP:
                write()

    with pa.parquet.ParquetWriter(path, schema) as writer:
        yield add
        write()


@contextmanager
def _lines(path: Path) -> Iterator[Add]:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yield lambda found: file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in detection_rows(found))


def require_own_tables(folder: Path, names: Iterable[str], advice: str = ELSEWHERE) -> None:
    """Check, before any work, that no file of others is where tables will be.

    Only the beginning or the end of a file is read, however large it is.

    Raises:
        InputError: one is.
        MissingDependencyError: a file of Parquet is there, and PyArrow is not installed.
    """
    for path in (folder / name for name in names):
        if exists(path) and not (_is_ours(path) if path.suffix == ".parquet" else _are_lines(path)):
            raise InputError(f"{path}: is there already and no table of afsd, so it is not written over; {advice}")


def _is_ours(path: Path) -> bool:
    """Return whether a file is a table that this project wrote."""
    pa = import_pyarrow()
    try:
        return MARK in (pa.parquet.read_schema(path).metadata or {})
    except (OSError, ValueError, pa.ArrowException):
        return False


def _are_lines(path: Path) -> bool:
    """Return whether a file is empty or begins as the lines that this project writes."""
    try:
        with open_file(path) as file:
            return file.read(len(LINE_BEGINNING)) in (b"", LINE_BEGINNING)
    except OSError:  # a folder, or a pipe
        return False
