"""Run a job in worker processes, each with engines of its own; one that dies costs the video that it had in work."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from runtime.common.children import end_with_parent
from runtime.common.console import describe_unforeseen
from runtime.common.log import LOGGER
from runtime.common.processors import free_memory, usable_cores
from runtime.common.text import one_line
from runtime.errors import AfsdError, ArtifactWarning, EngineError, VideoWarning
from runtime.jobs.failures import Failure
from runtime.jobs.opening import open_worker
from runtime.jobs.plan import VideoJob
from runtime.jobs.recipe import Recipe
from runtime.jobs.settings import JobSettings
from runtime.jobs.work import Finished, VideoWorker
from runtime.timing import Timing
from runtime.video.sources import STDIN

FIRST_TO_GO = "500"
"""Linux's oom_score_adj of a worker: where memory runs out, a worker is ended before the process that started it."""
REPORT_S = 0.5
"""Seconds between two reports of a video's progress."""
END_S = 5.0
"""Seconds that a worker without work has to end by itself."""
MANY = 8
"""Number of videos from which on worker processes are started where none were asked for."""
LARGEST_DEFAULT = 8
"""Most workers that are started where none were asked for; engines have threads for further cores."""
WORKER_BYTES = 2 << 30
"""Memory that a worker with the published network may take."""
DIED = "WorkerDied"
"""Kind of the failure of a video whose worker died."""


@dataclass(frozen=True)
class WorkerPlan:
    """Holds all that a worker process needs to know; can be sent to it."""

    settings: JobSettings
    folder: Path | None
    """Folder of the result files; None: none are written."""
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


@dataclass(frozen=True)
class Outcome:
    """Holds what became of one video."""

    job: VideoJob
    finished: Finished | None
    """Its result; None: it failed."""
    failure: Failure | None = None
    """Why it failed, or why one of its files could not be written."""


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
) -> Outcome:
    """Do one video; any error is its failure, and one that nobody foresaw is raised only if the video is `alone`."""
    try:
        finished = worker.do(job, on_progress)
    except (AfsdError, OSError, MemoryError) as error:
        return Outcome(job, None, Failure.of(error))
    except Exception as error:
        if alone:
            raise
        return Outcome(job, None, Failure(type(error).__name__, describe_unforeseen(error)[0]))
    failure = None if finished.failure is None else Failure.of(finished.failure)
    return Outcome(job, replace(finished, failure=None), failure)  # not every exception can be sent


class _Worker:
    """Holds one worker process and the video that it has in work."""

    def __init__(self, plan: WorkerPlan, device: str, threads: int | None) -> None:
        options = plan.settings.engine_options
        options = replace(options, device=device, threads=threads)
        plan = replace(plan, settings=replace(plan.settings, engine_options=options))
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(other, plan), name="afsd-worker", daemon=True)
        self.process.start()
        other.close()
        self.device, self.threads = device, threads
        self.job: VideoJob | None = None
        self.ready = False

    def give(self, job: VideoJob) -> None:
        """Send a video; that the worker is dead shows when it is listened to."""
        self.job = job
        with suppress(OSError):
            self.connection.send(job)

    def end(self) -> None:
        """Ask the process to end."""
        with suppress(OSError):
            self.connection.send(None)

    def kill(self) -> None:
        """End the process at once: what it writes is written atomically."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def fate(self) -> str:
        """Return in words how the dead process ended."""
        self.process.join(END_S)
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"ended with status {code}"
        with suppress(ValueError):
            name = signal.Signals(-code).name
            hint = {"SIGKILL": ", perhaps for want of memory", "SIGSEGV": ", a crash in a library"}.get(name, "")
            return f"was ended by {name}{hint}"
        return f"was ended by signal {-code}"


class WorkerPool:
    """Runs the videos of a job in worker processes, and replaces those that die."""

    def __init__(self, plan: WorkerPlan, devices: Sequence[str], threads: int | None = None) -> None:
        """Take what the workers need; they start in `run`.

        Args:
            plan: what each of them needs to know.
            devices: device of each worker.
            threads: CPU threads of each worker's engine; None: all cores.
        """
        self._plan, self._devices, self._threads = plan, list(devices), threads
        self._workers: list[_Worker] = []
        self._ending: list[_Worker] = []
        self._waiting: list[VideoJob] = []
        self._listener = Listener()
        self._worked = False

    def run(self, jobs: Sequence[VideoJob], listener: Listener | None = None) -> Iterator[Outcome]:
        """Yield what became of each video, as it ends. Closing the iterator ends the workers at once.

        Whoever takes the outcomes may call `stop`: those in work are then still done, and no other.

        Raises:
            AfsdError: no worker could open the model.
        """
        self._waiting, self._listener = list(reversed(jobs)), listener or Listener()
        try:
            for device in self._devices[: len(jobs)]:
                self._start(device, self._threads)
            while self._workers:
                yield from self._listen()
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
        self._waiting.clear()

    def _start(self, device: str, threads: int | None) -> None:
        self._workers.append(_Worker(self._plan, device, threads))

    def _listen(self) -> Iterator[Outcome]:
        """Wait for messages and deaths, and handle them."""
        ready = wait([worker.connection for worker in self._workers])
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                yield from self._bury(worker)
                continue
            yield from self._handle(worker, message)

    def _handle(self, worker: _Worker, message: tuple[str, Any]) -> Iterator[Outcome]:
        kind, content = message
        if kind == "said":
            self._listener.said(*content)
        elif kind == "progress" and worker.job is not None:
            self._listener.progressed(worker.job, content)
        elif kind == "failed":
            self._fail(worker, content)
        elif kind in ("ready", "done"):
            self._worked = worker.ready = True
            worker.job = None
            if kind == "done":
                yield content
            self._give(worker)

    def _give(self, worker: _Worker) -> None:
        """Give a worker its next video, or end it."""
        if self._waiting:
            job = self._waiting.pop()
            self._listener.begun(job)
            worker.give(job)
            return
        worker.end()
        self._workers.remove(worker)
        self._ending.append(worker)

    def _bury(self, worker: _Worker) -> Iterator[Outcome]:
        """Report the video of a dead worker as failed, and start another in its place."""
        fate, job = worker.fate(), worker.job
        self._remove(worker)
        if job is None:
            if not worker.ready:
                self._fail(worker, _died_early(fate))
            return
        if self._waiting:
            self._start(worker.device, worker.threads)
        yield Outcome(job, None, Failure(DIED, f"{job.label}: the process that worked on it {fate}"))

    def _fail(self, worker: _Worker, error: AfsdError) -> None:
        """Go on without a worker that could not open the model, unless no other ever did."""
        self._remove(worker)
        if not self._worked:
            raise error
        self._listener.said(logging.WARNING, str(error))

    def _remove(self, worker: _Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            worker.kill()


def _died_early(fate: str) -> EngineError:
    return EngineError(f"a worker process {fate} while it opened the model; give fewer --workers")


class _Parent:
    """Sends messages to the parent from any thread."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._reported = 0.0

    def send(self, kind: str, content: object = None) -> None:
        """Send a message (OSError: the parent is gone)."""
        with self._lock:
            self._connection.send((kind, content))

    def report(self, timing: Timing) -> None:
        """Send the progress of a video, not too often."""
        now = time.monotonic()
        if now - self._reported >= REPORT_S:
            self._reported = now
            self.send("progress", timing.video_seconds)

    def say(self, level: int, text: str) -> None:
        """Send a message of the log."""
        with suppress(OSError):
            self.send("said", (level, one_line(text)))


def _work(connection: Connection[Any, Any], plan: WorkerPlan) -> None:
    """Do the videos that are sent, until None is (a process's body)."""
    import cv2

    end_with_parent()
    for name in ("SIGTERM", "SIGHUP"):  # sent to a whole group: the parent ends its workers
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    cv2.setNumThreads(1)
    parent = _Parent(connection)
    _pass_on(parent, plan.log_level)
    try:
        with open_worker(
            plan.settings,
            plan.folder,
            recorded=plan.recorded,
            recipe=plan.recipe,
            fresh=plan.fresh,
            overwrite=plan.overwrite,
            profile=plan.profile,
        ) as worker:
            parent.send("ready")
            while (job := connection.recv()) is not None:
                parent.send("done", do_video(worker, job, parent.report if plan.progress else None))
    except (AfsdError, OSError, MemoryError) as error:
        with suppress(OSError):
            parent.send("failed", EngineError(Failure.of(error).message))
    except EOFError:  # the parent is gone
        pass


def _pass_on(parent: _Parent, level: int) -> None:
    """Have warnings and messages of the log go to the parent, which prints them."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            parent.say(record.levelno, record.getMessage())

    for category in (VideoWarning, ArtifactWarning):
        warnings.simplefilter("always" if level <= logging.WARNING else "ignore", category)
    warnings.showwarning = lambda message, *_, **__: parent.say(logging.WARNING, str(message))
    LOGGER.addHandler(Handler())
    LOGGER.setLevel(level)
    LOGGER.propagate = False


class Here:
    """Runs the videos of a job in this process, one after another: for a few, or one that may take all memory."""

    def __init__(self, worker: VideoWorker) -> None:
        self._worker, self._stopped = worker, False

    def run(self, jobs: Sequence[VideoJob], listener: Listener | None = None) -> Iterator[Outcome]:
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


def choose_workers(jobs: Sequence[VideoJob], asked: int | None, devices: Sequence[str]) -> int:
    """Return the number of worker processes for some videos; 0: this process does them.

    Args:
        jobs: the videos that are to be done.
        asked: number that was asked for; 0: none; None: what suits.
        devices: devices to be used; of several each gets a worker.
    """
    if any(job.source == STDIN for job in jobs):
        return 0
    if asked is None:
        asked = len(devices) if len(devices) > 1 else filling_workers() if len(jobs) >= MANY else 0
    elif asked:
        asked = max(asked, len(devices))
    return min(asked, len(jobs))


def filling_workers() -> int:
    """Return the number of workers that fill this machine: one a core, fewer where memory is short, at least one."""
    memory = free_memory()
    room = LARGEST_DEFAULT if memory is None else memory // WORKER_BYTES
    return max(min(usable_cores(), LARGEST_DEFAULT, room), 1)


def share_devices(devices: Sequence[str], workers: int) -> list[str]:
    """Return the device of each worker: the devices in turn."""
    return [devices[number % len(devices)] for number in range(workers)]


def share_threads(settings: JobSettings, workers: int) -> int | None:
    """Return the CPU threads of each worker's engine: its share of the cores; None where an engine takes no number."""
    files = [settings.engine, settings.flow_engine or settings.engine, *settings.backbones]
    takes = all(Path(file).suffix.lower() in (".onnx", ".xml") for file in files)
    on_cpu = settings.engine_options.device_kind in ("auto", "cpu") and settings.engine_options.provider is None
    return max(usable_cores() // workers, 1) if takes and on_cpu else None
