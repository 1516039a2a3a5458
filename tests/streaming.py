"""What tests of streams share: an input in pieces, and how much memory is held while it is taken."""

from __future__ import annotations

import tracemalloc
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray


def cut(frames: NDArray[np.uint8], seed: int) -> Iterator[NDArray[np.uint8]]:
    """The same frames in chunks of random length, empty ones and single frames among them."""
    rng = np.random.default_rng(seed)
    start = 0
    while start < len(frames):
        size = int(rng.integers(0, 12))
        yield frames[start] if size == 1 else frames[start : start + size]
        start += size


def peak_memory(items: Iterable[object]) -> int:
    """Most bytes allocated while all of `items` are taken, none of them kept."""
    tracemalloc.start()
    deque(items, maxlen=0)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return used
