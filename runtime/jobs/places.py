"""Make sure, before any work, that the files of all videos of a list have places of their own in a folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from runtime.common.files import exists, is_folder
from runtime.common.temporaries import scratch_folder, sweep
from runtime.common.text import quote
from runtime.errors import InputError
from runtime.jobs.plan import SHARED, VideoJob, folders_of
from runtime.jobs.row_tables import ROW_TABLES
from runtime.results.json_lines import FAILURES

SHARED_FILES = (*(f"{name}.{suffix}" for name, suffix in SHARED.items()), *ROW_TABLES.values(), FAILURES)
"""Names of files in the folder that are no video's."""


def prepare_places(folder: Path, jobs: Sequence[VideoJob], formats: Iterable[str]) -> None:
    """Check the names of all videos of a list against one another, and sweep the folders in which their files are.

    What dead processes left in these folders is removed, as `require_writable_folder` does in the folder itself.

    Args:
        folder: folder of the results, which is there.
        jobs: all videos of the list.
        formats: formats of the files.

    Raises:
        InputError: two videos would have one file, since the file system takes some letters for the same, or a file,
            of another video or of others, is where a folder is to be.
        OSError: the folder cannot be written to.
    """
    _require_files_beside_folders(folder, jobs, list(formats))
    _require_distinct(folder, jobs)
    folders = [PurePosixPath(name) for name in folders_of(job.name for job in jobs)]
    for below in sorted({*folders, *(above for one in folders for above in one.parents[:-1])}):
        place = folder / below
        if exists(place) and not is_folder(place):
            raise InputError(
                f"{place}: a file, where a folder is needed for results; remove it, or choose another place for them"
            )
        sweep(place)


def _require_files_beside_folders(folder: Path, jobs: Sequence[VideoJob], formats: Sequence[str]) -> None:
    """Check that no file has the name of a folder: of a video cam.mp4 and a folder cam.json both are cam.json."""
    below: dict[str, VideoJob] = {}
    for job in jobs:
        parts = job.name.split("/")
        for depth in range(1, len(parts)):
            below.setdefault("/".join(parts[:depth]), job)
    if not below:
        return
    named = dict.fromkeys(SHARED_FILES, "what is of all videos")
    named |= {job.file_name(suffix): job.label for job in jobs for suffix in formats}
    for name in below.keys() & named.keys():
        raise InputError(
            f"{folder / name}: would be the file of {named[name]} and the folder of {below[name].label}; rename one"
        )


def _require_distinct(folder: Path, jobs: Sequence[VideoJob]) -> None:
    """Check that the file system tells the names of all videos apart: many take A for a, or both forms of an accent."""
    alike: dict[str, VideoJob] = {}
    for job in jobs:
        other = alike.setdefault(normalize("NFC", job.name).casefold(), job)
        if other.name != job.name and _are_one(folder, other.name, job.name):
            raise InputError(
                f"{other.label} and {job.label}: {quote(other.name)} and {quote(job.name)} are one file's name in "
                f"{folder}; rename one, or choose another place for the results"
            )


def _are_one(folder: Path, name: str, other: str) -> bool:
    """Return whether two names that differ are one to the file system of a folder."""
    parts = zip_longest(name.split("/"), other.split("/"), fillvalue="")
    one, another = next((part, beside) for part, beside in parts if part != beside)
    with scratch_folder(folder) as place:
        try:
            (place / one).touch()
        except (OSError, ValueError):  # a name that no file can have
            return False
        return exists(place / another)
