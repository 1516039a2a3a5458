"""Hold the options of a job on Ray."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from runtime.common.ranges import Count, Number, Range, Seconds, check_ranges, require_in_range
from runtime.common.text import quote
from runtime.errors import InputError

Portion = Annotated[float, Range(0, 65_536)]
"""A number of CPUs or GPUs, of which Ray gives out fractions."""
PATIENCE_S = 600.0
"""Seconds without progress after which an actor is ended, as the workers of one machine are."""
ADDRESS = r"(\[[0-9A-Fa-f:.]+\]|[^\s:/]+):[0-9]{1,5}"
"""Form of the address of a cluster's head."""


@dataclass(frozen=True)
class FleetOptions:
    """Holds the options of a job on Ray: how many actors, what each gets, and how often a video is tried."""

    address: str | None = None
    """Cluster: its address, "auto" for the one that this machine belongs to, "local" to start Ray on this machine;
    None: that of RAY_ADDRESS, else as "local". A connection that is there already is used."""
    actors: int | tuple[int, int | None] = (1, None)
    """Number of actors, or the least and the most of a pool that Ray Data scales; None: as many as the cluster has room
    for."""
    cpus_per_actor: Portion | None = None
    """CPUs that Ray reserves for an actor. An engine on the CPU uses as many threads, at least one. None: what suits
    the network (`runtime.fleet.shares`): four for a heavy one on the CPU, else one."""
    gpus_per_actor: Portion = 0.0
    """GPUs that Ray reserves for an actor, such as 0.25: then four actors share a GPU. 0: engines run on the CPU."""
    memory_per_actor: Annotated[int, Range(0, 2**50, what="bytes")] | None = None
    """Bytes of memory that Ray reserves for an actor; 0: none. None: what suits the network; none where there is no
    network."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Further resources of the cluster that an actor needs, by their names, as in {"decoder": 1}."""
    retries: Number = 2
    """Number of times that a video is begun again after the process that worked on it has died: killed, out of memory,
    lost with its machine, or crashed by the video itself. Then the video counts as failed."""
    max_errors: Number | None = None
    """Number of failed videos at which the job stops; None: it goes on, however many fail."""
    patience: Seconds | None = PATIENCE_S
    """Seconds without progress in a video after which its actor is ended and started again, and the video counts as
    failed; None: never. Of detection and features; the stores of `afsd prepare` are not watched."""
    runtime_env: Mapping[str, Any] | None = None
    """Ray's runtime environment of the actors: variables, packages, code; None: that of the job."""

    def __post_init__(self) -> None:
        check_ranges(self)
        _check_address(self.address)
        least, most = self.pool
        require_in_range("actors", least, Count)
        require_in_range("actors", most, Count | None)
        if most is not None and most < least:
            raise InputError(f"actors: got {least} … {most}, expected the least before the most")
        if self.gpus_per_actor > 1 and self.gpus_per_actor != int(self.gpus_per_actor):
            raise InputError(
                f"gpus_per_actor: got {self.gpus_per_actor:g}, expected a part of one GPU, or whole ones; an engine "
                "runs on one"
            )

    @property
    def pool(self) -> tuple[int, int | None]:
        """Least and most number of actors; None: no most."""
        return (self.actors, self.actors) if isinstance(self.actors, int) else (self.actors[0], self.actors[1])

    @property
    def threads(self) -> int:
        """Threads of an engine on the CPU."""
        return max(1, math.floor(self.cpus))

    @property
    def cpus(self) -> float:
        """CPUs that Ray reserves for an actor; 1 where nothing has chosen."""
        return 1.0 if self.cpus_per_actor is None else self.cpus_per_actor


def _check_address(address: str | None) -> None:
    """Raise an InputError for what is no address, which Ray would look for for minutes."""
    if address in (None, "auto", "local") or re.fullmatch(ADDRESS, address or ""):
        return
    advice = "expected local, auto, or HOST:PORT of the cluster's head"
    if str(address).startswith("ray://"):
        advice = "Ray Data does not work from outside of the cluster; run the job on one of its machines, with auto"
    raise InputError(f"address of Ray: got {quote(address)}; {advice}")
