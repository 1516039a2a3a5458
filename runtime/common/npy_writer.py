"""Write a feature file step by step; its length is written last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import atomic_path

DTYPE = "<f4"


@contextmanager
def feature_writer(path: Path, width: int) -> Iterator[Callable[[NDArray[np.float32]], None]]:
    """Yield a function that appends steps [n,width] to an .npy float32 [T,width], which appears if the block succeeds.

    Only the steps of the current call are in memory.

    Raises:
        OSError: the file cannot be written.
    """
    steps = 0
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        start = _write_header(file, 0, width)

        def append(features: NDArray[np.float32]) -> None:
            nonlocal steps
            file.write(np.ascontiguousarray(features, DTYPE).tobytes())
            steps += len(features)

        yield append
        file.seek(0)
        if _write_header(file, steps, width) != start:  # numpy leaves room for the first axis to grow
            raise OSError(
                f"{path}: numpy {np.__version__} wrote a header of another length; expected room for it to grow"
            )


def _write_header(file: IO[bytes], steps: int, width: int) -> int:
    """Write the header of an array [steps,width] at the start of the file and return its length in bytes."""
    header = {"descr": DTYPE, "fortran_order": False, "shape": (steps, width)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.tell()
