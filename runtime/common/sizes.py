"""Say amounts of memory and sizes of files in words, each in its own unit.

Memory is counted in MiB and GiB, of 2²⁰ and 2³⁰ bytes, as systems and GPUs have it; files and disks in MB, GB and TB,
of 10⁶, 10⁹ and 10¹² bytes, as file managers and makers of disks do.
"""

from __future__ import annotations

MEMORY_UNITS = (("GiB", 2**30), ("MiB", 2**20))
FILE_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6))


def memory_size(size: float) -> str:
    """Return a number of bytes of memory: "415 MiB", "23.5 GiB"."""
    return _in_units(size, MEMORY_UNITS)


def file_size(size: float) -> str:
    """Return a number of bytes of a file or a disk: "0.4 MB", "26 MB", "66.8 GB"."""
    return _in_units(size, FILE_UNITS)


def _in_units(size: float, units: tuple[tuple[str, int], ...]) -> str:
    """Return a size in its largest unit, or in the smallest; with a decimal, but for ten or more of the smallest."""
    name, factor = next((unit for unit in units if size >= unit[1]), units[-1])
    value = size / factor
    return f"{value:.0f} {name}" if factor == units[-1][1] and value >= 10 else f"{value:.1f} {name}"
