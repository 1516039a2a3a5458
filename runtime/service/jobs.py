"""Hold the jobs of the service: their states, files and events, from the request to their expiry."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from runtime.common.console import print_warning
from runtime.service.events import EventLog
from runtime.service.intake.disk import DiskBudget
from runtime.service.job_options import JobOptions
from runtime.service.options import ServiceOptions
from runtime.service.refusals import RefusedError

State = Literal["receiving", "fetching", "queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("receiving", "fetching", "queued", "running", "done", "failed", "cancelled")
ENDED = frozenset({"done", "failed", "cancelled"})
"""States after which nothing changes."""
WAITING = frozenset({"receiving", "fetching", "queued"})
"""States of jobs that count against the queue."""
MOST_FAILED = 10_000
"""Most jobs that failed or were cancelled and are still known; of more, as a program in error sends, the oldest go."""
REMEMBERED = 10_000
"""Most identifiers of removed jobs that are still known as such."""
REPLAYED_S = 60.0
"""Seconds after a job's end for which clients that come back get all of its events, and not the last alone."""
USUAL_S = 10.0
"""Seconds that a job is taken to need before any has ended."""
RESULT, REPORT, PREVIEW = "result.json", "report.html", "preview.webm"
"""Names of the files of a job."""


@dataclass(eq=False)
class Job:
    """Holds one job; changed by the event loop's thread alone."""

    id: str
    folder: Path
    """Folder of its files."""
    options: JobOptions
    score: float
    """Lowest score of its detections."""
    name: str = ""
    """Name of the video for people."""
    source: str = ""
    """Where the video is from, as results say it: file name, path in the root, or address."""
    state: State = "receiving"
    reason: str = ""
    """Reason for which it failed or was cancelled."""
    video: Path | None = None
    """File of the video; None: not there yet."""
    named: str | None = None
    """Path in the root by which the client named the video; None: it did not."""
    media_type: str = "application/octet-stream"
    """Type of the video as it was found to be, never as a client said."""
    preview: bool = False
    """Whether there is a copy for browsers."""
    bytes: int = 0
    """Bytes on the disk that are counted for it."""
    count: int = 0
    """Number of detections."""
    video_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    events: EventLog = field(default_factory=EventLog)
    created: float = field(default_factory=time.time)
    """Moment of the request, in seconds since 1970."""
    moments: dict[str, float] = field(default_factory=dict)
    """Moment at which each state began, on the monotonic clock."""
    seen: bool = False
    """Whether a client has seen how it ended."""
    removed: bool = False
    wake: Callable[[], None] | None = None
    """Function that has its worker, or its fetching, look at `stopping`."""
    stopping: str = ""
    """Reason for which it is to be cancelled; empty: it is not."""

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.state in ENDED

    def enter(self, state: State, reason: str = "") -> None:
        """Go on to a state, and say so to those who follow."""
        if self.ended:
            return
        self.state, self.reason = state, reason
        self.moments[state] = time.monotonic()
        if state not in ENDED:
            self.events.add("state", {"state": state})
            return
        data: dict[str, Any] = {"state": state}
        if state == "done":
            data |= {"detections": self.count, "result": f"{self.url}/result", "report": f"{self.url}/report"}
        else:
            data |= {"reason": reason}
        self.events.add(state, data, last=True)

    def seconds_in(self, first: str, *ends: str) -> float:
        """Return the seconds from the beginning of a state to that of the first of `ends` that there was, or to now."""
        begun = self.moments.get(first)
        if begun is None:
            return 0.0
        end = next((self.moments[name] for name in ends if name in self.moments), time.monotonic())
        return end - begun

    @property
    def url(self) -> str:
        """Path of the job's address."""
        return f"/v1/jobs/{self.id}"

    def describe(self) -> dict[str, Any]:
        """Return what a client is told of the job."""
        known: dict[str, Any] = {
            "id": self.id,
            "state": self.state,
            "video": self.name,
            "source": self.source,
            "created": datetime.fromtimestamp(self.created, UTC).isoformat(timespec="milliseconds"),
            "score": self.score,
            "seconds_waited": round(self.seconds_in("receiving", "running", *ENDED), 3),
            "seconds_run": round(self.seconds_in("running", *ENDED), 3),
            "progress": None if self.events.progress is None else self.events.progress.data,
            "warnings": self.warnings,
            "urls": {name: f"{self.url}{end}" for name, end in URLS.items()},
        }
        if self.state == "done":
            known["detections"] = self.count
        if self.reason:
            known["reason"] = self.reason
        return known


URLS = {"job": "", "result": "/result", "report": "/report", "events": "/events", "video": "/video"}
"""Addresses of a job, behind its own."""


class JobStore:
    """Holds all jobs that are known, within the limits of queue, disk and time."""

    def __init__(self, folder: Path, options: ServiceOptions, renew: Callable[[], Path] | None = None) -> None:
        """Take the folder for the files of jobs, and a function that makes another should somebody remove it."""
        self._folder, self._options, self._renew = folder, options, renew
        self._jobs: dict[str, Job] = {}
        self._removed: OrderedDict[str, str] = OrderedDict()
        self._clearing: set[asyncio.Task[None]] = set()
        self.disk = DiskBudget(folder, options.disk)
        self.outcomes: Counter[str] = Counter()
        """Number of jobs that ended in each state."""
        self.usual_s = USUAL_S
        """Seconds that a job takes, as a running mean."""

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    @property
    def waiting(self) -> int:
        """Number of jobs that count against the queue."""
        return sum(job.state in WAITING for job in self._jobs.values())

    def add(self, options: JobOptions, default_score: float) -> Job:
        """Make a job in the state "receiving" (RefusedError: the queue is full)."""
        waiting = self.waiting
        if waiting >= self._options.queue:
            wait_s = max(1, round(self.usual_s * waiting / self._options.workers / 2))
            raise RefusedError(
                429,
                f"{waiting} jobs are waiting already, expected fewer than {self._options.queue}; try again later",
                {"Retry-After": str(min(wait_s, 600))},
            )
        number = secrets.token_urlsafe(16)
        folder = self._make_folder(number)
        job = Job(number, folder, options, default_score if options.score is None else options.score)
        job.moments["receiving"] = time.monotonic()
        self._jobs[number] = job
        return job

    def _make_folder(self, number: str) -> Path:
        """Make the folder of a job; where programs that tidy up have removed the one around it, in a new one."""
        try:
            (self._folder / number).mkdir(mode=0o700)
        except FileNotFoundError:
            if self._renew is None:
                raise
            print_warning(
                f"{self._folder} was removed by another program, with the files of all jobs; a new one is used"
            )
            self._folder = self._renew()
            (self._folder / number).mkdir(mode=0o700)
        return self._folder / number

    def get(self, number: str) -> Job:
        """Return a job (RefusedError: it is not known, or was removed)."""
        job = self._jobs.get(number)
        if job is None:
            if number in self._removed:
                raise RefusedError(410, f"the job {self._removed[number]}; send it again")
            raise RefusedError(404, "there is no such job; expected the address that POST /v1/jobs gave")
        return job

    def note_end(self, job: Job) -> None:
        """Count a job that has ended, and remove the files of one that is not done: nobody can ask for them."""
        self.outcomes[job.state] += 1
        if job.state == "done":
            self.usual_s += 0.2 * (job.seconds_in("running", "done") - self.usual_s)
        else:
            clearing = asyncio.get_running_loop().create_task(self.clear(job))
            self._clearing.add(clearing)
            clearing.add_done_callback(self._clearing.discard)

    async def remove(self, job: Job, why: str) -> None:
        """Forget a job, cancel it if it has not ended, and remove its files once nobody writes them."""
        if self._jobs.pop(job.id, None) is None:
            return
        self._removed[job.id] = why
        while len(self._removed) > REMEMBERED:
            self._removed.popitem(last=False)
        job.removed = True
        if not job.ended:
            self.cancel(job, why)
        if job.ended:
            await self.clear(job)

    def cancel(self, job: Job, reason: str) -> None:
        """Have a job end as cancelled: at once if it waits, else when its worker or fetching stops."""
        if job.ended:
            return
        job.stopping = job.stopping or reason
        if job.wake is not None:
            job.wake()
        elif job.state == "queued":
            job.enter("cancelled", reason)
            self.note_end(job)

    async def clear(self, job: Job) -> None:
        """Remove the files of a job."""
        await asyncio.to_thread(shutil.rmtree, job.folder, True)
        self.disk.give(job.bytes)
        job.bytes = 0

    async def drop(self, job: Job) -> None:
        """Forget a job that never came to be, as of an upload that was refused."""
        self._jobs.pop(job.id, None)
        job.removed = True
        await self.clear(job)

    async def expire(self) -> None:
        """Remove the jobs that ended too long ago, and sooner their events from memory; and failed ones beyond many."""
        now = time.monotonic()
        failed = [job for job in self if job.ended and job.state != "done"]
        for job in failed[: max(len(failed) - MOST_FAILED, 0)]:
            await self.remove(job, f"{job.state}, and so did many after it")
        for job in self:
            since = now - job.moments[job.state]
            if job.ended and since > self._options.keep:
                await self.remove(job, "expired")
            elif job.ended and since > REPLAYED_S:
                job.events.forget()
