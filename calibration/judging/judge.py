"""Judge a quantised network's detections against labels, or without labels against the float network's detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from export.comparison.drift import DriftReport, Recording, compare_recordings, record
from export.graph.carried_spec import read_carried_spec
from export.graph.files import save_graph
from export.to_openvino import convert
from runtime.annotations.activitynet import Instance, VideoAnnotation
from runtime.common.temporaries import scratch_folder
from runtime.engines import Engine, open_engine
from runtime.errors import InputError
from runtime.evaluation import ACTIVITYNET_TIOUS, THUMOS_TIOUS, evaluate
from runtime.features.video_features import Video
from runtime.results.detections import Detections

OWN_LABELS = 0.5
"""Share of the float network's highest score from which its detections serve as labels where there are no others."""


@dataclass(frozen=True)
class Judgement:
    """Holds the accuracy of one network on the test videos."""

    map: float
    """Average mAP over the tIoU thresholds of the judge, 0 … 1."""
    drift: DriftReport
    """Drift of outputs and detections from the float network."""


class Judge:
    """Runs networks on test videos and compares them with the float network, which is run once."""

    def __init__(
        self, reference: Engine, videos: Sequence[Video], truth: Sequence[VideoAnnotation] | None = None
    ) -> None:
        """Run the float network on the test videos.

        Args:
            reference: engine of the float network.
            videos: video files, or features.
            truth: annotations of the videos in the order of `videos`; None: no labels.

        Raises:
            InputError: no video; or no labels, and the float network finds nothing.
            VideoError, EngineError: see `Detector.run`.
        """
        if not videos:
            raise InputError("judging: got no test videos, expected at least one")
        self.videos = tuple(videos)
        self.labelled = truth is not None
        """Whether mAP is measured against labels; otherwise against the float network's detections."""
        whole = reference.spec.sampling == "whole_video"
        self.tious = ACTIVITYNET_TIOUS if whole else THUMOS_TIOUS
        """tIoU thresholds that mAP is averaged over: ActivityNet's for models of whole videos, else THUMOS14's."""
        self._reference = record(reference, self.videos)
        found = self._reference.detections
        self._truth = tuple(truth) if truth is not None else _make_labels(found)
        self.map = self._map(self._reference)
        """Average mAP of the float network, 0 … 1."""

    def __call__(self, engine: Engine) -> Judgement:
        """Run a network on the test videos and judge it."""
        recording = record(engine, self.videos)
        return Judgement(self._map(recording), compare_recordings(self._reference, recording))

    def _map(self, recording: Recording) -> float:
        named = [
            replace(detections, video=video.name)
            for detections, video in zip(recording.detections, self._truth, strict=True)
        ]
        return float(evaluate(named, self._truth, self.tious).average)


def open_graph(graph: onnx.ModelProto) -> Engine:
    """Open a graph in memory as an engine: in OpenVINO if installed and able to run the graph, else in ONNX Runtime."""
    spec = read_carried_spec(graph, "the graph")
    with scratch_folder() as folder:
        if spec.precision != "fp8" and has_openvino():
            path = folder / "graph.xml"
            convert(graph, spec, path)
            return open_engine(path)
        path = folder / "graph.onnx"
        save_graph(graph, path)
        return open_engine(path)


def has_openvino() -> bool:
    """Return whether OpenVINO is installed."""
    try:
        import openvino  # noqa: F401
    except ImportError:
        return False
    return True


def _make_labels(found: Sequence[Detections]) -> tuple[VideoAnnotation, ...]:
    """Make labels from the float network's best detections."""
    best = max((float(detections.scores.max(initial=0)) for detections in found), default=0.0)
    if best == 0:
        raise InputError("judging: the float network finds nothing in the test videos; give videos with actions")
    videos = []
    for number, detections in enumerate(found):
        sure = detections.take(np.flatnonzero(detections.scores >= OWN_LABELS * best))
        instances = tuple(
            Instance(float(start), float(end), sure.classes[label])
            for (start, end), label in zip(sure.segments, sure.labels, strict=True)
        )
        videos.append(VideoAnnotation(f"{number} {detections.video}", "", None, None, instances))
    return tuple(videos)
