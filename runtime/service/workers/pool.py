"""Run queued jobs on worker processes, and replace those that crash, hang or are used up."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from prometheus_client import Histogram

from runtime.common.console import print_warning
from runtime.common.mappings import to_mapping
from runtime.common.text import one_line
from runtime.errors import EngineError
from runtime.service.jobs import PREVIEW, REPORT, RESULT, Job, JobStore
from runtime.service.options import ServiceOptions
from runtime.service.refusals import RefusedError
from runtime.service.workers.process import WorkerProcess
from runtime.service.workers.worker import Message, Models

BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the buckets in which the seconds of jobs are counted."""
STOP_S = 5.0
"""Seconds in which a worker must stop a job that was cancelled; a window of a large network takes about one."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Seconds between attempts to replace a worker, which double."""


class Pool:
    """Holds the workers and the queue; for the event loop's thread."""

    def __init__(self, models: Models, options: ServiceOptions, store: JobStore) -> None:
        """Take the models; nothing is started before `start`."""
        self._models, self._options, self._store = models, options, store
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._workers: set[WorkerProcess] = set()
        self._idle_live: list[WorkerProcess] = []
        self.model: Message = {}
        """What the first worker told of the model."""
        self.ready = 0
        """Number of workers that are open."""
        self.busy = 0
        """Number of workers that run a job."""
        self.live = 0
        """Number of live inputs."""
        self.replaced = 0
        """Number of workers that crashed, hung, or were used up."""
        self.video_seconds = 0.0
        """Seconds of video of all jobs."""
        self.ran = Histogram(
            "afsd_service_job_seconds", "Seconds that a worker needed for a job that is done.",
            buckets=BOUNDS_S, registry=None,
        )  # fmt: skip
        """Seconds that jobs which are done ran."""
        self.failure = ""
        """Why the last worker could not be opened."""
        self._last_ready = time.monotonic()
        self._closing = False
        self._cleaning: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the first worker, then the others meanwhile (EngineError: the engine cannot be opened)."""
        first = await self._open(0)
        self._last_ready = time.monotonic()
        for number in range(self._options.workers):
            working = self._keep_working(number, first if number == 0 else None)
            self._tasks.append(asyncio.create_task(working))

    @property
    def seconds_without_worker(self) -> float:
        """Seconds for which no worker for jobs has been open."""
        return 0.0 if self.ready else time.monotonic() - self._last_ready

    @property
    def lost(self) -> bool:
        """Whether no worker has been open for so long that the service is of no use."""
        return self.seconds_without_worker > self._options.longest_without_worker

    def submit(self, job: Job) -> None:
        """Put a job whose video is there into the queue."""
        job.wake = None
        job.enter("queued")
        if job.stopping:
            self._end(job, "cancelled", job.stopping)
        else:
            self._queue.put_nowait(job)

    async def close(self) -> None:
        """End all workers; jobs that still run are cancelled."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.close() for worker in list(self._workers)), *self._cleaning)
        self._workers.clear()

    def kill(self) -> None:
        """End all workers at once, from any thread."""
        for worker in list(self._workers):
            worker.kill()

    async def _open(self, number: int) -> WorkerProcess:
        worker = WorkerProcess(self._models.for_worker(number), self._options.memory)
        self._workers.add(worker)
        try:
            told = await worker.opened()
        except BaseException:
            self._workers.discard(worker)
            worker.kill()
            raise
        for warning in told["warnings"] if not self.model else ():
            print_warning(warning)
        self.model = self.model or told
        return worker

    async def _discard(self, worker: WorkerProcess) -> None:
        self._workers.discard(worker)
        self.replaced += not self._closing
        await worker.close()

    async def _keep_working(self, number: int, worker: WorkerProcess | None) -> None:
        """Keep one worker at work until the service ends, whatever happens to it."""
        while True:
            try:
                worker = worker or await self._open_again(number)
                await self._use(worker)
            except Exception as error:  # such as no process to be had: the service would be ready and do nothing
                print_warning(f"unforeseen {type(error).__name__}, a worker is replaced: {error}")
                await asyncio.sleep(FIRST_PAUSE_S)
            worker = None

    async def _use(self, worker: WorkerProcess) -> None:
        """Run one job after the other on a worker until it is gone or used up."""
        self.ready += 1
        try:
            job = await self._next_job()
            while not worker.gone and await self._run_counted(worker, job):
                job = await self._next_job()
        except Exception:
            await self._discard(worker)
            raise
        finally:
            self.ready -= 1
            self._last_ready = time.monotonic()
        if not job.ended:  # the worker was gone before it could begin
            self._queue.put_nowait(job)
        await self._discard(worker)

    async def _next_job(self) -> Job:
        """Wait for a job that is still wanted."""
        while (job := await self._queue.get()).ended or job.removed:
            pass
        return job

    async def _run_counted(self, worker: WorkerProcess, job: Job) -> bool:
        self.busy += 1
        try:
            return await self._run(worker, job)
        except Exception:
            self._end(job, "failed", "unforeseen; the service's own log has more")
            raise
        finally:
            self.busy -= 1
            self._finish(job)

    async def _open_again(self, number: int) -> WorkerProcess:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._open(number)
            except (EngineError, OSError) as error:
                self.failure = one_line(error)
                print_warning(f"a worker cannot be opened, the next attempt is in {pause_s:g} s: {error}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _run(self, worker: WorkerProcess, job: Job) -> bool:
        """Run a job to its end and return whether the worker can be used again."""
        while not worker.messages.empty():  # of the job before
            worker.messages.get_nowait()
        job.enter("running")
        job.wake = lambda: worker.messages.put_nowait({"event": "stop"})
        worker.send(
            "job",
            video=str(job.video),
            folder=str(job.folder),
            name=job.name,
            source=job.source,
            root=None if job.named is None else str(self._options.root),
            named=job.named,
            score=job.score,
            max_seconds=self._options.max_seconds,
            options=to_mapping(job.options),
        )
        end = time.monotonic() + self._options.max_processing
        while True:
            try:
                async with asyncio.timeout(max(end - time.monotonic(), 0)):
                    message = await worker.messages.get()
            except TimeoutError:
                worker.kill()
                if job.stopping:
                    self._end(job, "cancelled", job.stopping)
                else:
                    self._end(
                        job, "failed", f"needs more than {self._options.max_processing:g} s; send a shorter video"
                    )
                return False
            except asyncio.CancelledError:  # the service closes
                worker.kill()
                self._end(job, "cancelled", job.stopping or "the service was stopped; send it again")
                raise
            if message is None:
                why = job.stopping or f"the decoder or the engine crashed on this video ({await worker.fate()})"
                self._end(job, "cancelled" if job.stopping else "failed", why)
                return False
            if message["event"] == "stop":
                worker.send("cancel")
                end = min(end, time.monotonic() + STOP_S)
            elif self._take(job, message):
                return not message.get("spent")

    def _take(self, job: Job, message: Message) -> bool:
        """Note a message of a worker about a job, and return whether it is the last."""
        data: dict[str, Any] = {key: value for key, value in message.items() if key != "event"}
        match message["event"]:
            case "opened":
                job.media_type = data["type"]
            case "progress":
                job.events.show(data)
            case "detections":
                job.count += len(data["detections"])
                job.events.add("detections", data)
            case "warning":
                job.warnings.append(data["reason"])
                job.events.add("warning", data)
            case "done":
                job.count, job.preview = data["detections"], data["preview"]
                job.video_seconds = data["video_seconds"]
                self.video_seconds += job.video_seconds
                self._count_files(job)
                self._end(job, "done")
            case "cancelled":
                self._end(job, "cancelled", job.stopping)
            case "failed":
                self._end(job, "failed", data["reason"])
        return job.ended

    def _count_files(self, job: Job) -> None:
        """Count the files of a result against the disk."""
        made = sum(path.stat().st_size for name in (RESULT, REPORT, PREVIEW) if (path := job.folder / name).is_file())
        self._store.disk.add(made)
        job.bytes += made

    def _end(self, job: Job, state: Any, reason: str = "") -> None:
        if not job.ended:
            job.wake = None
            job.enter(state, reason)
            self._store.note_end(job)
            if state == "done":
                self.ran.observe(job.seconds_in("running", "done"))

    def _finish(self, job: Job) -> None:
        """Remove the files of a job that nobody can ask for any more."""
        if job.removed:
            task = asyncio.get_running_loop().create_task(self._store.clear(job))
            self._cleaning.add(task)
            task.add_done_callback(self._cleaning.discard)

    async def take_live(self) -> WorkerProcess:
        """Return a worker for a live input (RefusedError: too many are in use, or it cannot be opened)."""
        if not self._options.max_live:
            raise RefusedError(403, "this service takes no live input; it is started without --max-live")
        if not self.model["live"]:
            raise RefusedError(409, "the model sees whole videos, and a live input has no end; send a file to /v1/jobs")
        if self.live >= self._options.max_live:
            raise RefusedError(
                429, f"{self.live} live inputs are open, expected fewer than {self._options.max_live}; try again later",
                {"Retry-After": "10"},
            )  # fmt: skip
        self.live += 1
        try:
            while self._idle_live:
                worker = self._idle_live.pop()
                if not worker.gone:
                    return worker
                await self._discard(worker)
            return await self._open(self.live - 1)
        except EngineError as error:
            self.live -= 1
            raise RefusedError(503, f"no worker can be opened: {error}", {"Retry-After": "30"}) from None
        except BaseException:
            self.live -= 1
            raise

    async def give_live(self, worker: WorkerProcess, usable: bool) -> None:
        """Take back the worker of a live input that has ended."""
        self.live -= 1
        if usable and not self._closing:
            self._idle_live.append(worker)
        else:
            await self._discard(worker)
