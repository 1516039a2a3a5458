"""Keep records, results and failures in a folder of an object store, through a folder of this machine.

A store has no rename, no append and no lock, and reading an object costs a request. So:

- Files are written here as everywhere, and put into the store when the record of their video is saved: the files first,
  the record last. Each object is put whole, so a kill leaves no half of one; a video without a record is done again.
- A result file is known by what the store says of it, its tag or time and its size, which the record keeps; it is not
  read again.
- A failure is an object of its own, which nobody else writes; `failures.jsonl` is made from them at the end.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.common.files import is_file, write_text
from runtime.common.object_store import ObjectStore
from runtime.common.temporaries import scratch_folder
from runtime.common.text import public_url
from runtime.jobs.failures import Failure, FailureFile
from runtime.jobs.plan import VideoJob
from runtime.jobs.records import OWN_FOLDER, Record, RecordFolder

ADVICE = "choose another out"
"""What to do about a place that cannot be written to."""
FAILED = f"{OWN_FOLDER}/failures"
"""Folder of the objects of the videos that failed."""


@dataclass(frozen=True)
class StoreFolder:
    """Names a folder of an object store; can be sent to other processes."""

    url: str
    """Address that fsspec takes, such as s3://bucket/folder."""

    def __str__(self) -> str:
        return public_url(self.url)


class StoreRecords(RecordFolder):
    """Keeps records and result files in an object store; what was last known of them is in a folder here."""

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        """Take the store and an empty folder of this machine, which is this object's alone."""
        super().__init__(folder)
        self.store = store
        self._states: dict[str, str] = {}
        """States of the objects that are there, by name, as far as they are known."""
        self._fetched: dict[str, str] = {}
        """States of the records that are in the folder here, by name."""

    @property
    def place(self) -> str:
        """Where the records are, as it is named to people."""
        return self.store.address_of(OWN_FOLDER)

    def name_of(self, path: Path) -> str:
        """Return the name in the store of a file of the folder here."""
        return path.relative_to(self.out).as_posix()

    def refresh(self) -> bool:
        """Take over what the store has now, and return whether any record is another one, new or gone.

        Raises:
            OSError: the store cannot be read.
        """
        self._states = self.store.list()
        beginning = f"{self.name_of(self._folder)}/"
        records = {name: state for name, state in self._states.items() if name.startswith(beginning)}
        changed = {name: self.out / name for name, state in records.items() if self._fetched.get(name) != state}
        gone = self._fetched.keys() - records.keys()
        self.store.fetch_all(changed)
        for name in gone:
            (self.out / name).unlink(missing_ok=True)
        self._fetched = records
        return bool(changed or gone)

    def refresh_one(self, name: str) -> None:
        """Take over what the store has now of one video (OSError: the store cannot be read)."""
        path = self.path_of(name)
        self.store.fetch(self.name_of(path), path)
        record = self.load(name)
        self._states = {} if record is None else {file: self.store.state(file) for file in record.files}

    def clear(self) -> None:
        """Remove what is in the folder here, once it is in the store; all is as if nothing had been looked at."""
        for path in self.out.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        self._states, self._fetched = {}, {}

    def names_in(self, folder: str) -> dict[str, str]:
        """Return the states of the objects below a folder of the store, by name, as they were at the last look."""
        return {name: state for name, state in self._states.items() if name.startswith(f"{folder}/")}

    def save(self, record: Record) -> None:
        """Put those files of a video that were written here into the store, then the record (OSError: not possible)."""
        files = {}
        for name, file in record.files.items():
            written = is_file(self.out / name)
            files[name] = replace(file, state=self.put(self.out / name)) if written else file
        record = replace(record, files=files)
        super().save(record)
        path = self.path_of(record.name)
        self.store.put(path, self.name_of(path))

    def put(self, path: Path) -> str:
        """Put a file of the folder here into the store, and return its state there (OSError: not possible)."""
        name = self.name_of(path)
        self.store.put(path, name)
        self._states[name] = self.store.state(name)
        return self._states[name]

    def remove(self, name: str) -> None:
        """Remove the record of a video, if there is one (OSError: not possible)."""
        self.store.remove(self.name_of(self.path_of(name)))
        super().remove(name)

    def name_written(self, written: str) -> str:
        """Return the name in the store of a file of `Finished.written`, which are addresses."""
        return written.removeprefix(self.store.address_of(""))

    def holds_file(self, name: str) -> bool:
        """Return whether a file was there at the last look, whatever it holds."""
        return bool(self._states.get(name))

    def remove_file(self, name: str) -> None:
        """Remove a result file, if it is there (OSError: not possible)."""
        self.store.remove(name)
        self._states.pop(name, None)

    def is_own_file(self, record: Record, name: str) -> bool:
        """Return whether a file of a record was there at the last look as it was put."""
        known = self._states.get(name, "")
        return bool(known) and known == record.files[name].state


@contextmanager
def open_store_records(target: StoreFolder, advice: str) -> Iterator[StoreRecords]:
    """Yield the records of a folder of an object store, through a new folder of this machine; nothing is fetched yet.

    Args:
        target: the folder.
        advice: what to do if it cannot be written to.

    Raises:
        InputError: the store cannot be opened, or not be written to from here.
        MissingDependencyError: fsspec is not installed.
        OSError: the disk of this machine is full.
    """
    store = ObjectStore(target.url)
    store.require_writable(advice)
    with scratch_folder() as folder:
        yield StoreRecords(store, folder)


class StoreFailures(FailureFile):
    """Keeps each video that failed as an object of its own, and makes `failures.jsonl` from them."""

    def __init__(self, records: StoreRecords, verb: str) -> None:
        """Take the records, whose folder here the file lies in."""
        super().__init__(records.out, verb)
        self._records = records

    def names(self) -> set[str]:
        """Return the names of the videos that failed (OSError: the store cannot be read)."""
        self.refresh()
        return super().names()

    def refresh(self) -> None:
        """Make the file here from the objects that were there at the last look (OSError: they cannot be read)."""
        paths = {name: self._records.out / name for name in sorted(self._records.names_in(FAILED))}
        self._records.store.fetch_all(paths)
        lines = {}
        for path in paths.values():
            with suppress(FileNotFoundError):  # settled meanwhile
                lines[path.stem] = path.read_text(encoding="utf-8").strip()
                path.unlink()
        self._write(lines)

    def add(self, job: VideoJob, failure: Failure) -> None:
        """Keep why a video failed, in place of what was kept of its name (InputError, OSError: not possible)."""
        super().add(job, failure)
        path = self._path_of(job.name)
        write_text(path, f"{self._read()[job.name]}\n")
        self._records.store.put(path, self._records.name_of(path))
        path.unlink()

    def settle(self, name: str) -> None:
        """Forget the failure of a video that has succeeded (InputError, OSError: not possible)."""
        super().settle(name)
        self._records.store.remove(self._records.name_of(self._path_of(name)))

    def _path_of(self, name: str) -> Path:
        return self._records.out / FAILED / self._records.path_of(name).name
