"""Sum up the videos of a batch that failed."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.common.console import EXIT_ERROR, print_note
from runtime.common.text import quote, some
from runtime.jobs.summary import short_names

NAMED = 10
"""Number of failed videos that the summary names."""


def sum_up(failed: Sequence[str], total: int) -> int:
    """Print which of several videos failed, after their own lines, and return the exit status, 2 if any did.

    Args:
        failed: the sources, as they are shown.
        total: number of videos in the batch.
    """
    if not failed:
        return 0
    names = [name if name and name.isprintable() else quote(name) for name in short_names(failed)]
    if total > 1:
        print_note(f"afsd: {len(failed)} of {total} videos failed: {some(names, NAMED)}")
    return EXIT_ERROR
