"""Keep a record of every finished video beside its results, so that a job that is started again goes on.

A record lies in DIR/.afsd/records and is written after the video's files. It holds all that the tables of the folder
need, and no time at which, or in which, anything was done: an interrupted job leaves the same bytes as another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import file_sha256, is_file, read_json, write_text
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.names import path_in, require_safe_name
from runtime.common.ranges import Length, Number, check_ranges
from runtime.common.temporaries import NAME, sweep
from runtime.common.text import quote
from runtime.errors import AfsdError, InputError
from runtime.jobs.plan import VideoJob
from runtime.jobs.recipe import Recipe
from runtime.jobs.settings import FileOptions
from runtime.jobs.video_state import VideoState, look_at, state_of
from runtime.results.detections import Detections
from runtime.results.facts import VideoFacts

OWN_FOLDER = ".afsd"
"""Folder in the folder of the results in which a job keeps what is its own."""
FORMAT = 1
"""Version of the records; a record of another one is as none."""
LARGEST = 1 << 28
"""Most bytes of a record; a day of video with a detection a second has a hundredth of it."""
LONGEST_NAME = 200
"""Most bytes of a name that is a record's file name; longer ones are cut, and a digest tells them apart."""
LONGEST_BEGINNING = 100
"""Most bytes of the beginning of a name before its digest."""

Standing = Literal["new", "files", "done"]
"""State of a video in a folder. "new": it has to be read; "files": its detections are known, but files of it are
missing, changed or wanted otherwise; "done": nothing is to be done."""


@dataclass(frozen=True)
class ResultFile:
    """Holds what is known of a file of results."""

    sha256: str
    """SHA-256 of its bytes."""
    holds: str
    """What it holds, see `FileOptions.describe`."""
    state: str = ""
    """In an object store what the store says of it (`ObjectStore.state`); empty on a disk, where `sha256` is asked."""

    def to_json(self) -> dict[str, str]:
        """Return the file as a record has it; on a disk without a state."""
        return {name: value for name, value in to_mapping(self).items() if value or name != "state"}


@dataclass(frozen=True)
class Record:
    """Holds what is known of a finished video."""

    name: str
    """Name of the video in all results."""
    state: VideoState
    """The video as it was."""
    recipe: Recipe
    """What the detections depend on beside the video."""
    files: Mapping[str, ResultFile]
    """Result files by their names in the folder."""
    found: Detections
    """Detections of score `recipe.lowest` or more, best first, with their facts."""
    seconds: Length
    """Length of the video in seconds as it was sampled; see `Timing.video_seconds`."""
    frames: Number = 0
    """Number of sampled frames."""
    windows: Number = 0
    """Number of windows."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def to_json(self) -> str:
        """Return the record as JSON; the same record gives the same bytes."""
        found = self.found
        content = {
            "afsd record": FORMAT,
            "video": self.name,
            "state": to_mapping(self.state),
            "recipe": to_mapping(self.recipe),
            "files": {name: file.to_json() for name, file in sorted(self.files.items())},
            "seconds": self.seconds,
            "frames": self.frames,
            "windows": self.windows,
            "facts": to_mapping(found.facts or VideoFacts()),
            "classes": list(found.classes),
            "labels": found.labels.tolist(),
            "scores": found.scores.tolist(),
            "segments": found.segments.tolist(),
        }
        return json.dumps(content, ensure_ascii=False) + "\n"


def read_record(path: Path) -> Record | None:
    """Read a record; None if there is none, or one that is damaged or of another release's form."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        return _parse(read_json(path, "record of a video", InputError))
    except (AfsdError, StructureError, OSError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _parse(content: Any) -> Record:
    """Return the record that JSON holds; whatever is wrong with it raises an error, since others read the folder too.

    A record says which files are removed when its video changes, so its names may not lead out of the folder.
    """
    if content["afsd record"] != FORMAT:
        raise InputError(f"got a record of form {quote(content['afsd record'])}, expected {FORMAT}")
    classes, name = content["classes"], content["video"]
    if not isinstance(classes, list) or not all(isinstance(label, str) for label in [name, *classes]):
        raise InputError("got a name or a class that is no text")
    found = Detections(
        _numbers(content["segments"]) if content["segments"] else np.empty((0, 2)),
        _whole_numbers(content["labels"]),
        _numbers(content["scores"]),
        tuple(classes),
        name,
        from_mapping(VideoFacts, content["facts"]),
    )
    files = {name: from_mapping(ResultFile, file) for name, file in content["files"].items()}
    for file in files:
        require_safe_name(file, deep=True)
    state, recipe = from_mapping(VideoState, content["state"]), from_mapping(Recipe, content["recipe"])
    return Record(name, state, recipe, files, found, content["seconds"], content["frames"], content["windows"])


def _numbers(given: Any) -> NDArray[np.float64]:
    """Return finite numbers as an array (ValueError: something else)."""
    array = np.array(given)
    if array.size and (array.dtype.kind not in "iuf" or not np.isfinite(array).all()):
        raise ValueError("got something else than finite numbers")
    return array.astype(np.float64)


def _whole_numbers(given: Any) -> NDArray[np.int32]:
    """Return whole numbers of 32 bits as an array (ValueError, OverflowError: something else)."""
    if not all(type(number) is int for number in given):
        raise ValueError("got something else than whole numbers")
    return np.array(given, np.int32)


class RecordFolder:
    """Keeps the records of the videos whose results lie in a folder. Several processes may share it."""

    def __init__(self, out: Path) -> None:
        """Take the folder of the results; nothing is written yet."""
        self.out = out
        self.own = out / OWN_FOLDER
        """Folder for what is the job's own; its lock is that of the tables of all videos and of the failures."""
        self._folder = self.own / "records"

    @property
    def place(self) -> str:
        """Where the records are, as it is named to people."""
        return str(self.own)

    def prepare(self) -> None:
        """Make the folder of the records, and sweep what dead processes left in it (OSError: not possible)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.own, self._folder):
            sweep(folder)

    def path_of(self, name: str) -> Path:
        """Return the path of a video's record: all lie in one folder, that of "day1/cam1" as day1%2Fcam1.json.

        A name that is too long, or none that a file can have, is cut after a "~" and has its digest behind another.
        """
        flat = name.replace("%", "%25").replace("/", "%2F")
        if len(flat.encode(errors="surrogateescape")) <= LONGEST_NAME and not name.startswith((".", "~")):
            try:
                return path_in(self._folder, flat, ".json")
            except InputError:  # a name that no file can have
                pass
        beginning = re.sub(r"[^\w%.-]+", "_", flat).encode()[:LONGEST_BEGINNING].decode(errors="ignore")
        digest = sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]
        return self._folder / f"~{beginning}~{digest}.json"

    def name_in(self, path: Path) -> str:
        """Return the name of the video of a record's path; of a name that is cut there the record is read for it."""
        if not path.stem.startswith("~"):
            return path.stem.replace("%2F", "/").replace("%25", "%")
        record = read_record(path)
        return "" if record is None else record.name

    def load(self, name: str) -> Record | None:
        """Return the record of a video; None if there is none that can be read."""
        path = self.path_of(name)
        record = read_record(path) if is_file(path) else None
        return record if record is not None and record.name == name else None

    def files_of(self, name: str) -> Mapping[str, ResultFile]:
        """Return what the record of a video says of its files, by their names; empty if there is none."""
        record = self.load(name)
        return {} if record is None else record.files

    def save(self, record: Record) -> None:
        """Write a record atomically, in place of an older one (OSError: it cannot be written)."""
        write_text(self.path_of(record.name), record.to_json())

    def remove(self, name: str) -> None:
        """Remove the record of a video, if there is one."""
        self.path_of(name).unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """Return the paths of all records."""
        if not self._folder.is_dir():
            return []
        return sorted(
            path for path in self._folder.iterdir() if path.suffix == ".json" and not NAME.fullmatch(path.name)
        )

    def is_shared(self, jobs: Sequence[VideoJob]) -> bool:
        """Return whether the folder will have several videos when those of a list are done."""
        return len(jobs) > 1 or len({*self.paths(), *(self.path_of(job.name) for job in jobs)}) > 1

    def all(self) -> Iterator[Record]:
        """Yield all records that can be read, by their paths."""
        yield from filter(None, map(self.read, self.paths()))

    def read(self, path: Path) -> Record | None:
        """Return the record at one of the `paths`; None if it cannot be read, or is that of another video."""
        record = read_record(path) if is_file(path) else None
        return record if record is not None and self.path_of(record.name) == path else None

    def names(self) -> list[str]:
        """Return the names of the videos that have a record which can be read."""
        return [record.name for record in self.all()]

    def look(
        self, job: VideoJob, recipe: Recipe, options: FileOptions, path: str = "", *, read: bool = True
    ) -> tuple[Standing, Record | None]:
        """Return how a video stands, and its record if that still holds.

        The record of a video whose content is the same at another time of change or path is returned with the new one.

        Args:
            job: the video.
            recipe: what its detections shall depend on.
            options: which files there shall be, and what they shall hold.
            path: the video as `VideoFacts.path` has it; empty: not compared.
            read: read a video of another size or time, to compare its content; False: it is taken for "new".

        Raises:
            OSError: a file cannot be read.
        """
        record = self.load(job.name)
        if record is None or not record.recipe.covers(recipe):
            return "new", None
        quick = look_at(job.source)
        if not quick:
            return "new", None
        if quick != record.state.quick:
            state = state_of(job.source, quick) if read else None
            if state is None or state.digest != record.state.digest:
                return "new", None
            record = replace(record, state=state)
        facts = record.found.facts or VideoFacts()
        if path and path != facts.path:
            facts = replace(facts, path=path)
            return "files", replace(record, found=replace(record.found, facts=facts), files={})
        whole = all(self.has_file(record, job, suffix, options) for suffix in options.formats)
        return "done" if whole else "files", record

    def has_file(self, record: Record, job: VideoJob, suffix: str, options: FileOptions) -> bool:
        """Return whether the file of a format holds what the options ask for (OSError: it cannot be read)."""
        name = job.file_name(suffix)
        known = record.files.get(name)
        return known is not None and known.holds == options.describe(suffix) and self.is_own_file(record, name)

    def name_written(self, written: str) -> str:
        """Return the name in the folder of a file of `Finished.written`."""
        return Path(written).relative_to(self.out).as_posix()

    def holds_file(self, name: str) -> bool:
        """Return whether a file is there, whatever it holds."""
        return is_file(self.out / name)

    def remove_file(self, name: str) -> None:
        """Remove a result file, if it is there (OSError: not possible)."""
        (self.out / name).unlink(missing_ok=True)

    def is_own_file(self, record: Record, name: str) -> bool:
        """Return whether a file of a record is there as it was written (OSError: it cannot be read)."""
        try:
            path = self.out / name
            return is_file(path) and file_sha256(path) == record.files[name].sha256
        except FileNotFoundError:
            return False
