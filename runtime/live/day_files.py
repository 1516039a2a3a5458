"""Write the lines of each source to a file per day, and remove those of days long gone."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

from runtime.common.names import path_in
from runtime.common.ranges import Range, require_in_range
from runtime.results.json_lines import JsonLineFiles, is_ours

Days = Annotated[int, Range(0, 36_500, what="days")]
"""A number of days; 0: without end."""


class DayFiles:
    """Appends lines to DIR/<video>.<day>.jsonl, where the day is that of the line, in UTC.

    With the first line of a day, the files of the same video that are older than `keep_days` days are removed. Of
    files with such names only those that hold lines of this project are touched.
    """

    def __init__(self, folder: Path, keep_days: int) -> None:
        """Make the folder (InputError: not possible).

        Args:
            folder: where the files are.
            keep_days: days before the current one of which files stay; 0: all stay.

        Raises:
            InputError: the folder cannot be made, or `keep_days` is out of range.
        """
        require_in_range("--keep-days", keep_days, Days)
        self._folder, self._keep_days = folder, keep_days
        self._files = JsonLineFiles(folder)
        self._days: dict[str, date] = {}

    def append(self, video: str, line: str, at: float) -> None:
        """Append a line of the Unix time `at`; what it raises is that of `JsonLineFiles.append`."""
        day = datetime.fromtimestamp(at, UTC).date()
        self._files.append(f"{video}.{day:%Y-%m-%d}", line)
        if self._keep_days and self._days.get(video) != day:
            self._days[video] = day
            self._remove_before(video, day - timedelta(days=self._keep_days))

    def _remove_before(self, video: str, first: date) -> None:
        newest = path_in(self._folder, video, ".jsonl", deep=True)
        form = re.compile(re.escape(newest.stem) + r"\.(\d{4}-\d\d-\d\d)\.jsonl", re.ASCII)
        for path in newest.parent.iterdir():
            found = form.fullmatch(path.name)
            if found and found[1] < f"{first:%Y-%m-%d}" and is_ours(path):
                path.unlink(missing_ok=True)
