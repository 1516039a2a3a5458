"""Write arrays that grow with their video to .npy files; the length is written last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import atomic_path


@contextmanager
def grow_npy(path: Path, row: tuple[int, ...], dtype: str) -> Iterator[Callable[[NDArray[Any]], int]]:
    """Yield a function that appends rows [n,*row] and returns how many there are; nothing but those rows is in memory.

    The file, an array [T,*row] of the type, appears under its name if the block ends well.

    Args:
        path: the .npy file.
        row: shape of one row.
        dtype: with its byte order, as "<f4" or "|u1".

    Raises:
        OSError: the file cannot be written.
    """
    count = 0
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        start = _write_header(file, (0, *row), dtype)

        def append(rows: NDArray[Any]) -> int:
            nonlocal count
            file.write(np.ascontiguousarray(rows, dtype).tobytes())
            count += len(rows)
            return count

        yield append
        file.seek(0)
        if _write_header(file, (count, *row), dtype) != start:  # numpy leaves room for the first axis to grow
            raise OSError(
                f"{path}: numpy {np.__version__} wrote a header of another length; expected room for it to grow"
            )


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: str) -> int:
    """Write the header of an array at the start of the file and return its length in bytes."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.tell()
