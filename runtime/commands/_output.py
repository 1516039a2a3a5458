"""Print and write the results of `afsd detect`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from runtime.benchmark.profile import ThreadClock, format_profile, make_profile
from runtime.common.console import print_json
from runtime.common.files import is_file, write_text
from runtime.common.names import path_in
from runtime.common.tables import align
from runtime.common.text import printable
from runtime.errors import AfsdError, InputError
from runtime.features.video_features import Features
from runtime.report.folder import INDEX_NAME, ReportFolder
from runtime.report.media import require_embeddable
from runtime.report.options import ReportOptions
from runtime.results.detections import TABLE, Detection, Detections, results_document, to_table
from runtime.results.facts import VideoFacts
from runtime.results.json_lines import JsonLineFiles
from runtime.results.video_names import take_name
from runtime.results.writers import require_ours
from runtime.timing import Timing
from runtime.video.sources import local_path, name_of

SHORTHANDS = {"csv": "csv", "srt": "srt", "plot": "png"}
"""Formats that have their own flags, by flag."""
FEATURE_SUFFIXES = (".npy", ".npz")
"""Suffixes of sources that are features and no videos."""


class Output:
    """Prints and writes the results of one video after the other, as the flags of `afsd detect` ask."""

    def __init__(self, flags: argparse.Namespace, score_origin: str) -> None:
        """Take the flags; `score_origin` says in words where `flags.score` is from."""
        self._flags, self._score_origin = flags, score_origin
        self._finished: list[Detections] = []
        self._table: list[Detections] = []
        """Videos of the table of all."""
        self._profiles: dict[str, dict[str, object]] = {}
        self._given_out = False
        self._names: set[str] = set()
        self._streamed = ""
        self._unwritten: InputError | OSError | None = None
        self._report: ReportFolder | None = None
        self._lines = JsonLineFiles(flags.out) if flags.stream and flags.out is not None else None
        self._folder = flags.out if flags.out is not None else Path()
        self._table_path: Path | None = None

    def require_free(self, sources: Sequence[str | int | Features]) -> None:
        """Check, before any work, that no file of others is where the results of the sources will be.

        Pages of several sources get an index.

        Names are those that the results get if no source fails; `video` checks the names that they do get.

        Raises:
            InputError: a file of others is there, and --overwrite is not given; a video is too large for --embed.
        """
        if len(sources) > 1 and "csv" in chosen_formats(self._flags):
            self._table_path = path_in(self._folder, TABLE, ".csv")
            self._check_paths([self._table_path])
        if "html" in chosen_formats(self._flags) and len(sources) > 1:
            self._report = ReportFolder(self._folder, self._report_options())
            self._check_paths([self._report.index])
        for video in filter(None, map(file_of, sources)) if self._flags.embed else ():
            require_embeddable(video)
        named = set(self._names)
        for source in sources:
            if name := _name(source):
                try:
                    paths = self._paths(take_name(name, named))
                except InputError:  # a name that no file can have: said when it is the video's turn
                    continue
                self._check_paths(paths)

    def video(
        self,
        found: Detections,
        source: str,
        timing: Timing,
        threads: ThreadClock | None = None,
        video: Path | None = None,
    ) -> None:
        """Write the files of a finished video, and print its table unless JSON is printed at the end.

        Args:
            found: detections of the video.
            source: the video, as it is shown.
            timing: timing of the run.
            threads: clock of the run, for a profile; None: no profile is wanted.
            video: file of the video, for its page; None: it is none.

        Raises:
            AfsdError, OSError: a file could not be written; everything else was given out.
        """
        facts = replace(found.facts or VideoFacts(), model=str(self._flags.engine), threshold=self._flags.score)
        whole = replace(found, video=take_name(found.video, self._names), facts=facts).sorted("score")
        found = whole.above(self._flags.score)  # a page shows weaker ones, too, if one moves its slider
        with timing.writing():
            written, failure = self._write_files(found, whole, timing.video_seconds, video)
        if self._table_path is not None:
            self._table.append(found)
        profile = None
        if threads is not None:
            threads.stop()
            profile = make_profile(timing, threads)
            self._profiles[found.video] = profile.to_mapping()
        if self._flags.json:
            self._finished.append(found)
        else:
            self._print(found, source, timing, written)
            if profile is not None:
                print(format_profile(profile))
        if failure is not None:
            raise failure

    def _print(self, found: Detections, source: str, timing: Timing, written: Sequence[str]) -> None:
        count = f"{len(found)} detection{'' if len(found) == 1 else 's'}"
        origin = f" ({self._score_origin})" if self._score_origin else ""
        print(f"{source}: {count} of score {self._flags.score:g} or more{origin}; {timing.summary()}")
        for line in table(found, self._flags.top):
            print(line)
        if written:
            print(printable(f"written: {', '.join(written)}"))

    def begin(self) -> None:
        """Begin the next video whose detections are streamed."""
        self._streamed = ""
        self._unwritten = None

    def end(self) -> None:
        """End the video whose detections were streamed (InputError, OSError: its file could not be written)."""
        if self._unwritten is not None:
            raise self._unwritten

    def stream(self, found: Detections) -> None:
        """Print detections that have just become final, one per line, and append them to the file of their video."""
        self._streamed = self._streamed or take_name(found.video, self._names)
        for one in found:
            entry: dict[str, object] = {"video": self._streamed, "label": one.label, "score": one.score}
            entry["segment"] = [one.start_s, one.end_s]
            if self._lines is not None and self._unwritten is None:
                try:
                    self._lines.append(self._streamed, json.dumps(entry, ensure_ascii=False))
                except (OSError, InputError) as error:  # the rest is still printed
                    self._unwritten = error
            if self._flags.json:
                print_json(entry)
            else:
                print(printable(f"{self._streamed}  {_row(one)}"), flush=True)

    def finish(self) -> None:
        """Give out what is of all videos, once, at the end or at a signal: JSON, the table, the index of pages.

        Raises:
            OSError: the table or the index could not be written; the JSON is printed all the same.
        """
        table, self._table_path = self._table_path, None
        report, self._report = self._report, None
        if self._flags.json and not self._flags.stream and not self._given_out:
            self._given_out = True
            profiles = {"profile": self._profiles} if self._profiles else {}
            print_json(results_document(self._finished) | profiles, indent=2)
        if table is not None and self._table:
            write_text(table, to_table(self._table, bom=self._flags.bom))
            if not self._flags.json:
                print(printable(f"written: {table}, the table of {len(self._table)} videos"))
        if report is not None and report.count:
            written = report.write_index()
            if not self._flags.json:
                print(printable(f"written: {written}, the index of {report.count} pages"))

    def _write_files(
        self, found: Detections, whole: Detections, video_seconds: float, video: Path | None
    ) -> tuple[list[str], AfsdError | OSError | None]:
        """Write the formats that were asked for; return the paths that were written, and the first failure.

        `whole` has the detections below the score, too, for the page.
        """
        written: list[str] = []
        failures: list[AfsdError | OSError] = []
        try:
            paths = self._paths(found.video)
            self._check_paths(paths)
        except (InputError, OSError) as error:
            return [], error
        for path in paths:
            try:
                if path.suffix == ".csv":
                    found.to_csv(path, bom=self._flags.bom)
                elif path.suffix == ".html":
                    self._write_page(path, whole, video_seconds, video)
                else:
                    found.save(path, duration_s=video_seconds)
                written.append(str(path))
            except (AfsdError, OSError) as error:  # the other formats may fit
                failures.append(error)
        return written, failures[0] if failures else None

    def _write_page(self, path: Path, found: Detections, video_seconds: float, video: Path | None) -> None:
        report = self._report or ReportFolder(path.parent, self._report_options(), indexed=False)
        report.add(path, found, video=video, duration_s=video_seconds or None)

    def _report_options(self) -> ReportOptions:
        return ReportOptions(threshold=self._flags.score, embed=self._flags.embed, model=Path(self._flags.engine).name)

    def _paths(self, name: str) -> list[Path]:
        """Return the paths of a video's files, one per format."""
        paths = []
        for suffix in chosen_formats(self._flags):
            shared = (suffix == "csv" and self._table_path is not None and name == TABLE) or (
                suffix == "html" and self._report is not None and name == INDEX_NAME
            )
            paths.append(path_in(self._folder, f"{name}-video" if shared else name, f".{suffix}"))
        return paths

    def _check_paths(self, paths: Sequence[Path]) -> None:
        if not self._flags.overwrite:
            for path in paths:
                require_ours(path)


def file_of(source: str | int | Features) -> Path | None:
    """Return the file of a source; None for features, folders, cameras and what is on other machines."""
    path = local_path(source) if isinstance(source, str) else None
    is_video = path is not None and is_file(path) and path.suffix.lower() not in FEATURE_SUFFIXES
    return path if is_video else None


def _name(source: str | int | Features) -> str:
    """Return the name that a source's results will have."""
    return source.name if isinstance(source, Features) else name_of(source)[0]


def chosen_formats(flags: argparse.Namespace) -> list[str]:
    """Return the names of the formats to write: of --format, or JSON for --out without --stream; and the shorthands."""
    formats = list(flags.format or (["json"] if flags.out is not None and not flags.stream else []))
    formats += [name for flag, name in SHORTHANDS.items() if getattr(flags, flag)]
    return list(dict.fromkeys(formats))


def table(found: Detections, top: int) -> Iterator[str]:
    """Yield the lines of a table of the `top` best detections, in order of their starts."""
    best = found.sorted("score")[:top].sorted("start")
    if not len(best):
        return
    rows = [[f"{d.start_s:.2f}", f"{d.end_s:.2f}", f"{d.score:.3f}", d.label] for d in best]
    yield from align([["start s", "end s", "score", "class"], *rows], "rrrl", indent=2).splitlines()
    if len(found) > top:
        yield f"  … and {len(found) - top} more of lower score (--top {len(found)} shows all)"


def _row(one: Detection) -> str:
    return f"{one.start_s:10.2f}{one.end_s:10.2f}{one.score:8.3f}  {one.label}"
