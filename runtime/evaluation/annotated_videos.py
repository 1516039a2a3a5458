"""Run a detector on annotated videos, so that its detections can be judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.annotations.activitynet import VideoAnnotation
from runtime.annotations.thumos14 import AMBIGUOUS
from runtime.common.console import ProgressLine, print_warning
from runtime.common.text import some
from runtime.errors import AfsdError, VideoError
from runtime.features.video_features import Video
from runtime.results.detections import Detections
from runtime.results.video_scores import VideoScores
from runtime.spec.model import ModelSpec

if TYPE_CHECKING:
    from runtime.detector import Detector


def detect_annotated(
    detector: Detector,
    truth: Sequence[VideoAnnotation],
    videos: Sequence[Video],
    labels: VideoScores | None = None,
    labels_per_video: int = 1,
    on_failure: Callable[[str, AfsdError], None] | None = None,
    found: list[Detections] | None = None,
) -> list[Detections]:
    """Run a detector on every annotated video and name the detections' videos as in the annotations.

    Args:
        detector: detector to run.
        truth: annotations of the videos; their instances are not used.
        videos: the video files or features, in the order of `truth`.
        labels: video-level scores that name the proposals of a class-agnostic model.
        labels_per_video: number of best classes for each video's proposals.
        on_failure: called with the name and the error of each video that cannot be read; the others continue. None: the
            error is raised.
        found: list to which each video's detections are appended when it is finished; None: a new one.

    Raises:
        VideoError: a video cannot be decoded.
        InputError: a video has no scores (before any is run).
    """
    if labels:
        labels.check(detector.spec.classes, labels_per_video)
        for video in truth:
            labels.require(video.name)
    found = [] if found is None else found
    with ProgressLine() as progress:
        for number, (video, given) in enumerate(zip(truth, videos, strict=True), 1):
            progress.show(f"{video.name} ({number} of {len(truth)})")
            try:
                proposals = detector.run(given)
            except VideoError as error:
                if on_failure is None:
                    raise
                on_failure(video.name, error)
                continue
            if labels:
                proposals = labels.label(replace(proposals, video=video.name), labels_per_video)
            found.append(replace(proposals, video=video.name))
    return found


def warn_unknown(spec: ModelSpec, truth: Sequence[VideoAnnotation]) -> None:
    """Warn of annotated labels that the model lacks; they count as classes of AP 0."""
    labels = {instance.label for video in truth for instance in video.instances} - {AMBIGUOUS}
    unknown = sorted(labels - set(spec.classes))
    if unknown:
        print_warning(
            f"{len(unknown)} of {len(labels)} annotated classes are none of the model's ({some(unknown, 5)}): "
            f"their AP is 0; the model has {some(spec.classes, 5)}"
        )
