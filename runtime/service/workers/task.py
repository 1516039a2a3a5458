"""Run one job in a worker: find the actions in a file, and write its result and its page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import runtime
from runtime.common.files import write_text
from runtime.detector import Detector, DetectorOptions
from runtime.errors import AfsdError, VideoError
from runtime.jobs.settings import PAGES_FROM
from runtime.report.media import EMBED_BYTES, served_video
from runtime.report.options import ReportOptions
from runtime.report.preview import is_played, make_preview
from runtime.report.video_page import judge, write_video_page
from runtime.results.detections import Detections, results_document
from runtime.results.facts import selection_facts
from runtime.service.intake.root import find_again
from runtime.service.job_options import JobOptions, read_options
from runtime.service.jobs import PREVIEW, REPORT, RESULT
from runtime.service.refusals import RefusedError
from runtime.service.workers.worker import PROGRESS_S, Engines, Line, Message
from runtime.timing import Timing
from runtime.video.readers.base import declared_seconds
from runtime.video.readers.pyav import PyAVReader

MEDIA_TYPES = {
    "mov": "video/mp4", "matroska": "video/x-matroska", "webm": "video/webm", "mpegts": "video/mp2t",
    "ogg": "video/ogg",
    "avi": "video/x-msvideo", "flv": "video/x-flv", "gif": "image/gif", "mpeg": "video/mpeg", "asf": "video/x-ms-asf",
}  # fmt: skip
"""Types of videos by the first of FFmpeg's names of their formats."""


def run_job(task: Message, engines: Engines, line: Line) -> None:
    """Run a job and say what it finds.

    Args:
        task: "video", "folder" (paths), "name", "source", "score", "max_seconds", "options"; "root" and "named" of a
            video that was named by its path in the root.
        engines: the engines.
        line: line to the service, which may ask for an end at any window.

    Raises:
        AfsdError: the video cannot be read, or is too long.
        CancelledTaskError: the service asked for it.
    """
    options, score = read_options(task["options"]), float(task["score"])
    video, folder = Path(task["video"]), Path(task["folder"])
    lowest = score if options.selects else min(score, PAGES_FROM)  # a page shows weaker ones if one moves its slider
    detector = make_detector(engines, options, lowest)
    require_same(task, video)
    reader = PyAVReader(str(video), contained=True, known_as=task["name"])
    with closing(reader):
        line.say("opened", type=media_type(reader, video), seconds=reader.duration)
        require_length(declared_seconds(reader, options.fps), task)
        opened = detector.open(reader, fps=options.fps)  # type: ignore[arg-type]  # an open reader
        report = make_report(line, task)
        parts = [Detections.empty(detector.spec.classes, opened.name)]
        with closing(detector.find(opened, report)) as found:  # type: ignore[type-var]  # a generator
            for part in found:
                parts.append(part)
                say_found(line, part.above(score))
    facts = replace(
        opened.facts(),
        path=task["source"],
        model=engines.name,
        threshold=score,
        **selection_facts(options.exclusive, options.merge_gap, options.min_length),
        version=runtime.__version__,
    )
    whole = replace(Detections.concatenate(parts), facts=facts).sorted("score")
    shown = whole.above(score)
    write_text(folder / RESULT, json.dumps(results_document([shown]), indent=2, ensure_ascii=False) + "\n")
    preview = options.preview and write_preview(video, folder / PREVIEW)
    line.check()
    length_s = detector.timing.video_seconds or None
    judged = judge(whole, None, length_s, ReportOptions(threshold=score, model=engines.name))
    media = served_video("video", task["name"])
    write_video_page(folder / REPORT, judged, ReportOptions(threshold=score, model=engines.name), video, media=media)
    timing = detector.timing
    line.say(
        "done",
        detections=len(shown),
        preview=preview,
        video_seconds=timing.video_seconds,
        real_time_factor=timing.real_time_factor,
    )


def make_detector(engines: Engines, options: JobOptions, lowest: float, **changes: Any) -> Detector:
    """Make a detector on the worker's engines for one job."""
    settings: dict[str, Any] = {
        "batch_size": engines.batch_size,
        "min_score": lowest,
        "exclusive": options.exclusive,
        "merge_gap": options.merge_gap,
        "min_length": options.min_length,
        "allow_truncated": options.allow_truncated,
    }
    return Detector(
        engines.engine,
        flow_engine=engines.flow,
        backbone=engines.backbones or None,
        options=DetectorOptions(**settings | changes),
    )


class Reporter(Protocol):
    """Takes messages for the service, and says when it wants an end."""

    def say(self, event: str, **data: Any) -> None:
        """Send a message."""
        ...

    def check(self) -> None:
        """Return at once unless the service wants the work to stop (CancelledTaskError)."""
        ...


def make_report(line: Reporter, task: Message) -> Callable[[Timing], None]:
    """Return a function that reports progress, ends a job that is too long, and one that is to be cancelled."""
    latest = -PROGRESS_S

    def report(timing: Timing) -> None:
        nonlocal latest
        line.check()
        require_length(timing.video_seconds, task)
        now = time.monotonic()
        if now - latest < PROGRESS_S:
            return
        latest = now
        share = min(timing.frames / timing.expected_frames, 1.0) if timing.expected_frames else None
        line.say(
            "progress",
            video_seconds=round(timing.video_seconds, 3),
            share=None if share is None else round(share, 4),
            real_time_factor=round(timing.real_time_factor, 2),
        )

    return report


def require_same(task: Message, video: Path) -> None:
    """Check that the path of a video in the root still leads to it (VideoError: it does not)."""
    if task.get("named") is None:
        return
    try:
        find_again(Path(task["root"]), task["named"], video)
    except RefusedError as refusal:
        raise VideoError(f"{task['name']}: {refusal.reason}") from None


def require_length(seconds: float | None, task: Message) -> None:
    """Check the length of a video (VideoError: it is too long)."""
    longest = task.get("max_seconds")
    if longest is not None and seconds is not None and seconds > longest:
        raise VideoError(
            f"{task['name']}: got {seconds:,.0f} s or more, expected at most {longest:,.0f} s of video; cut it in parts"
        )


def say_found(line: Reporter, found: Detections) -> None:
    """Say detections that have just become final, if there are any."""
    if len(found):
        entries = [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found]
        line.say("detections", detections=entries)


def media_type(reader: PyAVReader, video: Path) -> str:
    """Return the type of a video by its content; Matroska is WebM where its name says so, as browsers have it."""
    first = reader.container_name.split(",")[0]
    if first == "matroska" and video.suffix == ".webm":
        first = "webm"
    return MEDIA_TYPES.get(first, "application/octet-stream")


def write_preview(video: Path, path: Path) -> bool:
    """Write a copy that browsers play, of a video that they do not; return whether there is one."""
    if is_played(video):
        return False
    try:
        path.write_bytes(make_preview(video, EMBED_BYTES))
    except AfsdError:  # the page says that there is no picture
        return False
    return True
