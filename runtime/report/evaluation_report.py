"""Write the report of an evaluation: an index with its figures, and a page for each annotated video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from runtime.annotations.activitynet import VideoAnnotation
from runtime.evaluation.durations import A2NET_EDGES
from runtime.evaluation.matching import judged_classes, judged_detections
from runtime.evaluation.mean_ap import THUMOS_TIOUS, evaluate
from runtime.report.figures import describe_evaluation
from runtime.report.folder import ReportFolder
from runtime.report.options import ReportOptions
from runtime.results.detections import Detections


def write_evaluation_report(
    folder: Path,
    found: Sequence[Detections],
    truth: Sequence[VideoAnnotation],
    options: ReportOptions,
    *,
    videos: Mapping[str, Path] | None = None,
    tious: Sequence[float] = THUMOS_TIOUS,
    edges: Sequence[float] = A2NET_EDGES,
    classes: tuple[str, ...] | None = None,
    title: str = "Evaluation",
    on_page: Callable[[str, int], object] = lambda name, number: None,
) -> Path:
    """Write index and pages, each atomically, and return the path of the index.

    Args:
        folder: folder of the pages.
        found: detections, per video.
        truth: annotations of the videos of one subset.
        options: options of the report.
        videos: files of the videos, by their names in `truth`; pages of the others have no video.
        tious: thresholds of the mAP.
        edges: edges of the durations in seconds.
        classes: classes of the model, in whose order lanes stand and colours are given; None: all labels, sorted, since
            files of detections do not say them.
        title: title of the index.
        on_page: function called before each page with the name of the video and its number, from 1.

    Raises:
        InputError, AnnotationError: see `evaluate`; a video is too large to be embedded, or its name is none that a
            file can have.
        VideoError: a file of `videos` is not there.
        OSError: a file cannot be read or written.
    """
    if classes is None:
        classes = tuple(sorted(set(judged_classes(truth)).union(*(part.classes for part in found))))
    found = [_renumber(part, classes) for part in found]
    result = evaluate(found, truth, tious, rule=options.rule)
    figures = describe_evaluation(result, found, truth, options, classes, edges)
    of_video = {part.video: part for part in judged_detections(found, truth)}
    report = ReportFolder(folder, options, judged_classes(truth))
    for number, video in enumerate(truth, 1):
        on_page(video.name, number)
        detections = of_video.get(video.name, Detections.empty(classes, video.name))
        file = None if videos is None else videos.get(video.name)
        report.add(report.page_of(video.name), detections, video=file, truth=video)
    return report.write_index(figures, title)


def _renumber(found: Detections, classes: tuple[str, ...]) -> Detections:
    """Return the detections with the classes in another order; classes that are not among them follow."""
    order = classes + tuple(name for name in found.classes if name not in classes)
    place = np.array([order.index(name) for name in found.classes], np.int32)
    return replace(found, classes=order, labels=place[found.labels])
