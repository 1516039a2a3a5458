"""Print the results of `afsd detect`: a table for each video, or JSON."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtime.benchmark.profile import format_profile
from runtime.common.console import print_json
from runtime.common.tables import align
from runtime.common.text import printable
from runtime.jobs.failures import Failure
from runtime.jobs.plan import VideoJob
from runtime.jobs.row_tables import ROW_TABLES
from runtime.jobs.work import Finished
from runtime.results.detections import Detection, Detections, results_document

SHORTHANDS = {"csv": "csv", "srt": "srt", "plot": "png"}
"""Formats that have their own flags, by flag."""
AS_BEFORE = {"done": "done before", "files": "known before, files written"}
"""Words for a video that was not read, in place of its timing."""


class Output:
    """Prints the results of videos as they end, and at the end what is of all of them."""

    def __init__(self, flags: argparse.Namespace, score_origin: str, jobs: Sequence[VideoJob]) -> None:
        """Take the flags; `score_origin` says in words where `flags.score` is from."""
        self._flags, self._score_origin, self._jobs = flags, score_origin, jobs
        self._found: dict[str, Detections] = {}
        self._profiles: dict[str, Mapping[str, Any]] = {}
        self._given_out = False

    @property
    def needs_skipped(self) -> bool:
        """Whether videos that were done before are given out, too: as JSON, and where there is only one."""
        return bool(self._flags.json or self._flags.jsonl or len(self._jobs) == 1)

    def video(self, finished: Finished) -> None:
        """Give out the result of a video."""
        found = finished.found.above(self._flags.score)  # a page shows weaker ones, too, if one moves its slider
        profile = finished.profile
        if self._flags.json:
            self._found[finished.name] = found
            if profile is not None:
                self._profiles[finished.name] = profile.to_mapping()
        elif self._flags.jsonl:
            document = results_document([found])
            line = {
                "video": finished.name,
                "source": finished.label,
                "detections": document["results"][finished.name],
                "facts": document["external_data"].get(finished.name, {}),
            }
            print_json(line if profile is None else line | {"profile": profile.to_mapping()})
        else:
            self._print(found, finished)
            if profile is not None:
                print(format_profile(profile))

    def failure(self, job: VideoJob, failure: Failure) -> None:
        """Give out, with --jsonl, that a video failed."""
        if self._flags.jsonl:
            print_json({"video": job.name, "source": job.label, "error": failure.kind, "message": failure.message})

    def finish(self) -> None:
        """Give out the JSON of all videos, once, in the order of the list, at the end or at a signal."""
        if self._flags.json and not self._given_out:
            self._given_out = True
            found = [self._found[job.name] for job in self._jobs if job.name in self._found]
            profiles = {
                name: self._profiles[name] for name in (job.name for job in self._jobs) if name in self._profiles
            }
            print_json(results_document(found) | ({"profile": profiles} if profiles else {}), indent=2)

    def _print(self, found: Detections, finished: Finished) -> None:
        count = f"{len(found)} detection{'' if len(found) == 1 else 's'}"
        origin = f" ({self._score_origin})" if self._score_origin else ""
        timing = finished.timing or AS_BEFORE[finished.standing]
        print(f"{finished.label}: {count} of score {self._flags.score:g} or more{origin}; {timing}")
        for line in table(found, self._flags.top):
            print(line)
        if finished.written:
            print(printable(f"written: {', '.join(finished.written)}"))


def chosen_formats(flags: argparse.Namespace) -> list[str]:
    """Return the formats of each video's files: of --format, or JSON for --out without --stream; and the shorthands."""
    formats = list(flags.format or (["json"] if flags.out is not None and not flags.stream else []))
    formats += [name for flag, name in SHORTHANDS.items() if getattr(flags, flag)]
    return [name for name in dict.fromkeys(formats) if name not in ROW_TABLES]


def chosen_tables(flags: argparse.Namespace) -> list[str]:
    """Return the names of the formats in which there is one table of all videos."""
    return [name for name in ROW_TABLES if name in (flags.format or ())]


def table(found: Detections, top: int) -> Iterator[str]:
    """Yield the lines of a table of the `top` best detections, in order of their starts."""
    best = found.sorted("score")[:top].sorted("start")
    if not len(best):
        return
    rows = [[f"{d.start_s:.2f}", f"{d.end_s:.2f}", f"{d.score:.3f}", d.label] for d in best]
    yield from align([["start s", "end s", "score", "class"], *rows], "rrrl", indent=2).splitlines()
    if len(found) > top:
        yield f"  … and {len(found) - top} more of lower score (--top {len(found)} shows all)"


def row(one: Detection) -> str:
    """Return a detection as a line of streamed output."""
    return f"{one.start_s:10.2f}{one.end_s:10.2f}{one.score:8.3f}  {one.label}"
