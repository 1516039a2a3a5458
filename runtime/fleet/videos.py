"""Check the videos of a job on Ray."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.errors import InputError
from runtime.jobs.plan import Source, VideoJob
from runtime.video.sources import STDIN, is_live


def require_finite(jobs: Sequence[VideoJob]) -> None:
    """Raise an InputError if there is no video, or one that other machines cannot read or that has no end."""
    if not jobs:
        raise InputError("sources: got none, expected at least one video")
    for job in jobs:
        if _is_here_only(job.source):
            raise InputError(
                f"{job.label}: a job on Ray reads files and URLs that have an end; afsd watch reads live ones"
            )


def _is_here_only(source: Source) -> bool:
    return source == STDIN or is_live(source) if isinstance(source, (str, int)) else False
