"""Judge a study: whether every request ended as its kind must, in bounded memory, and nothing was left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.benchmark.service_load.kinds import KINDS

MIB = 1 << 20
SERVICE_GROWTH = 64 * MIB
"""Bytes by which the memory of the service may grow: less than the largest upload, of which it keeps none in memory."""
WORKER_GROWTH = 256 * MIB
"""Bytes by which the memory of each worker may grow once its engine is open: twice what the demo's network was seen to
take (105 MiB). A larger network takes more."""


@dataclass(frozen=True)
class RequestRecord:
    """Holds what became of one request."""

    kind: str
    end: str
    """Status, and state of its job if there is one; "lost" if there was no answer."""
    seconds: float
    refusals: int = 0
    """Number of 429 before it was taken."""

    @property
    def lost(self) -> bool:
        """Whether there was no answer, or none that could be read."""
        return self.end.startswith("lost")

    @property
    def wrong(self) -> bool:
        """Whether it was answered and ended in another way than its kind must."""
        return not self.lost and self.end not in KINDS[self.kind].ends


@dataclass(frozen=True)
class Usage:
    """Holds the resident memory of the service and of all its workers, in bytes."""

    service: int
    workers: int


@dataclass(frozen=True)
class Study:
    """Holds all that one study saw."""

    records: Sequence[RequestRecord]
    seconds: float
    """Time from the first request to the last answer."""
    before: Usage
    """Memory with every engine open, before the first request."""
    peak: Usage
    after: Usage
    workers: int
    metrics: dict[str, float]
    """Numbers of the service at the end, by name and labels."""
    status: int
    """Exit status of the service."""
    left: int
    """Number of temporary files that it left."""


def find_faults(study: Study, worker_growth: int = WORKER_GROWTH) -> list[str]:
    """Return what is wrong with a service, a line each; none if every request ended as it must.

    Args:
        study: what was seen.
        worker_growth: bytes by which the memory of each worker may grow.
    """
    faults = [
        f"{count} × {kind}: {end}, expected {' or '.join(sorted(KINDS[kind].ends))}"
        for (kind, end), count in Counter((r.kind, r.end) for r in study.records if r.lost or r.wrong).items()
    ]
    grown = study.peak.service - study.before.service
    if grown > SERVICE_GROWTH:
        faults.append(f"the service's memory grew by {grown / MIB:.0f} MiB, expected at most {SERVICE_GROWTH // MIB}")
    grown, most = study.peak.workers - study.before.workers, study.workers * worker_growth
    if grown > most:
        faults.append(f"the workers' memory grew by {grown / MIB:.0f} MiB, expected at most {most // MIB}")
    if study.status:
        faults.append(f"the service ended with exit status {study.status}, expected 0")
    if study.left:
        faults.append(f"the service left {study.left} temporary files, expected none")
    return faults
