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
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from runtime.common.children import end_with_parent
from runtime.common.console import describe_unforeseen
from runtime.common.log import LOGGER
from runtime.common.text import one_line
from runtime.errors import AfsdError, ArtifactWarning, EngineError, VideoWarning
from runtime.jobs.failures import Failure
from runtime.jobs.opening import OpenEngine, open_with_options, open_worker
from runtime.jobs.plan import Source, VideoJob
from runtime.jobs.recipe import Recipe
from runtime.jobs.settings import JobSettings
from runtime.jobs.store_records import StoreFolder
from runtime.jobs.video_state import files_of
from runtime.jobs.work import Finished, VideoWorker
from runtime.timing import Timing

FIRST_TO_GO = "500"
"""Linux's oom_score_adj of a worker: where memory runs out, a worker is ended before the process that started it."""
REPORT_S = 0.5
"""Seconds between two reports of a video's progress."""
LIFE_S = 2.0
"""Longest time in seconds between two signs of life of a worker whose video goes on."""
LIVES = 4
"""Signs of life, at least, in the time after which a worker without any is ended."""
END_S = 5.0
"""Seconds that a worker without work has to end by itself."""
OPENINGS = 4
"""Times that a worker is opened after one that died, before no more is tried in its place."""
REOPEN_S = 5.0
"""Seconds before a worker that could not be opened is opened again; twice as many before each further time."""
PATIENCE_S = 600.0
"""Seconds without progress after which a worker is ended."""
OPENING_S = 600.0
"""Least time in seconds that a worker has to open the model: TensorRT and OpenVINO may compile it for minutes."""
TICK_S = 5.0
"""Longest wait for messages in seconds; two of it are the most that counts as a worker's silence, so that a machine
that was suspended, or a parent that was busy, ends no worker."""
DIGEST_RATE = 4e6
"""Bytes of a video per second of allowance: its digest is computed at 8 MB a second at least, which shows no progress,
and twice if it looks changed."""
DIED = "WorkerDied"
"""Kind of the failure of a video whose worker died."""
HUNG = "WorkerHung"
"""Kind of the failure of a video whose worker made no progress."""


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
class Outcome:
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
) -> Outcome:
    """Do one video; any error is its failure, and one that nobody foresaw is raised only if the video is `alone`."""
    try:
        finished = worker.do(job, on_progress)
    except (AfsdError, OSError, MemoryError) as error:
        return Outcome(job, None, Failure.of(error), worker.removed)
    except Exception as error:
        if alone:
            raise
        return Outcome(job, None, Failure(type(error).__name__, describe_unforeseen(error)[0]), worker.removed)
    failure = None if finished.failure is None else Failure.of(finished.failure)
    return Outcome(job, replace(finished, failure=None), failure, worker.removed)  # not every exception can be sent


@dataclass
class _Place:
    """Holds where one worker after another runs."""

    device: str
    threads: int | None
    """CPU threads of the engine; None: as the library has it."""
    failures: int = 0
    """Times since the last success that no worker could be opened."""


class _Worker:
    """Holds one worker process and the video that it has in work."""

    def __init__(self, plan: WorkerPlan, place: _Place) -> None:
        options = replace(plan.settings.engine_options, device=place.device, threads=place.threads)
        plan = replace(plan, settings=replace(plan.settings, engine_options=options))
        self.connection, other = multiprocessing.get_context("spawn").Pipe()
        self.process = self._begin(other, plan)
        other.close()
        self.place = place
        self.job: VideoJob | None = None
        self.begun = False
        """Whether the worker has taken the video."""
        self.ready = False
        self.silence = 0.0
        """Seconds since the last sign of progress."""
        self.allowance = 0.0
        """Further seconds of silence that the size of the video allows."""

    def _begin(self, connection: Connection[Any, Any], plan: WorkerPlan) -> BaseProcess:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_work, args=(connection, plan), name="afsd-worker", daemon=True)
        process.start()
        return process

    def give(self, job: VideoJob) -> None:
        """Send a video; that the worker is dead shows when it is listened to."""
        self.job, self.begun = job, False
        self.silence = self.allowance = 0.0
        with suppress(OSError):
            self.connection.send(job)

    def end(self) -> None:
        """Ask the process to end."""
        with suppress(OSError):
            self.connection.send(None)

    def kill(self) -> None:
        """End the process at once: what it writes is written atomically."""
        self.process.kill()
        self.process.join(END_S)  # one that waits in the kernel, for a drive that is gone, may not end
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
        self._places = [_Place(device, threads) for device in devices]
        self._patience = patience
        self._tick = min(TICK_S, patience / 4)
        self._workers: list[_Worker] = []
        self._ending: list[_Worker] = []
        self._reopening: list[tuple[float, _Place]] = []
        """Places of workers that could not be opened, with the times at which to try again."""
        self._errors: list[AfsdError] = []
        """Why workers could not be opened, as long as no other could."""
        self._waiting: list[VideoJob] = []
        self._given_back: set[str] = set()
        """Names of the videos whose worker died before it began them."""
        self._listener = Listener()
        self._worked = self._stopped = False
        self._looked = 0.0

    def run(self, jobs: Sequence[VideoJob], listener: Listener | None = None) -> Iterator[Outcome]:
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

    def _start(self, place: _Place) -> None:
        self._workers.append(_Worker(self._plan, place))

    def _reopen(self) -> None:
        """Start workers again that could not be opened a while ago."""
        now = time.monotonic()
        due = [place for at, place in self._reopening if at <= now]
        self._reopening = [(at, place) for at, place in self._reopening if at > now]
        for place in due if self._waiting else ():
            self._start(place)

    def _listen(self) -> Iterator[Outcome]:
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

    def _end_hung(self) -> Iterator[Outcome]:
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
                yield Outcome(job, None, Failure(HUNG, f"{job.label}: {text}"))

    def _handle(self, worker: _Worker, message: tuple[str, Any]) -> Iterator[Outcome]:
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

    def _give(self, worker: _Worker) -> None:
        """Give a worker its next video, or end it."""
        if self._waiting:
            worker.give(self._waiting.pop())
            return
        worker.end()
        self._workers.remove(worker)
        self._ending.append(worker)

    def _bury(self, worker: _Worker) -> Iterator[Outcome]:
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
            yield Outcome(job, None, Failure(DIED, f"{job.label}: the process that worked on it {fate}"))

    def _fail(self, worker: _Worker, error: AfsdError) -> None:
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

    def _remove(self, worker: _Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            worker.kill()


def _died_early(fate: str) -> EngineError:
    return EngineError(f"a worker process {fate} while it opened the model; give fewer --workers")


def _hung_early(silence: float) -> EngineError:
    return EngineError(f"a worker process did not open the model in {silence:.0f} s, so it was ended; is a drive gone?")


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
        with plan.open() as worker:
            life = _Life(worker, parent, plan.life_s)
            parent.send("ready")
            while (job := connection.recv()) is not None:
                parent.send("begun")
                life.begin(digest_allowance(job.source))
                parent.send("done", do_video(worker, job, parent.report if plan.progress else None))
    except EOFError:  # the parent is gone
        pass
    except Exception as error:  # of the opening alone: `do_video` raises none
        foreseen = isinstance(error, (AfsdError, OSError, MemoryError))
        text = Failure.of(error).message if foreseen else describe_unforeseen(error)[0]
        with suppress(OSError):
            parent.send("failed", EngineError(text))


class _Life:
    """Tells the parent, not too often, that frames or windows went on since the last time."""

    def __init__(self, worker: VideoWorker, parent: _Parent, every_s: float) -> None:
        self._worker, self._parent, self._every_s = worker, parent, every_s
        self._seen, self._lock = worker.seen, threading.Lock()
        threading.Thread(target=self._report, name="afsd-life", daemon=True).start()

    def begin(self, allowance: float) -> None:
        """Send the allowance of the next video, which only progress in that video may end."""
        with self._lock:
            self._seen = self._worker.seen
            self._parent.send("allowance", allowance)

    def _report(self) -> None:
        """Look now and then (the thread's body)."""
        with suppress(OSError):  # the parent is gone
            while True:
                time.sleep(self._every_s)
                with self._lock:
                    if (now := self._worker.seen) != self._seen:
                        self._seen = now
                        self._parent.send("alive")


def digest_allowance(source: Source) -> float:
    """Return the seconds that the digest of a video, of all its files, may take in silence."""
    with suppress(AfsdError, OSError):
        return sum(file.stat().st_size for file in files_of(source) or ()) / DIGEST_RATE
    return 0.0


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
