"""Run an engine on the annotated videos, or on their features, for `afsd evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from runtime.annotations.activitynet import VideoAnnotation
from runtime.commands.evaluation.report import videos_folder
from runtime.commands.evaluation.seen_videos import check_unseen, warn_of_other_features
from runtime.commands.flags.checks import refuse_flags
from runtime.commands.flags.reading import reading_options
from runtime.common.console import print_error, print_warning
from runtime.common.text import counted
from runtime.errors import AfsdError, InputError, VideoError
from runtime.evaluation.annotated_videos import detect_annotated, warn_unknown
from runtime.features.video_features import Video
from runtime.results.detections import Detections
from runtime.results.video_scores import load_video_scores
from runtime.video.names import find_video


def run_engine(
    arguments: argparse.Namespace, truth: Sequence[VideoAnnotation], found: list[Detections]
) -> Collection[str]:
    """Run an engine on the annotated videos, or on their features; report and leave out those that cannot be read.

    The detections of each video are appended to `found` when the video is finished; returned are those that failed.
    """
    from runtime.annotations.video_rates import warn_of_other_rates
    from runtime.detector import Detector, DetectorOptions
    from runtime.features.feature_set import open_model_features

    if arguments.features and (arguments.flow_engine or arguments.videos):
        raise InputError("--features: leave out --videos and --flow-engine, which are of models on frames")
    if arguments.features:
        refuse_flags(arguments, ("--reader", "--allow-truncated", "--flow-method"), "no video is read with --features")
    labels = load_video_scores(arguments.video_scores) if arguments.video_scores else None
    options = DetectorOptions(nms=arguments.nms, flow_method=arguments.flow_method, **reading_options(arguments))
    with Detector(arguments.detections, flow_engine=arguments.flow_engine, options=options) as detector:
        if detector.spec.operating_point is not None:
            arguments.shown_from = detector.spec.operating_point.threshold
        if detector.spec.stream == "rgb" and not arguments.flow_engine:
            refuse_flags(arguments, ("--flow-method",), f"{arguments.detections} sees no flow")
        on_features = detector.spec.features is not None
        if on_features != bool(arguments.features):
            needed = "--features PLACE" if on_features else "--videos DIR, and no --features"
            raise InputError(f"{arguments.detections}: the model sees {detector.spec.stream}; give {needed}")
        videos: list[Video]
        if arguments.features:
            fold = arguments.feature_fold or arguments.fold
            opened = open_model_features(arguments.features, detector.spec, truth, fold=fold)
            warn_of_other_features(detector.spec, opened)
            videos = [opened.features(video.name) for video in truth]
        else:
            files = _find_all_videos(videos_folder(arguments), truth)
            warn_of_other_rates(truth, files)
            videos = list(files)
        judged = {annotated.name: video for annotated, video in zip(truth, videos, strict=True)}
        check_unseen(detector.spec, judged, force=arguments.force)
        if labels is None:
            warn_unknown(detector.spec, truth)
        failed: dict[str, AfsdError] = {}
        detect_annotated(
            detector, truth, videos, labels, arguments.labels_per_video, on_failure=failed.__setitem__, found=found
        )
    for error in failed.values():
        print_error(error)
    if failed and not found:
        raise VideoError("none of the videos could be read, so there is nothing to judge")
    if failed:
        print_warning(
            f"{len(failed)} of {counted(len(truth), 'video')} could not be read; the result is that of the others"
        )
    return failed


def _find_all_videos(folder: Path, truth: Sequence[VideoAnnotation]) -> list[Path]:
    """Return the files of the annotated videos, in their order (VideoError: some are not in the folder)."""
    files, faults = [], []
    for video in truth:
        try:
            files.append(find_video(folder, video.name))
        except VideoError as error:
            faults.append(error)
    if faults:
        count = f"; {len(faults)} of {counted(len(truth), 'video')} are missing" if len(faults) > 1 else ""
        raise VideoError(f"{faults[0]}{count}; --videos DIR says where they are, --subset which are judged")
    return files
