"""Compute how the boundary pooling kernel is launched for given shapes, and its global-memory traffic.

`kernel.cu` explains the layout of its memory; plugin, tests and documentation take the numbers from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime.errors import ExportError

Dtype = Literal["fp32", "fp16", "bf16"]
"""Type of features and output, and suffix of the kernel's name."""

WORD_BYTES: dict[Dtype, int] = {"fp32": 4, "fp16": 2, "bf16": 2}

THREADS = 256
"""Threads of a block; at least the number of regions in both published networks, so a block reads them in one pass."""

TILE_BYTES = 16 * THREADS
"""Bytes of features that a block stages: one 16-byte load per thread."""

SHARED_BYTES = 48 * 1024
"""Shared memory in bytes that a kernel may have without an opt-in by its caller; TensorRT does not opt in."""

REGION_BYTES = 16
"""Bytes of a region: four float32."""


@dataclass(frozen=True)
class Launch:
    """Holds the geometry of one launch; the grid is [channels / rows, batch]."""

    rows: int
    """Number of channels of one half that a block processes."""
    tables: int
    """Number of doubling tables in shared memory; the last holds maxima of 2^(tables−1) cells."""
    shared_bytes: int
    """Dynamic shared memory of a block, in bytes."""


def choose_launch(channels: int, cells: int, dtype: Dtype) -> Launch:
    """Choose the geometry for features [B,channels,cells].

    Raises:
        ExportError: channels odd or not positive, no cell, or a row that does not fit shared memory.
    """
    if channels <= 0 or channels % 2 or cells <= 0:
        raise ExportError(f"features [B,{channels},{cells}]: expected an even number of channels and at least one cell")
    word, available = WORD_BYTES[dtype], SHARED_BYTES - 4 * THREADS
    if cells * word > available:
        raise ExportError(
            f"features of {cells} cells in {dtype}: the pooling plugin takes up to {available // word}; "
            "build without the plugin"
        )
    wanted = max(1, TILE_BYTES // (cells * word))
    half = channels // 2
    rows = max(divisor for divisor in range(1, min(wanted, half) + 1) if half % divisor == 0)
    tile = rows * cells * word
    tables = min(cells.bit_length(), available // tile)
    return Launch(rows, tables, 4 * THREADS + tables * tile)


@dataclass(frozen=True)
class Traffic:
    """Counts the bytes of one pooling between global memory and the blocks."""

    moved: int
    """Bytes of features and output once, and of the regions once for every block of a batch element."""
    minimum: int
    """Bytes of features, regions and output once each. Repeated reads of regions come from the L2 cache, so this is
    also the traffic to device memory."""


def compute_traffic(batch: int, channels: int, cells: int, regions: int, dtype: Dtype) -> Traffic:
    """Compute the traffic of pooling features [batch,channels,cells] in regions [batch,regions,4]."""
    blocks = channels // choose_launch(channels, cells, dtype).rows
    dense = channels * (cells + regions) * WORD_BYTES[dtype]
    return Traffic(batch * (dense + blocks * regions * REGION_BYTES), batch * (dense + regions * REGION_BYTES))
