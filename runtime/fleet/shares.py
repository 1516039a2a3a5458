"""Choose the CPUs and the memory of an actor where a job does not say, by its network and the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runtime.fleet.options import FleetOptions
from runtime.jobs.worker_count import HEAVY_CORES, WORKER_BYTES

LIGHT_BYTES = WORKER_BYTES // 4
"""Memory that an actor with a light network may take: twice what one with the synthetic network does."""


def choose_shares(ray: Any, fleet: FleetOptions, *, heavy: bool) -> FleetOptions:
    """Return the options with the CPUs and the memory of each actor.

    A heavy network on the CPU gets as many CPUs as it fills, others one. No actor asks for more than the machine of the
    cluster that has most has; a cluster that has no machine for it yet may get one.

    Args:
        ray: the library, connected.
        fleet: options of the job; what it chooses itself stays.
        heavy: whether the network takes most of the time (`runtime.jobs.worker_count.is_heavy`).
    """
    cpus = HEAVY_CORES if heavy and not fleet.gpus_per_actor else 1
    memory = WORKER_BYTES if heavy else LIGHT_BYTES
    machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
    rooms = [
        (min(cpus, machine["CPU"]), min(memory, machine.get("memory", 0)))
        for machine in machines
        if machine.get("CPU") and machine.get("GPU", 0) >= fleet.gpus_per_actor
    ]
    most = max(rooms, default=(cpus, memory))
    return replace(
        fleet,
        cpus_per_actor=most[0] if fleet.cpus_per_actor is None else fleet.cpus_per_actor,
        memory_per_actor=int(most[1]) if fleet.memory_per_actor is None else fleet.memory_per_actor,
    )
