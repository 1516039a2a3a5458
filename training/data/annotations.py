"""Annotations in the unit of training, sampled frames or steps of features, from those in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.annotations.activitynet import VideoAnnotation
from runtime.errors import AnnotationError


@dataclass(frozen=True)
class FrameInstance:
    """One action from `start` to `end` in (fractional) sampled frames or steps; `label` is the class, 1 … K−1."""

    start: float
    end: float
    label: int

    @property
    def length(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class FrameAnnotation:
    """A video as training sees it: `frames` sampled frames, or steps, and its instances in the annotations' order."""

    name: str
    frames: int
    instances: tuple[FrameInstance, ...]


def to_sampled_frames(
    video: VideoAnnotation,
    *,
    frames: int,
    sample_fps: float,
    classes: Sequence[str],
    class_agnostic: bool = False,
    origin: float = 0.0,
) -> FrameAnnotation:
    """Seconds × sample_fps + origin; instances without length are left out, as no location could be matched to them.

    Args:
        frames: number of sampled frames of the video.
        sample_fps: frames, or steps of features, per second.
        classes: action names; number k (from 0) becomes label k + 1.
        class_agnostic: every label becomes 1, whatever its name.
        origin: position of second 0 (features: `FeatureTiming.position(0)`).

    Raises:
        AnnotationError: a label that is not among the classes.
    """
    index = {name: k + 1 for k, name in enumerate(classes)}
    unknown = sorted({i.label for i in video.instances} - index.keys())
    if unknown and not class_agnostic:
        raise AnnotationError(f"{video.name}: label {unknown[0]!r} is not one of the classes {', '.join(classes)}")
    instances = tuple(
        FrameInstance(
            i.start_s * sample_fps + origin, i.end_s * sample_fps + origin, 1 if class_agnostic else index[i.label]
        )
        for i in video.instances
        if i.end_s > i.start_s
    )
    return FrameAnnotation(video.name, frames, instances)
