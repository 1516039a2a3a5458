"""Sum up the videos of a batch that failed."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.common.console import EXIT_ERROR, print_note
from runtime.jobs.summary import failed_line


def sum_up(failed: Sequence[str], total: int) -> int:
    """Print which of several videos failed, after their own lines, and return the exit status, 2 if any did.

    Args:
        failed: the videos' names in the results.
        total: number of videos in the batch.
    """
    if line := failed_line(failed, total):
        print_note(f"afsd: {line}")
    return EXIT_ERROR if failed else 0
