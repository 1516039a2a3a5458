"""Run one worker of a job in a process of its own: both ends of it, and the messages between them."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from runtime.common.children import end_with_parent
from runtime.common.console import describe_unforeseen
from runtime.common.log import LOGGER
from runtime.common.text import one_line
from runtime.errors import AfsdError, ArtifactWarning, EngineError, VideoWarning
from runtime.jobs.failures import Failure
from runtime.jobs.plan import Source, VideoJob
from runtime.jobs.running import WorkerPlan, do_video
from runtime.jobs.video_state import files_of
from runtime.jobs.work import VideoWorker
from runtime.timing import Timing

FIRST_TO_GO = "500"
"""Linux's oom_score_adj of a worker: where memory runs out, a worker is ended before the process that started it."""
REPORT_S = 0.5
"""Seconds between two reports of a video's progress."""
END_S = 5.0
"""Seconds that a worker without work has to end by itself."""
DIGEST_RATE = 4e6
"""Bytes of a video per second of allowance: its digest is computed at 8 MB a second at least, which shows no progress,
and twice if it looks changed."""


@dataclass
class WorkerPlace:
    """Holds where one worker after another runs."""

    device: str
    threads: int | None
    """CPU threads of the engine; None: as the library has it."""
    failures: int = 0
    """Times since the last success that no worker could be opened."""


class WorkerProcess:
    """Holds one worker process and the video that it has in work."""

    def __init__(self, plan: WorkerPlan, place: WorkerPlace) -> None:
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
