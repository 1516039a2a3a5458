"""How the pooling kernel is launched, and how much memory traffic that is."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.errors import ExportError

ITEM_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
"""Bytes of one feature in each precision the kernel has."""

SHARED_BYTES = 48 * 1024
"""Shared memory a block may have without asking the driver, which nobody can do for a kernel inside an engine."""

ROWS = 4
"""Channels of one block. The full-size network then has 128 blocks at the frame level (C = 512) and 256 at each level
of the pyramid (C = 1024) at batch 1, about what large GPUs have multiprocessors. More rows would read the regions less
often, which costs little since they stay in the L2 cache, but leave multiprocessors idle."""

THREADS = 256
"""Threads of one block."""

WARP = 32


@dataclass(frozen=True)
class Launch:
    """Of one kernel call; the batch is the grid's third axis."""

    tiles: int
    """Blocks along the channels of one half; the grid is (tiles, 2, B)."""
    block: tuple[int, int]
    """Threads (along cells and regions, along rows)."""
    rows: int
    """Channels of one block."""
    shared_bytes: int


def levels_of(length: int) -> int:
    """Levels of the kernel's table for rows of `length` cells: 4^j cells at level j."""
    levels = 1
    while 4**levels <= length:
        levels += 1
    return levels


def launch_for(channels: int, length: int, count: int, precision: str) -> Launch:
    """Launch parameters for features [B,C,T] and N regions.

    Args:
        channels: C, even.
        length: T.
        count: N.
        precision: of the features.

    Raises:
        ExportError: the kernel does not take the type, or one row's table does not fit into shared memory.
    """
    if precision not in ITEM_BYTES:
        raise ExportError(f"boundary pooling: got features of {precision}, expected one of {', '.join(ITEM_BYTES)}")
    if channels < 2 or channels % 2 or length < 1 or count < 1:
        raise ExportError(
            f"boundary pooling: got C = {channels}, T = {length}, N = {count}, expected even C, T ≥ 1, N ≥ 1"
        )
    row_bytes = levels_of(length) * length * ITEM_BYTES[precision]
    if row_bytes > SHARED_BYTES:
        raise ExportError(
            f"boundary pooling: {length} cells of {precision} need {row_bytes} bytes of shared memory, a block has "
            f"{SHARED_BYTES}; use --pooling function"
        )
    rows = min(ROWS, SHARED_BYTES // row_bytes, channels // 2)
    across = min(THREADS // 2, WARP * -(-max(length, count) // WARP))
    return Launch(-(-(channels // 2) // rows), (across, THREADS // across), rows, rows * row_bytes)


@dataclass(frozen=True)
class Traffic:
    """Bytes of global memory of one call at batch 1."""

    minimum: int
    """Features once, regions once, output once."""
    features: int
    regions: int
    output: int

    @property
    def ratio(self) -> float:
        """All that the kernel moves over the minimum."""
        return (self.features + self.regions + self.output) / self.minimum


def traffic_of(channels: int, length: int, count: int, precision: str) -> Traffic:
    """What the kernel reads and writes: every feature and output once, all regions once per block."""
    launch = launch_for(channels, length, count, precision)
    item, region = ITEM_BYTES[precision], 4 * 4
    features, output = channels * length * item, channels * count * item
    return Traffic(features + count * region + output, features, 2 * launch.tiles * count * region, output)
