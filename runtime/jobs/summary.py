"""Count what a job did, and say it in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    """Failed videos, as they are named to people."""
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
        if not self.failed or self.total == 1:
            return ""
        names = short_names(self.failed)
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f"{len(names)} of {self.total} videos failed: {', '.join(names[:NAMED])}{more}"


def short_names(labels: Sequence[str]) -> list[str]:
    """Return videos, as they are named to people, by their files' names; by their paths where these are the same."""
    short = [label if "://" in label else Path(label).name for label in labels]
    counts = Counter(short)
    return [name if counts[name] == 1 else label for name, label in zip(short, labels, strict=True)]
