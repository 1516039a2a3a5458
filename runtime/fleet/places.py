"""Make sure that the machines of a job see one folder."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime.common.files import require_writable_folder
from runtime.common.temporaries import sweep, temporary_file
from runtime.errors import InputError


@contextmanager
def shared_folder(folder: Path, advice: str = "choose another folder", *, below: Sequence[str] = ()) -> Iterator[str]:
    """Put a mark into the folder of the results for the block, by which actors know it; yield the mark's path.

    At the end what killed actors left there, and in the folders `below` it, as in "rgb" or "day1", is removed.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    require_writable_folder(folder, advice)
    try:
        with temporary_file(folder.resolve()) as mark:
            yield str(mark)
    finally:
        for place in (folder, *(folder / name for name in below)):
            sweep(place)


def require_shared(mark: str) -> None:
    """Raise an InputError, in an actor, unless its machine sees the folder that the job writes to."""
    if not Path(mark).exists():
        raise InputError(
            f"{Path(mark).parent}: {socket.gethostname()} does not see this folder of the machine that started the "
            "job; write to a folder that all machines share"
        )
