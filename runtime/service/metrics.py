"""Give the numbers of the service to Prometheus."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

from runtime.live.metrics import Metric
from runtime.service.jobs import STATES, JobStore
from runtime.service.workers.histogram import BOUNDS
from runtime.service.workers.pool import Pool


class ServiceMetrics:
    """Counts what the service does, beside what its parts count themselves."""

    def __init__(self, store: JobStore, pool: Pool) -> None:
        """Take the parts that are asked for their numbers."""
        self._store, self._pool = store, pool
        self.received_bytes = 0
        """Bytes of uploads and fetched videos."""

    def collect(self, answers: Counter[int]) -> list[Metric]:
        """Return the metrics as they stand; `answers` has the number of answers by status."""
        store, pool = self._store, self._pool
        states = Counter(job.state for job in store)
        jobs = Metric("afsd_service_jobs", "Jobs that are known, by state.", "gauge")
        for state in STATES:
            jobs.add(states[state], state=state)
        ended = Metric("afsd_service_jobs_ended_total", "Jobs that have ended, by how.")
        for outcome in ("done", "failed", "cancelled"):
            ended.add(store.outcomes[outcome], outcome=outcome)
        requests = Metric("afsd_service_answers_total", "Answers to requests, by status.")
        for status, count in sorted(answers.items()):
            requests.add(count, status=str(status))
        ran = Metric("afsd_service_job_seconds", "Seconds that a worker needed for a job that is done.", "histogram")
        ran.add_histogram(BOUNDS, pool.ran.counts, pool.ran.total)
        return [
            jobs,
            ended,
            requests,
            ran,
            _one("afsd_service_queue_length", "Jobs that wait, uploads among them.", "gauge", store.waiting),
            _one("afsd_service_workers_ready", "Workers whose engine is open.", "gauge", pool.ready),
            _one("afsd_service_workers_busy", "Workers that run a job.", "gauge", pool.busy),
            _one(
                "afsd_service_workers_replaced_total",
                "Workers that crashed, hung, or were used up.",
                "counter",
                pool.replaced,
            ),
            _one("afsd_service_live_inputs", "Live inputs that are open.", "gauge", pool.live),
            _one("afsd_service_disk_bytes", "Bytes of videos and results that are kept.", "gauge", store.disk.used),
            _one(
                "afsd_service_received_bytes_total", "Bytes of videos that were taken.", "counter", self.received_bytes
            ),
            _one(
                "afsd_service_video_seconds_total",
                "Seconds of video of jobs that are done.",
                "counter",
                pool.video_seconds,
            ),
            _one(
                "afsd_service_memory_bytes",
                "Resident memory of the service without its workers.",
                "gauge",
                resident(os.getpid()),
            ),
        ]


def _one(name: str, text: str, kind: str, value: float) -> Metric:
    metric = Metric(name, text, kind)  # type: ignore[arg-type]  # one of the literals
    metric.add(value)
    return metric


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
