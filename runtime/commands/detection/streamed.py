"""Print detections as they become final, and append them to files: `afsd detect --stream`."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from typing import TYPE_CHECKING

from runtime.commands.detection.output import row
from runtime.commands.flags.shown import selection_options, selects
from runtime.common.console import print_error, print_json
from runtime.common.text import printable
from runtime.errors import AfsdError, InputError
from runtime.jobs.plan import VideoJob
from runtime.results.json_lines import JsonLineFiles

if TYPE_CHECKING:
    from runtime.detector import Detector
    from runtime.results.detections import Detections
    from runtime.results.video_scores import VideoScores


class StreamedOutput:
    """Prints the detections of one source after another, one a line, and appends them to DIR/<video>.jsonl."""

    def __init__(self, flags: argparse.Namespace) -> None:
        """Take the flags (InputError: the folder cannot be made)."""
        self._json = flags.json
        self._lines = JsonLineFiles(flags.out) if flags.out is not None else None
        self._name = ""
        self._unwritten: InputError | OSError | None = None

    def begin(self, job: VideoJob) -> None:
        """Begin the next video."""
        self._name, self._unwritten = job.name, None

    def end(self) -> None:
        """End a video (InputError, OSError: its file could not be written)."""
        if self._unwritten is not None:
            raise self._unwritten

    def give(self, found: Detections) -> None:
        """Give out detections that have just become final."""
        for one in found:
            entry: dict[str, object] = {"video": self._name, "label": one.label, "score": one.score}
            entry["segment"] = [one.start_s, one.end_s]
            if self._lines is not None and self._unwritten is None:
                try:
                    self._lines.append(self._name, json.dumps(entry, ensure_ascii=False))
                except (OSError, InputError) as error:  # the rest is still printed
                    self._unwritten = error
            if self._json:
                print_json(entry)
            else:
                print(printable(f"{self._name}  {row(one)}"), flush=True)


def stream_videos(
    detector: Detector, jobs: list[VideoJob], flags: argparse.Namespace, labels: VideoScores | None, lowest: float
) -> list[str]:
    """Stream the videos one after another, and return the names of those that failed."""
    from runtime.jobs.work import named_for, require_labels

    output, failed = StreamedOutput(flags), []

    def labelled(job: VideoJob, found: Detections) -> Detections:
        if labels is None:
            return found
        found = labels.label(named_for(labels, job, found), flags.labels_per_video).above(lowest)
        return found.select(**selection_options(flags)) if selects(flags) else found

    for job in jobs:
        try:
            require_labels(labels, job)
            output.begin(job)
            with closing(detector.stream(job.source, fps=flags.fps)) as parts:  # type: ignore[type-var]  # a generator
                for part in parts:
                    output.give(labelled(job, part))
            output.end()
        except BrokenPipeError:  # of the reader of stdout: see `main`
            raise
        except (AfsdError, OSError) as error:
            print_error(error)
            failed.append(job.name)
    return failed
