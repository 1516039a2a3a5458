"""Write the report of several videos: a page for each, and an index of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import runtime
from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.names import path_in
from runtime.common.natural_order import natural_key
from runtime.common.overwriting import require_own_file
from runtime.common.text import printable
from runtime.report.document import is_page, write_page
from runtime.report.options import ReportOptions
from runtime.report.video_page import INDEX, judge, summarise, write_video_page
from runtime.results.detections import Detections
from runtime.results.video_names import take_name

INDEX_NAME = INDEX.removesuffix(".html")
"""Name that no video's page may have."""


class ReportFolder:
    """Writes the pages of videos one after the other, keeps a line of each, and writes their index at the end."""

    def __init__(
        self, folder: Path, options: ReportOptions, classes: tuple[str, ...] | None = None, indexed: bool = True
    ) -> None:
        """Take the folder; nothing is written yet.

        Args:
            folder: folder of the pages.
            options: options of the report.
            classes: classes that are judged; None: those of each video's detections and annotation.
            indexed: whether there will be an index, which the pages link to.
        """
        self._folder, self._options, self._classes, self._indexed = folder, options, classes, indexed
        self._names = {INDEX_NAME}
        self._lines: list[dict[str, Any]] = []

    @property
    def index(self) -> Path:
        """Path of the index."""
        return self._folder / INDEX

    @property
    def count(self) -> int:
        """Number of pages written."""
        return len(self._lines)

    def page_of(self, name: str) -> Path:
        """Return the path of the next page of a video's name, and take it (InputError: see `path_in`)."""
        return path_in(self._folder, take_name(name.replace("/", "_"), self._names), ".html")

    def add(
        self,
        path: Path,
        found: Detections,
        *,
        video: Path | None = None,
        truth: VideoAnnotation | None = None,
        duration_s: float | None = None,
    ) -> None:
        """Write the page of a video; arguments and errors are those of `judge` and `write_video_page`."""
        judged = judge(found, truth, duration_s, self._options, self._classes)
        write_video_page(path, judged, self._options, video, index=INDEX if self._indexed else "")
        self._lines.append(summarise(judged, quote(os.fsencode(path.name)), self._options))

    def enter(self, page: str, found: Detections, duration_s: float | None = None) -> None:
        """Enter a page that is there already, by its name in the folder, into the index; see `judge` for the rest."""
        judged = judge(found, None, duration_s, self._options, self._classes)
        self._lines.append(summarise(judged, quote(os.fsencode(page)), self._options))

    def write_index(self, figures: dict[str, Any] | None = None, title: str = "Videos") -> Path:
        """Write the index and return its path: the worst videos first if there is truth, else by name.

        Args:
            figures: figures of an evaluation, see `runtime.report.figures.describe_evaluation`.
            title: title of the page.

        Raises:
            OSError: the file cannot be written.
        """
        options = self._options
        data = {
            "title": printable(title),
            "model": printable(options.model),
            "version": runtime.__version__,
            "threshold": options.threshold,
            "tiou": options.tiou,
            "judged": any("f1" in line for line in self._lines),
            "videos": sorted(self._lines, key=_worst_first),
            "figures": figures,
        }
        write_page(self.index, "index", title, data)
        return self.index


def require_own_pages(folder: Path, names: list[str]) -> None:
    """Check, before any work, that no file of others is where a report's index and pages will be.

    Raises:
        InputError: a file of others is there, or a name is none that a file can have.
    """
    taken = {INDEX_NAME}
    paths = [path_in(folder, take_name(name.replace("/", "_"), taken), ".html") for name in names]
    for path in (folder / INDEX, *paths):
        require_own_file(path, is_page)


def _worst_first(line: dict[str, Any]) -> tuple[Any, ...]:
    """Return the key of a video: lowest F1, of equal ones most errors, then by name; videos without truth last."""
    score = line.get("f1")
    errors = line.get("wrong", 0) + line.get("missed", 0)
    return score is None, 0.0 if score is None else score, -errors, natural_key(line["video"])
