"""Convert annotations from seconds to the unit of training, sampled frames or steps of features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from runtime.annotations.activitynet import VideoAnnotation
from runtime.errors import AnnotationError, InputError
from runtime.features.feature_set import FeatureSet


@dataclass(frozen=True)
class FrameInstance:
    """Describes one action from `start` to `end` in (fractional) sampled frames or steps; `label` is the class, 1 …
    K−1."""

    start: float
    end: float
    label: int

    @property
    def length(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class FrameAnnotation:
    """Describes a video in training: `frames` sampled frames or steps, and its instances in the annotations' order."""

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
    """Convert a video's times to seconds × sample_fps + origin; instances without length are left out.

    Args:
        frames: number of sampled frames, or steps, of the video.
        sample_fps: frames, or steps of features, per second.
        classes: action names; class k (from 0) becomes label k + 1.
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
    """Convert annotations to steps of the features, position x = `TimeAxis.position`, for `cut_clips`.

    Positions are clipped to 0 … T: the first and the last snippet's middle lie half a window inside the video.
    Instances that have no length after that are left out.

    Args:
        videos: videos of the feature set.
        features: features of these videos.
        classes: action names; class k (from 0) becomes label k + 1.
        class_agnostic: every label becomes 1.

    Raises:
        AnnotationError: a label that is not among the classes.
        InputError: a video that is not in the set.
    """
    annotated = []
    for video in videos:
        if video.name not in features.videos:
            raise InputError(f"{video.name}: not in the feature set; open the set with this video")
        time_axis = features.time_axis(video.name)
        along = to_sampled_frames(
            video,
            frames=features.steps(video.name),
            sample_fps=1 / time_axis.step_s,
            classes=classes,
            class_agnostic=class_agnostic,
            origin=time_axis.position(0.0),
        )
        annotated.append(_clip(along))
    return annotated


def _clip(video: FrameAnnotation) -> FrameAnnotation:
    """Clip instances to 0 … T and leave out those without length."""
    clipped = (
        replace(instance, start=max(instance.start, 0.0), end=min(instance.end, float(video.frames)))
        for instance in video.instances
    )
    return replace(video, instances=tuple(instance for instance in clipped if instance.end > instance.start))
