"""Give the numbers of the service to Prometheus."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from runtime.service.jobs import STATES, JobStore
from runtime.service.workers.pool import Pool


class ServiceMetrics:
    """Counts what the service does, beside what its parts count themselves (a `Collector`)."""

    def __init__(self, store: JobStore, pool: Pool, answers: Counter[int]) -> None:
        """Take the parts that are asked for their numbers, and the number of answers by status."""
        self._store, self._pool, self._answers = store, pool, answers
        self.received_bytes = 0
        """Bytes of uploads and fetched videos."""

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        store, pool = self._store, self._pool
        states = Counter(job.state for job in store)
        jobs = GaugeMetricFamily("afsd_service_jobs", "Jobs that are known, by state.", labels=["state"])
        for state in STATES:
            jobs.add_metric([state], states[state])
        yield jobs
        ended = CounterMetricFamily(
            "afsd_service_jobs_ended_total", "Jobs that have ended, by how.", labels=["outcome"]
        )
        for outcome in ("done", "failed", "cancelled"):
            ended.add_metric([outcome], store.outcomes[outcome])
        yield ended
        answers = CounterMetricFamily(
            "afsd_service_answers_total", "Answers to requests, by status.", labels=["status"]
        )
        for status, count in sorted(self._answers.items()):
            answers.add_metric([str(status)], count)
        yield answers
        yield from pool.ran.collect()
        for name, text, value in (
            ("afsd_service_queue_length", "Jobs that wait, uploads among them.", store.waiting),
            ("afsd_service_workers_ready", "Workers whose engine is open.", pool.ready),
            ("afsd_service_workers_busy", "Workers that run a job.", pool.busy),
            ("afsd_service_live_inputs", "Live inputs that are open.", pool.live),
            ("afsd_service_disk_bytes", "Bytes of videos and results that are kept.", store.disk.used),
            (
                "afsd_service_memory_bytes",
                "Resident memory of the service without its workers.",
                resident(os.getpid()),
            ),
        ):
            yield GaugeMetricFamily(name, text, value)
        for name, text, total in (
            ("afsd_service_workers_replaced_total", "Workers that crashed, hung, or were used up.", pool.replaced),
            ("afsd_service_received_bytes_total", "Bytes of videos that were taken.", self.received_bytes),
            ("afsd_service_video_seconds_total", "Seconds of video of jobs that are done.", pool.video_seconds),
        ):
            yield CounterMetricFamily(name, text, total)


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
