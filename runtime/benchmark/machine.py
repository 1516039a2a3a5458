"""Describe the machine of a measurement: processor, cores, load at the start, versions of libraries."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from runtime.common.processors import usable_cores

LIBRARIES = (
    "numpy", "opencv-python-headless", "av", "openvino", "onnxruntime", "onnxruntime-gpu", "torch", "tensorrt",
    "tensorrt-rtx",
)  # fmt: skip
"""Packages whose versions are recorded where they are installed."""

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
"""Instructions of x86 processors on which the speed of number types depends, by their names in /proc/cpuinfo."""


@dataclass(frozen=True)
class Machine:
    """Holds the facts of a machine at the start of a measurement."""

    processor: str
    """Name of the processor."""
    cores: int
    """Number of logical cores that this process may use, over which bounds are computed."""
    logical_cores: int
    """Number of logical cores of the machine."""
    load: tuple[float, ...] = ()
    """Mean number of running processes over 1, 5 and 15 minutes before the start; empty where the system keeps none."""
    memory_gib: float = 0.0
    """Memory in GiB; 0 where the system does not say it."""
    instructions: tuple[str, ...] = ()
    """Those of `INSTRUCTIONS` that the processor has."""
    system: str = ""
    python: str = ""
    libraries: dict[str, str] = field(default_factory=dict)
    """Installed package of `LIBRARIES` → version."""
    gpus: tuple[str, ...] = ()
    """Index and name of each GPU that was measured."""
    started: str = ""
    """Time of the start, UTC, as in "2026-11-30 08:40"."""

    @property
    def title(self) -> str:
        """Processor, cores and GPUs in one line."""
        return "; ".join([f"{self.processor}, {self.logical_cores} logical cores", *self.gpus])

    @property
    def busy(self) -> bool:
        """Whether other processes used a tenth of the machine's cores or more when the measurement began."""
        return bool(self.load) and self.load[0] >= max(0.1 * self.cores, 0.1)


def describe_machine(gpus: tuple[str, ...] = ()) -> Machine:
    """Look up the facts of this machine now; `gpus` are the names of the GPUs that are measured."""
    name, flags = _processor()
    return Machine(
        processor=name,
        cores=usable_cores(),
        logical_cores=os.cpu_count() or 1,
        load=tuple(round(value, 2) for value in os.getloadavg()) if hasattr(os, "getloadavg") else (),
        memory_gib=_memory_gib(),
        instructions=tuple(word for word in INSTRUCTIONS if word in flags),
        system=f"{platform.system()} {platform.release()}",  # platform.platform() starts a process
        python=platform.python_version(),
        libraries={name: found for name in LIBRARIES if (found := _version(name))},
        gpus=gpus,
        started=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    )


def _processor() -> tuple[str, frozenset[str]]:
    """Return name and instruction flags of the first processor."""
    facts: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a pseudo-file, where there is one
            for line in file:
                key, _, value = line.partition(":")
                facts.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    name = facts.get("model name") or platform.processor() or platform.machine()
    return name, frozenset(facts.get("flags", "").split())


def _memory_gib() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return 0.0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
