"""Make sure that the machines of a job see one folder."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime.common.files import require_writable_folder
from runtime.common.temporaries import sweep, temporary_file
from runtime.errors import InputError
from runtime.features.video_features import Features
from runtime.video.sources import STDIN, is_url


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


def first_relative(sources: Iterable[object]) -> str:
    """Return the first path that counts from the working folder, of videos, features and folders; empty: there is none.

    Args:
        sources: paths, URLs and `Features`; anything else has no path.
    """
    for source in sources:
        paths = source.paths if isinstance(source, Features) else (source,)
        for path in paths:
            if isinstance(path, (str, Path)) and not is_url(path) and path != STDIN and not Path(path).is_absolute():
                return str(path)
    return ""
