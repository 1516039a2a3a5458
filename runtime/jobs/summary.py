"""Count what a job did, and say it in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.common.text import quote, some

HOUR_S = 3600.0
NAMED = 10
"""Number of failed videos that the summary names."""


@dataclass
class Tally:
    """Counts the videos of a job, updated while it runs."""

    done: int = 0
    """Videos that were read."""
    rewritten: int = 0
    """Videos whose detections were known, and of which files were written."""
    skipped: int = 0
    """Videos that were done before."""
    failed: list[str] = field(default_factory=list)
    """Failed videos, by their names in the results."""
    not_done: int = 0
    """Videos that were not done, after too many failures or a signal."""
    video_s: float = 0.0
    """Seconds of video that were read."""
    known_s: float = 0.0
    """Seconds of the videos that were not read, since their results are known."""
    wall_s: float = 0.0
    """Seconds from the start of the job."""

    @property
    def total(self) -> int:
        """Number of videos."""
        return self.done + self.rewritten + self.skipped + len(self.failed) + self.not_done

    def line(self) -> str:
        """Return the summary: videos and their hours, what became of them, seconds, and hours of video per hour.

        The beginning, up to the colon, is that of an undisturbed job, also where a part of it was done before.
        """
        counts = [
            f"{count} {what}"
            for count, what in (
                (self.done, "done"),
                (self.rewritten, "written from their records"),
                (self.skipped, "skipped"),
                (len(self.failed), "failed"),
                (self.not_done, "not done"),
            )
            if count or what in ("done", "skipped", "failed")
        ]
        factor = self.video_s / self.wall_s if self.wall_s > 0 else 0.0
        whole = f"{self.total} video{'' if self.total == 1 else 's'}, {(self.video_s + self.known_s) / HOUR_S:.3g} h"
        speed = f"{factor:.1f} hours of video per hour (real-time factor {factor:.1f})"
        read = (
            f"{self.video_s / HOUR_S:.3g} h read in {self.wall_s:.1f} s, {speed}" if self.video_s else "none was read"
        )
        return f"{whole}: {', '.join(counts)}; {read}"

    def failed_line(self) -> str:
        """Return which videos failed; empty: none did, or there is only one."""
        return failed_line(self.failed, self.total)


def failed_line(failed: Sequence[str], total: int) -> str:
    """Return which of several videos failed, by their names in the results; empty: none did, or there is only one.

    The names tell videos apart that have one file name in several folders; their own lines of error have the paths.
    """
    if not failed or total == 1:
        return ""
    names = [name if name and name.isprintable() else quote(name) for name in failed]
    return f"{len(names)} of {total} videos failed: {some(names, NAMED)}"
