"""Write the page of one video: its detections on a timeline, beside the truth if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import runtime
from runtime.annotations.activitynet import VideoAnnotation
from runtime.annotations.thumos14 import AMBIGUOUS
from runtime.common.ranges import Seconds, require_in_range
from runtime.common.text import printable
from runtime.errors import InputError
from runtime.evaluation.error_kinds import HIT, KINDS
from runtime.evaluation.verdicts import NOT_JUDGED, VideoVerdict, judge_video
from runtime.report.document import write_page
from runtime.report.media import Media, bring_video
from runtime.report.options import ReportOptions
from runtime.report.pictures import data_address
from runtime.results.colours import class_colour, hexadecimal
from runtime.results.detections import Detections
from runtime.results.timeline import assign_lanes, choose_duration
from runtime.video.thumbnails import read_thumbnails

MAX_LANES = 24
"""Most lanes of overlapping detections of one class, best first; the rest lie on top of one another in the last."""
DIGITS = 4
"""Decimals of seconds in a page."""
INDEX = "index.html"
"""Name of the page that lists the videos of a folder."""


def index_above(name: str) -> str:
    """Return the address of the index of a folder from the page of a video: "../index.html" from day1/cam1.html."""
    return "../" * name.count("/") + INDEX


@dataclass(frozen=True, eq=False)
class Judged:
    """Holds the detections of one video, best first, and what they are."""

    found: Detections
    truth: VideoAnnotation | None
    """Annotation of the video without Ambiguous regions; None: unknown."""
    verdict: VideoVerdict | None
    """What each detection is; None without annotation."""
    duration_s: float
    """Length of the video in seconds."""

    def misses(self, shown: NDArray[np.bool_]) -> list[int]:
        """Return the indices of the true actions that none of the shown detections, a bool mask [D], found."""
        if self.truth is None or self.verdict is None:
            return []
        hit = set(self.verdict.found[shown].tolist())
        return [k for k in range(len(self.truth.instances)) if k not in hit]


def judge(
    found: Detections,
    truth: VideoAnnotation | None,
    duration_s: float | None,
    options: ReportOptions,
    classes: tuple[str, ...] | None = None,
) -> Judged:
    """Sort the detections of a video by score and match them with its annotation.

    Args:
        found: detections of the video.
        truth: annotation of the video; None: unknown.
        duration_s: length in seconds; None: the truth's, else the end of the last segment.
        options: tIoU of a hit.
        classes: classes that are judged; None: see `judge_video`.

    Raises:
        InputError: a duration that is not above 0, or a detection with NaN or an infinite time.
    """
    require_in_range("duration_s", duration_s, Seconds | None)
    if not (np.isfinite(found.scores).all() and np.isfinite(found.segments).all()):
        raise InputError(f"{found.video or 'detections'}: a detection holds NaN or infinity, expected finite numbers")
    found = found.sorted("score")
    if truth is not None:
        instances = tuple(i for i in truth.instances if i.label != AMBIGUOUS)
        truth = VideoAnnotation(truth.name, truth.subset, truth.duration_s, truth.fps, instances)
    verdict = None if truth is None else judge_video(found, truth, options.tiou, "activitynet", classes)
    return Judged(found, truth, verdict, choose_duration(found, truth, duration_s))


def write_video_page(
    path: Path,
    judged: Judged,
    options: ReportOptions,
    video: Path | None = None,
    index: str = "",
    media: Media | None = None,
) -> None:
    """Write the page of one video atomically.

    Args:
        path: path of the page.
        judged: detections and annotation of the video.
        options: options of the report.
        video: file of the video; None: the page has no video.
        index: address of the index that the page links to, relative to it; empty: none.
        media: how the page shows the video; None: as a link to its file, or embedded, as the options say.

    Raises:
        VideoError: the file of the video is not there.
        InputError: the video is too large to be embedded.
        OSError: a file cannot be read or written.
    """
    media = bring_video(video, path, options.embed) if media is None else media
    data = describe(judged, options) | {
        "media": media.path,
        "remedy": media.remedy,
        "index": index,
        "thumbnails": [*map(data_address, read_thumbnails(video, options.thumbnails, judged.duration_s))],
    }
    write_page(path, "video", judged.found.video or "Detections", data, media.element, media.source)


def describe(judged: Judged, options: ReportOptions) -> dict[str, Any]:
    """Return what a page shows of the detections of one video, of what JSON holds; detections are best first."""
    found, truth, verdict = judged.found, judged.truth, judged.verdict
    instances = () if truth is None else truth.instances
    rows = _rows(found, [i.label for i in instances])
    place = {name: row for row, name in enumerate(rows)}
    label = np.array([place.get(name, -1) for name in found.classes], np.int64)
    return {
        "video": printable(found.video),
        "model": printable(options.model),
        "version": runtime.__version__,
        "duration": round(judged.duration_s, DIGITS),
        "threshold": options.threshold,
        "tiou": options.tiou,
        "rows": [{"name": printable(name), "colour": hexadecimal(class_colour(name, found.classes))} for name in rows],
        "detections": {
            "row": label[found.labels].tolist(),
            "start": found.segments[:, 0].round(DIGITS).tolist(),
            "end": found.segments[:, 1].round(DIGITS).tolist(),
            "score": found.scores.tolist(),
            "lane": _lanes(found).tolist(),
        }
        | ({} if verdict is None else _verdict_columns(verdict)),
        "kinds": list(KINDS),
        "truth": None
        if truth is None
        else [
            {"row": place[i.label], "start": round(i.start_s, DIGITS), "end": round(i.end_s, DIGITS)} for i in instances
        ],
    }


def _verdict_columns(verdict: VideoVerdict) -> dict[str, Any]:
    return {
        "kind": verdict.kinds.tolist(),
        "truth": verdict.found.tolist(),
        "tiou": verdict.overlaps.round(DIGITS).tolist(),
    }


def _rows(found: Detections, annotated: list[str]) -> list[str]:
    """Return the classes that occur, in the model's order, then those that only the annotation has, by name."""
    named = {found.classes[k] for k in np.unique(found.labels).tolist()} | set(annotated)
    known = [name for name in dict.fromkeys(found.classes) if name in named]
    return known + sorted(named.difference(known))


def _lanes(found: Detections) -> NDArray[np.int64]:
    """Return the lane of each detection among those of its class, [D]; best first, so lower ones move no better one."""
    lanes = np.zeros(len(found), np.int64)
    for label in np.unique(found.labels).tolist():
        mine = np.flatnonzero(found.labels == label)
        free = assign_lanes(found.segments[mine], found.scores[mine], MAX_LANES)
        lanes[mine] = np.where(free < 0, MAX_LANES - 1, free)
    return lanes


def summarise(judged: Judged, page: str, options: ReportOptions) -> dict[str, Any]:
    """Return the line of a video in an index, of what JSON holds: counts at the threshold, and a small timeline.

    `page` is the address of the video's page, beside the index.
    """
    shown = judged.found.scores >= options.threshold
    line: dict[str, Any] = {
        "video": printable(judged.found.video),
        "page": page,
        "duration": round(judged.duration_s, 2),
        "detections": len(judged.found),
        "shown": int(shown.sum()),
        "strip": _strip(judged, shown),
    }
    if judged.truth is None or judged.verdict is None:
        return line
    hits, wrong = judged.verdict.counts(shown)
    missed = len(judged.misses(shown))
    truths = len(judged.truth.instances)
    precision = hits / (hits + wrong) if hits + wrong else None
    recall = hits / truths if truths else None
    both = 2 * hits + wrong + missed
    return line | {
        "truths": truths,
        "hits": hits,
        "wrong": wrong,
        "missed": missed,
        "precision": precision,
        "recall": recall,
        "f1": 2 * hits / both if both else None,
    }


STRIP_BARS = 160
"""Most bars of a small timeline, best first."""


def _strip(judged: Judged, shown: NDArray[np.bool_]) -> list[list[Any]]:
    """Return [start, end as shares of the length, kind of bar] for a small timeline."""
    scale = 1 / judged.duration_s
    best = np.flatnonzero(shown)[:STRIP_BARS]
    kinds = np.full(len(judged.found), NOT_JUDGED) if judged.verdict is None else judged.verdict.kinds
    bars = [
        [round(start * scale, 4), round(end * scale, 4), _bar(kind)]
        for (start, end), kind in zip(judged.found.segments[best].tolist(), kinds[best].tolist(), strict=True)
    ]
    if judged.truth is not None:
        for k in judged.misses(shown)[:STRIP_BARS]:
            instance = judged.truth.instances[k]
            bars.append([round(instance.start_s * scale, 4), round(instance.end_s * scale, 4), "missed"])
    return bars


def _bar(kind: int) -> str:
    return "shown" if kind == NOT_JUDGED else "hit" if kind == HIT else "wrong"
