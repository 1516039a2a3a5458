"""Write what all videos of a folder share, from their records: tables of all detections, and the index of the pages.

They hold what is there: every video with a record that the job's model and options would give, whichever run or shard
made it. So they are the same after a restart, and whole when the last shard is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from runtime.common.csv_text import csv_line
from runtime.common.files import atomic_path, file_sha256, is_file, read_json, write_json
from runtime.common.locks import lock_folder
from runtime.common.natural_order import natural_key
from runtime.errors import InputError
from runtime.jobs.plan import VideoJob
from runtime.jobs.recipe import Recipe
from runtime.jobs.records import OWN_FOLDER, Record, RecordFolder
from runtime.jobs.result_files import ResultFiles
from runtime.jobs.row_tables import ROW_TABLES, Add, row_writer
from runtime.jobs.settings import JobSettings
from runtime.jobs.work import Finished, name_found
from runtime.report.folder import INDEX_NAME, ReportFolder
from runtime.results.detections import BOM, COLUMNS, TABLE, Detections, table_rows
from runtime.results.facts import VideoFacts

BESIDE = {"csv": f"{TABLE}.csv", "html": f"{INDEX_NAME}.html"}
"""Names of the shared files that go with a format of the videos' files, by that format."""
SHARED_NAMES = {**BESIDE, **ROW_TABLES}
"""Names of all shared files by their formats."""
WRITTEN = "shared.json"
"""File in the job's own folder that has the SHA-256 of the shared files that were written."""
KEPT = (*SHARED_NAMES.values(), f"{OWN_FOLDER}/{WRITTEN}")
"""Names of all files that `FolderTables` reads and writes."""


@dataclass(frozen=True)
class Entry:
    """Holds what the shared files have of a video."""

    found: Detections
    """Detections, best first, with facts; also those below the score that is shown."""
    seconds: float
    page: str = ""
    """Name of its page in the folder; empty: it has none."""


@dataclass
class Tables:
    """Holds which shared files were written, and how many videos they have."""

    table: Path | None = None
    videos: int = 0
    """Number of videos in the table."""
    index: Path | None = None
    pages: int = 0
    """Number of pages in the index."""
    rows: list[Path] = field(default_factory=list)
    """Tables for data tools, see `runtime.jobs.row_tables`."""
    others: int = 0
    """Number of videos in the tables that are not in the list of the job."""
    removed: list[str] = field(default_factory=list)
    """Names of those that were removed, since no video is left that they could hold."""
    left_out: int = 0
    """Number of videos in the folder that are in neither, since their records are of another model or other options."""
    renamed: list[str] = field(default_factory=list)
    """Names in the folder that are in neither, since the same video has another name in the list. Where neither is
    written: those of files of a tree without their folders, as older releases gave them."""


def shared_paths(folder: Path, formats: Iterable[str]) -> list[Path]:
    """Return the paths of the shared files that go with some formats of the videos' files."""
    return [folder / BESIDE[suffix] for suffix in formats if suffix in BESIDE]


def write_tables(entries: Iterable[Entry], files: ResultFiles, formats: Sequence[str]) -> Tables:
    """Write the shared files that go with some formats, if there is anything for them to hold.

    Args:
        entries: the videos, in the order of the table; they are taken one after another.
        files: writer of the videos' files, whose folder and options count.
        formats: "csv" for the table, "html" for the index, and those of `ROW_TABLES`, which are written in any case.

    Raises:
        OSError: a file cannot be written.
    """
    tables, options, folder = Tables(), files.options, files.folder
    report = ReportFolder(folder, files.report_options)

    def counted(add: Add) -> Iterator[Detections]:
        for entry in entries:
            tables.videos += 1
            if entry.page:
                report.enter(entry.page, entry.found.above(options.lowest), entry.seconds or None)
            shown = entry.found.above(options.score)
            add(shown)
            yield shown

    with row_writer(folder, formats) as add:
        _write_csv(counted(add), tables, files, formats)
    tables.rows = [folder / name for suffix, name in ROW_TABLES.items() if suffix in formats]
    tables.pages = report.count
    if report.count and "html" in formats:
        tables.index = report.write_index()
    return tables


def _write_csv(videos: Iterator[Detections], tables: Tables, files: ResultFiles, formats: Sequence[str]) -> None:
    """Write the table of all videos if it is wanted and there are any; in any case take them all."""
    first = next(videos, None)
    if first is not None and "csv" in formats:
        tables.table = files.folder / SHARED_NAMES["csv"]
        with (
            atomic_path(tables.table) as unfinished,
            unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            file.write(BOM if files.options.bom else "")
            file.write(csv_line(COLUMNS))
            for video in chain([first], videos):
                file.writelines(map(csv_line, table_rows(video)))
            file.flush()
    for _ in videos:  # the others need them all
        pass


class FolderTables:
    """Keeps the shared files of a folder true to the records in it, also those that a run does not ask for."""

    def __init__(
        self, records: RecordFolder, jobs: Sequence[VideoJob], settings: JobSettings, recipe: Recipe, files: ResultFiles
    ) -> None:
        """Take a job.

        Args:
            records: records of the folder.
            jobs: all videos of the list, of all shards, in order.
            settings: settings of the job.
            recipe: its recipe.
            files: writer of the videos' files.
        """
        self._records, self._jobs, self._settings, self._recipe = records, jobs, settings, recipe
        self._files = files
        self._left_out = self._others = 0
        self._renamed: list[str] = []

    def write(self, unrecorded: Mapping[str, Finished], verb: str = "afsd detect") -> Tables:
        """Write the shared files from the records that are there now, holding the folder's lock.

        Args:
            unrecorded: videos that were done and have no record, by name.
            verb: name of the command, for others that wait for the lock.

        Raises:
            InputError: another process has held the lock for too long.
            OSError: a file cannot be written.
        """
        with lock_folder(self._records.own, verb):
            known = self._written_before()
            self._left_out, self._others, self._renamed = 0, 0, []
            several, options = self._records.is_shared(self._jobs), self._settings.files
            asked = {*options.tables, *(suffix for suffix in BESIDE if several and suffix in options.formats)}
            formats = [suffix for suffix in SHARED_NAMES if suffix in asked or self._is_ours(suffix, known)]
            if not formats:
                return Tables(renamed=self._older_names())
            tables = write_tables(self._entries(unrecorded), self._files, formats)
            tables.left_out, tables.others, tables.renamed = self._left_out, self._others, self._renamed
            now = dict(known)
            written = [path for path in (tables.table, tables.index, *tables.rows) if path is not None]
            for suffix, name in SHARED_NAMES.items():
                if self._files.folder / name in written:
                    now[name] = file_sha256(self._files.folder / name)
                elif suffix in formats and self._is_ours(suffix, known):  # nothing is left that it could hold
                    (self._files.folder / name).unlink(missing_ok=True)
                    now.pop(name, None)
                    tables.removed.append(name)
            if now != known:
                write_json(self._records.own / WRITTEN, dict(sorted(now.items())))
            return tables

    def _written_before(self) -> dict[str, str]:
        """Return the SHA-256 of the shared files that were written into the folder, by name."""
        try:
            content = read_json(self._records.own / WRITTEN, "list of shared files", InputError)
        except InputError:
            return {}
        return {str(name): str(digest) for name, digest in content.items()} if isinstance(content, dict) else {}

    def _is_ours(self, suffix: str, known: Mapping[str, str]) -> bool:
        """Return whether a shared file is there as a job wrote it."""
        path = self._files.folder / SHARED_NAMES[suffix]
        return path.name in known and is_file(path) and file_sha256(path) == known[path.name]

    def _entries(self, unrecorded: Mapping[str, Finished]) -> Iterator[Entry]:
        """Yield the videos of the list in its order, then others of the folder by name."""
        mine = {self._records.path_of(job.name): job for job in self._jobs}
        listed: set[tuple[str, str]] = set()
        for path, job in mine.items():
            finished = unrecorded.get(job.name)
            if finished is not None:
                yield _entry_of(finished, self._records.name_written)
            elif (record := self._records.read(path)) is not None:
                if record.recipe.covers(self._recipe):
                    listed.add((job.path, record.state.digest))
                yield from self._entry(record, job.path)
        others = {path: self._records.name_in(path) for path in self._records.paths() if path not in mine}
        for path in sorted(others, key=lambda path: natural_key(others[path])):
            if (record := self._records.read(path)) is None:
                continue
            place = (record.found.facts or VideoFacts()).path
            if place and (place, record.state.digest) in listed:
                self._renamed.append(record.name)
            else:
                for entry in self._entry(record):
                    self._others += 1
                    yield entry

    def _older_names(self) -> list[str]:
        """Return the names in the folder that are those of files of a tree alone: cam1, cam1-2 of day1/cam1.

        Only records that are called so are read.
        """
        places = {job.path: job for job in self._jobs if "/" in job.name}
        stems = {job.name.rpartition("/")[2] for job in places.values()}
        mine = {self._records.path_of(job.name) for job in self._jobs}
        older = []
        for path in self._records.paths() if places else ():
            if path in mine or not stems & {path.stem, path.stem.rpartition("-")[0]}:
                continue
            record = self._records.read(path)
            job = None if record is None else places.get((record.found.facts or VideoFacts()).path)
            now = None if job is None else self._records.load(job.name)
            if record is not None and now is not None and now.state.digest == record.state.digest:
                older.append(record.name)
        return sorted(older, key=natural_key)

    def _entry(self, record: Record, path_now: str = "") -> Iterator[Entry]:
        """Yield the video of a record if this job would give it; `path_now` is where the video is, if known."""
        if not record.recipe.covers(self._recipe):
            self._left_out += 1
            return
        found = name_found(record.found, record.name, self._settings, path_now)
        yield Entry(found, record.seconds, self._page_of(record))

    def _page_of(self, record: Record) -> str:
        """Return the name of a video's page that still holds; empty: there is none."""
        options = self._settings.files
        for name, file in record.files.items():
            if name.endswith(".html") and options.still_holds("html", file.holds) and self._records.holds_file(name):
                return name
        return ""


def entries_of(jobs: Sequence[VideoJob], finished: Mapping[str, Finished], folder: Path) -> Iterator[Entry]:
    """Yield finished videos in the order of their list, whose files lie in a folder without records."""
    for job in jobs:
        if (one := finished.get(job.name)) is not None:
            yield _entry_of(one, lambda written: Path(written).relative_to(folder).as_posix())


def _entry_of(finished: Finished, name_written: Callable[[str], str]) -> Entry:
    """Return the entry of a video that has just been done; the function names a file that was written in its folder."""
    pages = (name_written(written) for written in finished.written if written.endswith(".html"))
    return Entry(finished.found, finished.seconds, next(pages, ""))
