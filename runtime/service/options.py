"""Hold the options of the service: where it listens, what it takes, how much of the machine it may use."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from runtime.common.ranges import Count, Length, Processes, Range, Seconds, Share, check_ranges
from runtime.metrics.addresses import LOOPBACK

MIB = 1 << 20
"""Bytes of a MiB."""
Bytes = Annotated[int, Range(1, 1 << 50, what="bytes")]


@dataclass(frozen=True)
class ServiceOptions:
    """Holds the options of a service."""

    host: str = LOOPBACK
    """Address to which the service is bound."""
    port: Annotated[int, Range(0, 65_535)] = 8000
    """Port; 0 takes any that is free."""
    workers: Processes = 1
    """Number of processes for jobs, each with an engine of its own."""
    queue: Count = 32
    """Most jobs that are being uploaded, fetched, or wait for a worker; more are refused with 429."""
    max_upload: Bytes = 2048 * MIB
    """Largest video in bytes."""
    max_seconds: Seconds = 4 * 3600.0
    """Longest video in seconds."""
    max_processing: Seconds = 3600.0
    """Longest time in seconds that a job may hold a worker."""
    max_live: Annotated[int, Range(0, 1024)] = 1
    """Most live inputs at once, each with a process and an engine of its own; 0: none."""
    max_message: Bytes = 32 * MIB
    """Largest message of a live input in bytes."""
    keep: Seconds = 3600.0
    """Seconds for which an ended job is kept."""
    disk: Bytes = 20_480 * MIB
    """Most bytes of videos and results at a time."""
    memory: Annotated[int, Range(0, 1 << 50, what="bytes")] = 4096 * MIB
    """Bytes that a worker may take beyond those of its loaded engine; 0: any."""
    max_receive: Seconds = 3600.0
    """Longest time in seconds in which a video is sent or fetched."""
    patience: Seconds = 30.0
    """Longest silence in seconds of a client that sends or reads, and of a server that is fetched from."""
    grace: Length = 30.0
    """Seconds that running jobs get to end when the service is stopped."""
    longest_without_worker: Seconds = 900.0
    """Longest time in seconds without any open worker, after which the service ends; more than an engine needs to be
    compiled."""
    score: Share | None = None
    """Lowest score of the detections of a job that asks for none; None: the model's threshold."""
    batch_size: Count = 1
    """Number of windows per call of the engine."""
    root: Path | None = None
    """Folder whose videos clients may name by their paths in it; None: no file of this machine can be named."""
    private_urls: bool = False
    """Whether addresses of private networks and of this machine may be fetched from."""
    token: str = field(default="", repr=False)
    """Secret that every request must bring; empty: none is asked for."""
    behind_tls: bool = False
    """Whether clients come by a proxy that speaks TLS with them, so that cookies are for TLS alone."""
    hosts: tuple[str, ...] = ()
    """Names under which clients may reach the service, beside addresses in numbers and localhost."""

    def __post_init__(self) -> None:
        check_ranges(self)
