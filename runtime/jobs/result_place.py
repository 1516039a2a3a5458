"""Open the place of a job's results: a folder that this process sees, or one of an object store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from runtime.common.files import PathLike, file_sha256, is_file, require_writable_folder
from runtime.common.text import public_url
from runtime.errors import InputError
from runtime.jobs.failures import FailureFile
from runtime.jobs.plan import VideoJob
from runtime.jobs.records import RecordFolder
from runtime.jobs.result_files import ResultFiles
from runtime.jobs.store_records import ADVICE, StoreFailures, StoreFolder, StoreRecords, open_store_records
from runtime.video.sources import is_remote, is_url, local_path

T = TypeVar("T")

ROUNDS = 5
"""Times that what is of all videos is written into a store, while other jobs finish videos there."""


def place_of(out: PathLike | StoreFolder) -> Path | StoreFolder:
    """Return the place that a path or a URL names.

    Raises:
        InputError: a URL of a server or stream, into which nothing can be put.
    """
    if isinstance(out, StoreFolder):
        return out
    text = os.fspath(out)
    if not is_url(text):
        return Path(text)
    if is_remote(text):
        return StoreFolder(text)
    path = local_path(text)
    if path is None:
        raise InputError(
            f"{public_url(text)}: got the address of a server, expected a folder, or one of an object store such as "
            "s3://bucket/found"
        )
    return path


class ResultPlace:
    """Is a folder of results that this process sees."""

    def __init__(self, target: Path | StoreFolder, records: RecordFolder, failures: FailureFile) -> None:
        """Take what the place consists of; `open_place` makes it."""
        self.target, self.records, self.failures = target, records, failures

    @property
    def folder(self) -> Path:
        """Folder in which what is of all videos is read and written."""
        return self.records.out

    @property
    def is_store(self) -> bool:
        """Whether the results go on to an object store."""
        return False

    def name_of(self, path: Path) -> str:
        """Return a file of the folder as it is named to people."""
        return str(path)

    def naming(self) -> AbstractContextManager[None]:
        """Have errors of the block name files as `name_of` does."""
        return nullcontext()

    def require_free(self, files: ResultFiles, jobs: Sequence[VideoJob], shared: Sequence[Path]) -> None:
        """Check, before any work, that no file of others is where results will be; see `ResultFiles.require_free`."""
        files.require_free(jobs, shared, self.records.files_of)

    def write_shared(self, write: Callable[[], T]) -> T:
        """Call what writes the files of all videos from the records, and return what it returns."""
        return write()


class StorePlace(ResultPlace):
    """Is a folder of an object store, of which the records and the files of all videos are kept in a folder here."""

    def __init__(
        self, target: StoreFolder, records: StoreRecords, failures: StoreFailures, shared: Sequence[str]
    ) -> None:
        """Take what is there now.

        Args:
            target: the folder of the store.
            records: its records, not yet looked at.
            failures: its failures.
            shared: names of the files of all videos.

        Raises:
            OSError: it cannot be read.
        """
        super().__init__(target, records, failures)
        self._store_records, self._store_failures = records, failures
        self._shared = (*shared, failures.path.name)
        records.refresh()
        there = [name for name in self._shared if records.holds_file(name)]
        records.store.fetch_all({name: self.folder / name for name in there})
        self._known = {name: self._digest(name) for name in there}

    @property
    def is_store(self) -> bool:
        """Whether the results go on to an object store."""
        return True

    def name_of(self, path: Path) -> str:
        """Return a file of the folder as it is named to people: by its address in the store."""
        return self._store_records.store.address_of(self._store_records.name_of(path))

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Have errors of the block name files by their addresses in the store."""
        try:
            yield
        except InputError as error:
            raise InputError(str(error).replace(str(self.folder), self._store_records.store.label)) from None

    def require_free(self, files: ResultFiles, jobs: Sequence[VideoJob], shared: Sequence[Path]) -> None:
        """Check, before any work, that no file of others is where results will be, having fetched what is there."""
        records = self._store_records
        others = {}
        for job in jobs:
            ours = records.files_of(job.name)
            for suffix in files.options.formats:
                try:
                    path = files.path_of(job, suffix)
                except InputError:  # a name that no file can have: said when it is the video's turn
                    continue
                if records.holds_file(name := records.name_of(path)) and name not in ours:
                    others[name] = path
        records.store.fetch_all(others)
        with self.naming():
            super().require_free(files, jobs, shared)
        for path in others.values():
            path.unlink(missing_ok=True)

    def write_shared(self, write: Callable[[], T]) -> T:
        """Call what writes the files of all videos, and put them into the store; again if records came meanwhile.

        No lock is held, so that several jobs may write in turn. Each looks, after it has written, whether the records
        are still those that it has written from. So whichever is the last has written from all of them.
        """
        self._store_records.refresh()
        for _ in range(ROUNDS):
            self._store_failures.refresh()
            with self.naming():
                written = write()
            self._deliver()
            if not self._store_records.refresh():
                break
        return written

    def _deliver(self) -> None:
        """Put those files of all videos that have changed here into the store, and remove there those that are gone."""
        for name in self._shared:
            digest = self._digest(name)
            if digest == self._known.get(name, ""):
                continue
            if digest:
                self._store_records.put(self.folder / name)
            else:
                self._store_records.remove_file(name)
            self._known[name] = digest

    def _digest(self, name: str) -> str:
        path = self.folder / name
        return file_sha256(path) if is_file(path) else ""


@contextmanager
def open_place(
    target: Path | StoreFolder, shared: Sequence[str], verb: str = "afsd detect", advice: str = ADVICE
) -> Iterator[ResultPlace]:
    """Yield the place of a job's results, after a look whether it can be written to.

    Args:
        target: the folder.
        shared: names of the files of all videos that may be in it.
        verb: name of the command, for others that wait for the lock of a folder.
        advice: what to do if it cannot be written to.

    Raises:
        InputError: it cannot be written to.
        MissingDependencyError: it is a store's, and fsspec is not installed.
        OSError: it cannot be read.
    """
    if isinstance(target, Path):
        require_writable_folder(target, advice)
        yield ResultPlace(target, RecordFolder(target), FailureFile(target, verb))
        return
    with open_store_records(target, advice) as records:
        yield StorePlace(target, records, StoreFailures(records, verb), shared)
