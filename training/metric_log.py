"""Write training metrics to `metrics.csv` and TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter


class MetricLog:
    """Appends one row per logged optimiser step, after dropping rows later than the step a run resumes from."""

    def __init__(self, folder: Path, columns: tuple[str, ...], resume_step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.csv"
        kept = _rows_until(path, resume_step) if path.is_file() else []
        self._file = path.open("w", newline="", encoding="utf-8")
        self._csv = csv.DictWriter(self._file, ("step", *columns), restval="", extrasaction="ignore")
        self._csv.writeheader()
        self._csv.writerows(kept)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step or None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row of the table and one point of every curve."""
        self._csv.writerow({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the table and the TensorBoard file."""
        self._file.close()
        self._board.close()


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row.get("step", "").isdigit() and int(row["step"]) <= step]
