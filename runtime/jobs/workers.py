"""Run a job in worker processes, each with engines of its own; one that dies costs the video that it had in work."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from typing import Any

from runtime.errors import AfsdError, EngineError
from runtime.jobs.failures import Failure
from runtime.jobs.plan import VideoJob
from runtime.jobs.running import LIFE_S, Listener, VideoOutcome, WorkerPlan
from runtime.jobs.worker_process import END_S, WorkerPlace, WorkerProcess

LIVES = 4
"""Signs of life, at least, in the time after which a worker without any is ended."""
PATIENCE_S = 600.0
"""Seconds without progress after which a worker is ended."""
OPENINGS = 4
"""Times that a worker is opened after one that died, before no more is tried in its place."""
REOPEN_S = 5.0
"""Seconds before a worker that could not be opened is opened again; twice as many before each further time."""
OPENING_S = 600.0
"""Least time in seconds that a worker has to open the model: TensorRT and OpenVINO may compile it for minutes."""
TICK_S = 5.0
"""Longest wait for messages in seconds; two of it are the most that counts as a worker's silence, so that a machine
that was suspended, or a parent that was busy, ends no worker."""
DIED = "WorkerDied"
"""Kind of the failure of a video whose worker died."""
HUNG = "WorkerHung"
"""Kind of the failure of a video whose worker made no progress."""


class WorkerPool:
    """Runs the videos of a job in worker processes, and replaces those that die or hang."""

    def __init__(
        self, plan: WorkerPlan, devices: Sequence[str], threads: int | None = None, *, patience: float = PATIENCE_S
    ) -> None:
        """Take what the workers need; they start in `run`.

        Args:
            plan: what each of them needs to know.
            devices: device of each worker.
            threads: CPU threads of each worker's engine; None: all cores.
            patience: seconds without progress in a video after which its worker is ended.
        """
        self._plan = replace(plan, life_s=min(LIFE_S, patience / LIVES))
        self._places = [WorkerPlace(device, threads) for device in devices]
        self._patience = patience
        self._tick = min(TICK_S, patience / 4)
        self._workers: list[WorkerProcess] = []
        self._ending: list[WorkerProcess] = []
        self._reopening: list[tuple[float, WorkerPlace]] = []
        """Places of workers that could not be opened, with the times at which to try again."""
        self._errors: list[AfsdError] = []
        """Why workers could not be opened, as long as no other could."""
        self._waiting: list[VideoJob] = []
        self._given_back: set[str] = set()
        """Names of the videos whose worker died before it began them."""
        self._listener = Listener()
        self._worked = self._stopped = False
        self._looked = 0.0

    def run(self, jobs: Sequence[VideoJob], listener: Listener | None = None) -> Iterator[VideoOutcome]:
        """Yield what became of each video, as it ends. Closing the iterator ends the workers at once.

        Whoever takes the outcomes may call `stop`: those in work are then still done, and no other.

        Raises:
            AfsdError: no worker could open the model.
        """
        self._waiting, self._listener = list(reversed(jobs)), listener or Listener()
        try:
            for place in self._places[: len(jobs)]:
                self._start(place)
            self._looked = time.monotonic()
            while self._workers or (self._reopening and self._waiting):
                self._reopen()
                yield from self._listen()
                yield from self._end_hung()
            if self._waiting and not self._worked and self._errors:
                first, *others = {str(error): error for error in self._errors}.values()
                for error in others:
                    self._listener.said(logging.WARNING, str(error))
                raise first
            if self._waiting:
                raise EngineError("no worker process is left; see the lines above")
        finally:
            for worker in self._workers:
                worker.kill()
            for worker in self._ending:
                worker.process.join(END_S)
                worker.kill()

    def stop(self) -> None:
        """Begin no other video."""
        self._stopped = True
        self._waiting.clear()

    def _start(self, place: WorkerPlace) -> None:
        self._workers.append(WorkerProcess(self._plan, place))

    def _reopen(self) -> None:
        """Start workers again that could not be opened a while ago."""
        now = time.monotonic()
        due = [place for at, place in self._reopening if at <= now]
        self._reopening = [(at, place) for at, place in self._reopening if at > now]
        for place in due if self._waiting else ():
            self._start(place)

    def _listen(self) -> Iterator[VideoOutcome]:
        """Wait for messages and deaths, and handle them."""
        if not self._workers:
            time.sleep(max(min(at for at, _ in self._reopening) - time.monotonic(), 0.0))
            return
        ready = wait([worker.connection for worker in self._workers], self._tick)
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                yield from self._bury(worker)
                continue
            if message[0] != "said":
                worker.silence = 0.0
            yield from self._handle(worker, message)

    def _end_hung(self) -> Iterator[VideoOutcome]:
        """End the workers that have made no progress for too long."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * self._tick), now
        for worker in list(self._workers):
            worker.silence += passed
            job = worker.job
            if job is None and worker.silence > max(self._patience, OPENING_S):
                self._fail(worker, _hung_early(worker.silence))
            elif job is not None and worker.silence > self._patience + worker.allowance:
                self._remove(worker)
                if self._waiting:
                    self._start(worker.place)
                text = f"no progress for {worker.silence:.0f} s, so its process was ended; --patience gives it longer"
                yield VideoOutcome(job, None, Failure(HUNG, f"{job.label}: {text}"))

    def _handle(self, worker: WorkerProcess, message: tuple[str, Any]) -> Iterator[VideoOutcome]:
        kind, content = message
        if kind == "said":
            self._listener.said(*content)
        elif kind == "begun" and worker.job is not None:
            worker.begun = True
            self._listener.begun(worker.job)
        elif kind == "allowance":
            worker.allowance = content
        elif kind == "alive":
            worker.allowance = 0.0
        elif kind == "progress" and worker.job is not None:
            self._listener.progressed(worker.job, content)
        elif kind == "failed":
            self._fail(worker, content)
        elif kind in ("ready", "done"):
            self._worked = worker.ready = True
            worker.place.failures = 0
            self._say_errors()
            worker.job = None
            if kind == "done":
                yield content
            self._give(worker)

    def _give(self, worker: WorkerProcess) -> None:
        """Give a worker its next video, or end it."""
        if self._waiting:
            worker.give(self._waiting.pop())
            return
        worker.end()
        self._workers.remove(worker)
        self._ending.append(worker)

    def _bury(self, worker: WorkerProcess) -> Iterator[VideoOutcome]:
        """Report the video of a dead worker as failed, and start another in its place.

        A video that the worker had not begun is given to another one, once.
        """
        fate, job = worker.fate(), worker.job
        self._remove(worker)
        if job is None:
            if not worker.ready:
                self._fail(worker, _died_early(fate))
            return
        is_given_back = not worker.begun and job.name not in self._given_back
        if is_given_back:
            self._given_back.add(job.name)
            if not self._stopped:  # else it is among those that are not done
                self._waiting.append(job)
        if self._waiting:
            self._start(worker.place)
        if not is_given_back:
            yield VideoOutcome(job, None, Failure(DIED, f"{job.label}: the process that worked on it {fate}"))

    def _fail(self, worker: WorkerProcess, error: AfsdError) -> None:
        """Go on without a worker that could not open the model; where others could, try again after a while."""
        self._remove(worker)
        self._errors.append(error)
        if not self._worked:
            return
        self._say_errors()
        place = worker.place
        place.failures += 1
        if place.failures < OPENINGS and self._waiting:
            self._reopening.append((time.monotonic() + REOPEN_S * 2 ** (place.failures - 1), place))

    def _say_errors(self) -> None:
        """Say why workers could not be opened: that others could is no reason to be silent."""
        for error in self._errors:
            self._listener.said(logging.WARNING, str(error))
        self._errors.clear()

    def _remove(self, worker: WorkerProcess) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            worker.kill()


def _died_early(fate: str) -> EngineError:
    return EngineError(f"a worker process {fate} while it opened the model; give fewer --workers")


def _hung_early(silence: float) -> EngineError:
    return EngineError(f"a worker process did not open the model in {silence:.0f} s, so it was ended; is a drive gone?")
