"""Annotations in the unit of training, sampled frames or steps of features, from those in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from runtime.annotations.activitynet import VideoAnnotation
from runtime.errors import AnnotationError, InputError
from runtime.features.feature_set import FeatureSet


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
        origin: position of second 0 (features: `TimeAxis.position(0)`).

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


def step_annotations(
    videos: Iterable[VideoAnnotation],
    features: FeatureSet,
    classes: Sequence[str],
    *,
    class_agnostic: bool = False,
) -> list[FrameAnnotation]:
    """Annotations in steps of the features, position x = `TimeAxis.position`; input of `cut_clips`.

    Positions are held within 0 … T: the first and the last snippet's middle lie half a window inside the video.
    Instances of which nothing is left there are left out.

    Args:
        videos: of the set.
        features: of the videos.
        classes: action names; number k (from 0) becomes label k + 1.
        class_agnostic: every label becomes 1.

    Raises:
        AnnotationError: a label that is not among the classes.
        InputError: a video that is not in the set.
    """
    annotated = []
    for video in videos:
        if video.name not in features.videos:
            raise InputError(f"{video.name}: not in the feature set; open the set with this video")
        timing = features.time_axis(video.name)
        along = to_sampled_frames(
            video,
            frames=features.steps(video.name),
            sample_fps=1 / timing.step_s,
            classes=classes,
            class_agnostic=class_agnostic,
            origin=timing.position(0.0),
        )
        annotated.append(_clip(along))
    return annotated


def _clip(video: FrameAnnotation) -> FrameAnnotation:
    """Instances clipped to 0 … T; those without length left out."""
    clipped = (
        replace(instance, start=max(instance.start, 0.0), end=min(instance.end, float(video.frames)))
        for instance in video.instances
    )
    return replace(video, instances=tuple(instance for instance in clipped if instance.end > instance.start))
