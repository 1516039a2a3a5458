"""Describe how the videos of a job are done: the plan, what becomes of each, what is told meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.common.console import describe_unforeseen
from runtime.errors import AfsdError
from runtime.jobs.failures import Failure
from runtime.jobs.opening import OpenEngine, open_with_options, open_worker
from runtime.jobs.plan import VideoJob
from runtime.jobs.recipe import Recipe
from runtime.jobs.settings import JobSettings
from runtime.jobs.store_records import StoreFolder
from runtime.jobs.work import Finished, VideoWorker
from runtime.timing import Timing

LIFE_S = 2.0
"""Longest time in seconds between two signs of life of a worker whose video goes on."""


@dataclass(frozen=True)
class WorkerPlan:
    """Holds all that a worker process needs to know; can be sent to it."""

    settings: JobSettings
    folder: Path | StoreFolder | None
    """Folder of the result files, which may be one of an object store; None: none are written."""
    recorded: bool = False
    """Keep records in the folder, and skip what is done."""
    recipe: Recipe | None = None
    fresh: bool = False
    """Do every video, whatever the records say."""
    overwrite: bool = False
    profile: bool = False
    progress: bool = False
    """Report progress within a video."""
    log_level: int = logging.WARNING
    """Lowest level of the log's messages that are passed on; warnings of videos and models count as warnings."""
    life_s: float = LIFE_S
    """Seconds between two signs of life of a video that goes on."""

    def open(self, open_one: OpenEngine = open_with_options) -> AbstractContextManager[VideoWorker]:
        """Open what does the videos, as `runtime.jobs.opening.open_worker` says."""
        return open_worker(
            self.settings,
            self.folder,
            recorded=self.recorded,
            recipe=self.recipe,
            fresh=self.fresh,
            overwrite=self.overwrite,
            profile=self.profile,
            open_one=open_one,
        )


@dataclass(frozen=True)
class VideoOutcome:
    """Holds what became of one video."""

    job: VideoJob
    finished: Finished | None
    """Its result; None: it failed."""
    failure: Failure | None = None
    """Why it failed, or why one of its files could not be written."""
    removed: tuple[str, ...] = ()
    """Names of files of an older result that were removed, since they hold no longer and were not asked for."""


@dataclass(frozen=True)
class Listener:
    """Holds the functions that are called with what happens in between."""

    begun: Callable[[VideoJob], None] = lambda job: None
    progressed: Callable[[VideoJob, float], None] = lambda job, seconds: None
    """Called with the seconds of video that were seen so far."""
    said: Callable[[int, str], None] = lambda level, text: None
    """Called with a level of `logging` and a message."""


def do_video(
    worker: VideoWorker, job: VideoJob, on_progress: Callable[[Timing], None] | None = None, *, alone: bool = False
) -> VideoOutcome:
    """Do one video; any error is its failure, and one that nobody foresaw is raised only if the video is `alone`."""
    try:
        finished = worker.do(job, on_progress)
    except (AfsdError, OSError, MemoryError) as error:
        return VideoOutcome(job, None, Failure.of(error), worker.removed)
    except Exception as error:
        if alone:
            raise
        return VideoOutcome(job, None, Failure(type(error).__name__, describe_unforeseen(error)[0]), worker.removed)
    failure = None if finished.failure is None else Failure.of(finished.failure)
    return VideoOutcome(
        job, replace(finished, failure=None), failure, worker.removed
    )  # not every exception can be sent


class Here:
    """Runs the videos of a job in this process, one after another: for a few, or one that may take all memory."""

    def __init__(self, worker: VideoWorker) -> None:
        self._worker, self._stopped = worker, False

    def run(self, jobs: Sequence[VideoJob], listener: Listener | None = None) -> Iterator[VideoOutcome]:
        """Yield what became of each video; see `WorkerPool.run`."""
        listener = listener or Listener()
        for job in jobs:
            if self._stopped:
                return
            listener.begun(job)

            def report(timing: Timing, job: VideoJob = job) -> None:
                listener.progressed(job, timing.video_seconds)

            yield do_video(self._worker, job, report, alone=len(jobs) == 1)

    def stop(self) -> None:
        """Begin no other video."""
        self._stopped = True
