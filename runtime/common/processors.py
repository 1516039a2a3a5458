"""Find out what of the machine this process may use: processors and memory, with the limits of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MEMORY = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")
"""Folder in which Linux has the limits of a container."""
GROUPS = Path("/proc/self/cgroup")
"""File that names the control groups of this process."""


def usable_cores() -> int:
    """Return the number of logical cores that this process may use; a container's share of time counts, rounded up."""
    return limited_cores() or _cores()


def limited_cores() -> int | None:
    """Return the cores to which a container's share of time amounts, rounded up; None: no fewer than there are.

    Libraries that count the cores by themselves start a thread for each, and a container with less time than cores
    then stands still for a part of each period.
    """
    shares = []
    for folder in _folders("cpu"):
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            shares.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            shares.append(int(quota) / int(period))
    cores = min((math.ceil(share) for share in shares if share > 0), default=None)
    return cores if cores is not None and cores < _cores() else None


def free_memory() -> int | None:
    """Return the bytes of memory that this process may still take, a container's limit counted; None: not known."""
    known = []
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = MEMORY.read_text(encoding="ascii").splitlines()
        known.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    for folder in _folders("memory"):
        for names in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with suppress(OSError, ValueError):  # "max" is no number: no limit
                most, used = (int((folder / name).read_text(encoding="ascii")) for name in names)
                known.append(max(most - used, 0))
    return min(known, default=None)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _folders(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups and of their parents, of both versions, as far as are there.

    In a container the paths that the process is told may be those of the machine; the container's own is the root.
    """
    yield CONTAINER
    yield CONTAINER / controller
    with suppress(OSError, ValueError):
        for line in GROUPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            _, controllers, path = line.split(":", 2)
            root = CONTAINER if not controllers else CONTAINER / controllers
            if controllers and controller not in controllers.split(","):
                continue
            yield root
            for part in Path(path).parts[1:]:
                if part == "..":  # outside of what this process sees
                    break
                root /= part
                yield root
