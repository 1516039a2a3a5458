"""Write training metrics to `metrics.csv` and TensorBoard."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from runtime.common.files import write_text

METRICS = "metrics.csv"


class MetricLog:
    """Appends one row per logged optimiser step, after dropping rows later than the step a run resumes from."""

    def __init__(self, folder: Path, columns: tuple[str, ...], resume_step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path, names = folder / METRICS, ("step", *columns)
        text = io.StringIO()
        table = csv.DictWriter(text, names, restval="", extrasaction="ignore")
        table.writeheader()
        table.writerows(_rows_until(path, resume_step) if path.is_file() else [])
        write_text(path, text.getvalue())  # whole: the rows before must not be lost
        self._file = path.open("a", newline="", encoding="utf-8")
        self._csv = csv.DictWriter(self._file, names, restval="", extrasaction="ignore")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step or None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row of the table, which is there if the process ends at once, and one point of every curve."""
        self._csv.writerow({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def synchronise(self) -> None:
        """Have the system write the rows to the disk, before a checkpoint that says their steps are done."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close the table and the TensorBoard file."""
        self._file.close()
        self._board.close()


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    """Read the rows up to a step; a line that a crash has cut off does not count."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in file if line.endswith("\n")]
    return [row for row in csv.DictReader(lines) if (row.get("step") or "").isdigit() and int(row["step"]) <= step]
