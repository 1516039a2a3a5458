"""Write training metrics to `metrics.csv`, and to the loggers that a run names."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from runtime.common.files import write_text
from training.loop.loggers import Logger

METRICS = "metrics.csv"
VAL_MAP = "val_map"
"""Column of mAP on the videos of `data.val_subset`, which only rows of a measurement have."""


class MetricLog:
    """Appends one row per logged optimiser step or measurement of mAP, after dropping those after the state resumed."""

    def __init__(
        self,
        folder: Path,
        columns: tuple[str, ...],
        resume_step: int = 0,
        *,
        measured_step: int = 0,
        loggers: Sequence[Logger] = (),
    ) -> None:
        """Open the table of a run.

        Args:
            folder: folder of the run.
            columns: names of the columns after `step`.
            resume_step: optimiser step of the state from which the run resumes; rows of later steps are dropped.
            measured_step: optimiser step of its latest measurement of mAP; later ones are dropped.
            loggers: further receivers.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path, names = folder / METRICS, ("step", *columns)
        text = io.StringIO()
        table = csv.DictWriter(text, names, restval="", extrasaction="ignore")
        table.writeheader()
        if path.is_file():
            rows = (row for row in read_rows(path) if int(row["step"]) <= resume_step)
            table.writerows(row for row in rows if not row.get(VAL_MAP) or int(row["step"]) <= measured_step)
        write_text(path, text.getvalue())  # whole: the rows before must not be lost
        self._file = path.open("a", newline="", encoding="utf-8")
        self._csv = csv.DictWriter(self._file, names, restval="", extrasaction="ignore")
        self._loggers = loggers

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row of the table, which is there if the process ends at once, and one point of every curve."""
        self._csv.writerow({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        self._file.flush()
        for logger in self._loggers:
            logger.write(step, values)

    def synchronise(self) -> None:
        """Have the system write the rows to the disk, before a checkpoint that says their steps are done."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the table and the loggers."""
        self._file.close()
        for logger in self._loggers:
            logger.close()


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a table by column; a line that a crash has cut off does not count."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in file if line.endswith("\n")]
    return (row for row in csv.DictReader(lines) if (row.get("step") or "").isdigit())
