"""Find actions in a pool of actors on Ray, in place of the worker processes of one machine."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from runtime.errors import InputError
from runtime.fleet.engines import open_shared, require_device, share_engine
from runtime.fleet.files import JobFile, files_here, offer_settings, settings_here
from runtime.fleet.options import FleetOptions
from runtime.fleet.outcome import Outcome, Work
from runtime.fleet.places import first_relative, require_shared, shared_folder
from runtime.fleet.running import connected, run_on_actors
from runtime.fleet.shares import choose_shares
from runtime.fleet.videos import require_finite
from runtime.inputs import Progress
from runtime.jobs.plan import VideoJob, folders_of
from runtime.jobs.running import Listener, VideoOutcome, WorkerPlan, do_video
from runtime.jobs.store_records import ADVICE
from runtime.jobs.worker_count import is_heavy
from runtime.jobs.worker_process import digest_allowance


class DetectionWorker:
    """Finds actions in an actor, which holds one detector."""

    def __init__(self, plan: WorkerPlan, mark: str, files: Sequence[JobFile] = ()) -> None:
        """Open the engines and the folder of the results.

        Args:
            plan: the job, with the recipe that the machine that started it has made.
            mark: file in the folder of the results, see `shared_folder`; empty without a folder, and for an object
                store, to which each actor sees itself whether it can write.
            files: the models, as the machine that started the job has them.
        """
        if mark:
            require_shared(mark)
        self._opened = ExitStack()  # as long as the actor lives
        paths = self._opened.enter_context(files_here(files))
        self._plan = replace(plan, settings=settings_here(plan.settings, paths))
        self._worker = self._opened.enter_context(self._plan.open(open_shared))

    @property
    def seen(self) -> tuple[int, int]:
        """Frames and windows of the video in work that were seen so far."""
        return self._worker.seen

    def allowance(self, item: VideoJob) -> float:
        """Return the seconds that the digest of a video may take in silence."""
        return digest_allowance(item.source)

    def work(self, item: VideoJob) -> Work:
        """Do what is to be done for a video; its `Finished` is the content, also where a file could not be written."""
        return self._do(item)

    def _do(self, job: VideoJob, on_progress: Progress | None = None) -> Work:
        outcome = do_video(self._worker, job, on_progress)
        if outcome.failure is not None or outcome.finished is None:
            return Work("failed", outcome.finished, failure=outcome.failure, removed=outcome.removed)
        finished = outcome.finished
        seconds = finished.seconds if finished.standing == "new" else 0.0
        return Work("skipped" if finished.standing == "done" else "done", finished, seconds, removed=outcome.removed)


def detect_on_actors(jobs: Sequence[VideoJob], plan: WorkerPlan, fleet: FleetOptions) -> Generator[Outcome, None, None]:
    """Do videos in a pool of actors and yield what became of each, in no order; see `run_on_actors` and `WorkerPlan`.

    Raises:
        InputError: a source that other machines cannot read or that has no end; an actor that cannot work.
        MissingDependencyError: Ray is not installed.
        AfsdError: Ray lost the job.
    """
    require_finite(jobs)
    require_device(plan.settings.engine_options, fleet)
    with ExitStack() as stack:
        mark = ""
        if isinstance(plan.folder, Path):  # to a store each actor sees itself whether it can write
            below = folders_of(job.name for job in jobs)
            mark = stack.enter_context(shared_folder(plan.folder, ADVICE, below=below))
        ray = stack.enter_context(connected(fleet.address))
        fleet = choose_shares(ray, fleet, heavy=is_heavy(plan.settings))
        settings = replace(plan.settings, engine_options=share_engine(plan.settings.engine_options, fleet))
        files = offer_settings(settings)
        known = set() if plan.recipe is None else set(plan.recipe.models.values())
        if plan.recipe is not None and known != {file.digest for file in files if file.is_model}:
            raise InputError("a model was changed while the job was started; start it again")
        arguments = {"plan": replace(plan, settings=settings), "mark": mark, "files": files}
        labels = [job.label for job in jobs]
        relative = first_relative([plan.folder, *(job.source for job in jobs)])
        work = run_on_actors(list(jobs), DetectionWorker, arguments, fleet, labels, relative=relative)
        yield from stack.enter_context(closing(work))


class RayPool:
    """Runs the videos of a job of `afsd detect` on Ray, in place of worker processes (`runtime.jobs.workers`)."""

    def __init__(self, plan: WorkerPlan, fleet: FleetOptions) -> None:
        """Take what the actors need; they start in `run`."""
        self._plan, self._fleet, self._stopped = plan, fleet, False

    def run(self, jobs: Sequence[VideoJob], listener: Listener | None = None) -> Iterator[VideoOutcome]:
        """Yield what became of each video; see `WorkerPool.run`, and `detect_on_actors` for errors."""
        said = (listener or Listener()).said
        with closing(detect_on_actors(jobs, self._plan, self._fleet)) as outcomes, warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: said(logging.WARNING, str(message))
            for outcome in outcomes:
                work = outcome.work
                yield VideoOutcome(jobs[outcome.key], work.content, work.failure, work.removed)
                if self._stopped:
                    return

    def stop(self) -> None:
        """End the work now: videos that are in work are not done."""
        self._stopped = True
