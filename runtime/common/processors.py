"""Find out what of the machine this process may use: processors and memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MEMORY = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")
"""Folder in which Linux has the limits of a container."""


def usable_cores() -> int:
    """Return the number of logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Return the bytes of memory that this process may still take, a container's limit counted; None: not known."""
    known = []
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = MEMORY.read_text(encoding="ascii").splitlines()
        known.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    with suppress(OSError, ValueError):  # "max" is no number: no limit
        most, used = (int((CONTAINER / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        known.append(max(most - used, 0))
    return min(known, default=None)
