"""Name the results of many videos once for the whole list, and share the list out among machines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from unicodedata import normalize

from runtime.common.files import is_file
from runtime.common.names import require_safe_name
from runtime.common.text import printable, quote
from runtime.errors import InputError, VideoError
from runtime.features.files import FEATURE_SUFFIXES
from runtime.features.video_features import Features
from runtime.report.folder import INDEX_NAME
from runtime.results.detections import TABLE
from runtime.results.video_names import take_name
from runtime.video.names import without_prefix
from runtime.video.sources import NamedSource, is_url, local_path, name_of

Source = str | int | Features
"""A video of a job: file, folder of images, URL, camera number, or features."""
SHARED = {TABLE: "csv", INDEX_NAME: "html"}
"""Names of the files that all videos of a folder share, with their formats."""
LARGEST_SHARDS = 1_000_000
"""Most parts into which a list is shared out."""


@dataclass(frozen=True)
class VideoJob:
    """Holds one video of a list, and the name that its results have."""

    source: Source
    name: str
    """Name of the video in all results; no other video of the list has it. Of a video in a folder below one that was
    given it has the folders, as in "day1/cam1", and so have its files."""
    stem: str
    """Name of the files that would otherwise be those of all videos (`SHARED`); else `name`."""
    label: str
    """The source as it is named to people, in one line, without a URL's password."""

    @property
    def path(self) -> str:
        """The video as `VideoFacts.path` has it; empty where it has none."""
        if not isinstance(self.source, str):
            return ""
        return name_of(self.source)[1] if is_url(self.source) else self.source

    @property
    def file(self) -> Path | None:
        """File of the video; None for features, folders, cameras and what is on other machines."""
        path = local_path(self.source) if isinstance(self.source, str) else None
        is_video = path is not None and is_file(path) and path.suffix.lower() not in FEATURE_SUFFIXES
        return path if is_video else None

    def stem_for(self, suffix: str) -> str:
        """Return the name of the result file with a suffix, such as "csv", without the suffix."""
        return self.stem if SHARED.get(self.name) == suffix else self.name

    def file_name(self, suffix: str) -> str:
        """Return the name of the result file with a suffix in the folder of the results, as in "day1/cam1.csv"."""
        return f"{self.stem_for(suffix)}.{suffix}"


def plan_jobs(sources: Sequence[Source | NamedSource], *, labelled: bool = False) -> list[VideoJob]:
    """Give each source of a whole list the name of its results: clip, clip-2, … where names are the same.

    Call it before anything is left out of the list, so that every part of it, and every start, has the same names.

    Args:
        sources: all videos, in order; those with names of their own (`list_sources`) have these.
        labelled: whether a classifier's scores name the videos' classes, whose ids have no leading "v_".
    """
    taken: set[str] = set()
    names = []
    for number, source in enumerate(sources):
        name = own_name(source) or f"video{number + 1}"
        names.append(take_name(without_prefix(name) if labelled else name, taken))
    plain = (source.source if isinstance(source, NamedSource) else source for source in sources)
    return [
        VideoJob(source, name, take_name(f"{name}-video", taken) if name in SHARED else name, label_of(source))
        for source, name in zip(plain, names, strict=True)
    ]


def folders_of(names: Iterable[str]) -> list[str]:
    """Return the folders that the names of videos have before them, as in "day1" of "day1/cam1", each once.

    Those that lead elsewhere, or that no system takes, are left out: no file of a video will be there.
    """
    return [folder for folder in sorted({name.rpartition("/")[0] for name in names}) if _is_safe(folder)]


def _is_safe(folder: str) -> bool:
    try:
        require_safe_name(folder, deep=True)
    except InputError:
        return False
    return True


def label_of(source: Source) -> str:
    """Return a source as it is named to people, in one line, without a URL's password."""
    try:
        return printable(name_of(source)[1] if isinstance(source, str) and is_url(source) else str(source))
    except VideoError as error:  # an address that is none, which fails when it is opened
        return printable(str(error))


def own_name(source: Source | NamedSource) -> str:
    """Return the name that a source has by itself or by its folder; empty for an address that is none."""
    if isinstance(source, Features):
        return source.name
    if isinstance(source, NamedSource):
        return source.name or own_name(source.source)
    try:
        return name_of(source)[0]
    except VideoError:
        return ""


@dataclass(frozen=True)
class Shard:
    """Chooses one of several disjoint parts of a list, which together are the list, by the names of the results.

    So a part does not depend on the folder in which a machine sees the videos, nor on the order of the list, unless
    several videos of it have one stem: these are numbered in its order (`plan_jobs`), so give every machine the same.
    """

    number: int = 1
    """Number of the part, from 1."""
    count: int = 1
    """Number of parts."""

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= LARGEST_SHARDS:
            raise InputError(
                f"shard: got {self.number}/{self.count}, expected 1/{self.count} … {self.count}/{self.count}, at most "
                f"{LARGEST_SHARDS} parts"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "2/4", the second of four parts (InputError: another form)."""
        found = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text, re.ASCII)
        if found is None:
            raise InputError(f"--shard: got {quote(text)}, expected i/n, as in 2/4 for the second of four parts")
        return cls(int(found[1]), int(found[2]))

    def holds(self, job: VideoJob) -> bool:
        """Return whether a video is in this part."""
        name = normalize("NFC", job.name).encode(errors="surrogateescape")
        return int.from_bytes(sha256(name).digest()[:8], "big") % self.count == self.number - 1
