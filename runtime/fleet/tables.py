"""Write the videos of a job that failed as a table for data tools."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.common.files import atomic_path
from runtime.fleet.summary import FailedVideo
from runtime.jobs.row_tables import MARK, import_pyarrow, plain_text

if TYPE_CHECKING:
    from pyarrow import Schema, Table

FAILURES = "failures.parquet"
"""Name of the table in the folder of the results."""
VERSION = b"1"
"""Version of its columns."""


def failure_schema() -> Schema:
    """Return the schema of the failures: one row per video that failed."""
    pa = import_pyarrow()
    return pa.schema([(name, pa.string()) for name in ("video", "path", "kind", "error")], metadata={MARK: VERSION})


def failure_table(failures: Iterable[FailedVideo]) -> Table:
    """Return the videos that failed as an Arrow table."""
    rows = [
        {"video": plain_text(f.video), "path": plain_text(f.path), "kind": f.kind, "error": plain_text(f.error)}
        for f in failures
    ]
    return import_pyarrow().Table.from_pylist(rows, schema=failure_schema())


def write_failures(folder: Path, failures: Iterable[FailedVideo]) -> None:
    """Write the table into the folder of the results, atomically (OSError: not possible)."""
    with atomic_path(folder / FAILURES) as unfinished:
        import_pyarrow().parquet.write_table(failure_table(failures), unfinished)
