"""What quantisation does to detections: against labels where there are any, else against the float network's own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from export.comparison.drift import DriftReport, Recording, compare_recordings, record
from export.graph.carried_spec import read_carried_spec
from export.to_openvino import convert
from runtime.annotations.activitynet import Instance, VideoAnnotation
from runtime.engines import Engine, open_engine
from runtime.errors import InputError
from runtime.evaluation import ACTIVITYNET_TIOUS, THUMOS_TIOUS, evaluate
from runtime.features.video_features import Video
from runtime.results.detections import Detections

OWN_LABELS = 0.5
"""Without labels, detections of the float network count as true from this share of its highest score on."""


@dataclass(frozen=True)
class Judgement:
    """One network on the test videos."""

    map: float
    """Average mAP over the thresholds of the judge, 0 … 1."""
    drift: DriftReport
    """From the float network."""


class Judge:
    """Runs networks on test videos and compares them with the float network, which is run once."""

    def __init__(
        self, reference: Engine, videos: Sequence[Video], truth: Sequence[VideoAnnotation] | None = None
    ) -> None:
        """Run the float network.

        Args:
            reference: the float network.
            videos: test files, or features.
            truth: annotations, one for each of `videos`, in their order; None: none.

        Raises:
            InputError: no video; or without labels the float network finds nothing.
            VideoError, EngineError: see `Detector.run`.
        """
        if not videos:
            raise InputError("judging: got no test videos, expected at least one")
        self.videos = tuple(videos)
        self.labelled = truth is not None
        """Whether mAP is against labels; else it tells how far the float network's detections are found again."""
        whole = reference.spec.sampling == "whole_video"
        self.tious = ACTIVITYNET_TIOUS if whole else THUMOS_TIOUS
        """Thresholds that mAP is averaged over: those of ActivityNet for models of whole videos, else THUMOS14's."""
        self._reference = record(reference, self.videos)
        found = self._reference.detections
        self._truth = tuple(truth) if truth is not None else _own_labels(found)
        self.map = self._map(self._reference)
        """Of the float network."""

    def __call__(self, engine: Engine) -> Judgement:
        """Judge a network."""
        recording = record(engine, self.videos)
        return Judgement(self._map(recording), compare_recordings(self._reference, recording))

    def _map(self, recording: Recording) -> float:
        named = [
            replace(detections, video=video.name)
            for detections, video in zip(recording.detections, self._truth, strict=True)
        ]
        return float(evaluate(named, self._truth, self.tious).average)


def open_graph(graph: onnx.ModelProto) -> Engine:
    """An engine of a graph that is no file: in OpenVINO where it is installed and can, else in ONNX Runtime."""
    spec = read_carried_spec(graph, "the graph")
    with tempfile.TemporaryDirectory(prefix="afsd-") as folder:
        if spec.precision != "fp8" and has_openvino():
            path = Path(folder) / "graph.xml"
            convert(graph, spec, path)
            return open_engine(path)
        path = Path(folder) / "graph.onnx"
        onnx.save(graph, path)
        return open_engine(path)


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    try:
        import openvino  # noqa: F401
    except ImportError:
        return False
    return True


def _own_labels(found: Sequence[Detections]) -> tuple[VideoAnnotation, ...]:
    """The float network's best detections as labels."""
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
