"""Describe what became of a video in a job on Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from runtime.jobs.failures import Failure

State = Literal["done", "skipped", "failed", "refused"]
"""What became of a video: "done"; "skipped", since its results are there; "failed", and the others go on; "refused", by
an actor that cannot work at all, as without the model, which ends the job."""


@dataclass(frozen=True)
class Work:
    """Says what the work on a video gave."""

    state: State
    content: Any = None
    """Results; can be sent to other processes."""
    video_seconds: float = 0.0
    """Length of the video in seconds."""
    failure: Failure | None = None
    """Why a video failed."""
    removed: tuple[str, ...] = ()
    """Names of files of an older result that were removed."""

    @property
    def error(self) -> str:
        """Reason, in one line, of a video that failed."""
        return "" if self.failure is None else self.failure.message


@dataclass(frozen=True)
class Outcome:
    """Says what became of a video, and where."""

    key: int
    """Number of the video in the job."""
    work: Work
    warnings: tuple[str, ...] = ()
    """Warnings of this project about the video, in one line each."""
    host: str = ""
    """Machine of the actor."""
    process: int = 0
    """Process of the actor on its machine."""
    wall_seconds: float = 0.0
    """Seconds that the work took."""
