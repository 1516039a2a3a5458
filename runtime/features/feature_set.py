"""Find the features of a data set's videos, check them against one another, and read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation, load_annotations
from runtime.common.files import PathLike, is_file
from runtime.common.natural_order import natural_key
from runtime.errors import InputError
from runtime.features.description import FEATURES, FeatureDescription, StreamFolder, read_description
from runtime.features.files import FEATURE_SUFFIXES
from runtime.features.scan import find_files, require_folder, require_one, scan_features, stream_folder
from runtime.features.video_features import Features, StepReader, select_streams
from runtime.spec.model import ModelSpec
from runtime.spec.time_axis import TimeAxis


class FeatureSet:
    """Reads the features of the videos of a data set on demand; they are never in memory as a whole."""

    def __init__(
        self,
        description: FeatureDescription,
        root: PathLike,
        videos: Iterable[VideoAnnotation],
        *,
        fold: str = "",
        own_streams: bool = False,
    ) -> None:
        """Find the files of the videos and read their headers.

        Args:
            description: description of the features.
            root: folder that the folders of `description` are relative to.
            videos: annotations of the videos that must have features; their durations and rates are used.
            fold: name of the fold, for features made for every fold.
            own_streams: whether these are the streams that a model takes, in its order; see `Features.own_streams`.

        Raises:
            InputError: a folder or fold is missing, a video's time axis is unknown, or a video has a fault: no file or
                two, unreadable, no steps, streams of different length, another width than the others.
        """
        self.description, self.fold, self._own_streams = description, fold, own_streams
        self._folders = [stream_folder(Path(root), stream, description, fold) for stream in description.streams]
        self._annotations = {video.name: video for video in videos}
        scan = scan_features(description, Path(root), self._annotations.values(), fold=fold)
        faults = scan.missing | scan.faults
        if faults:
            more = f" ({len(faults)} of {len(self._annotations)} videos have a fault)" if len(faults) > 1 else ""
            raise InputError(f"{next(iter(faults.values()))}{more}")
        if not scan.videos:
            raise InputError(f"{root}: no video with features, expected at least one of {len(self._annotations)}")
        self.videos: Mapping[str, StepReader] = scan.videos
        self.widths, self.orders = scan.widths, scan.orders
        self._time_axes = {name: self._time_axis(video) for name, video in self._annotations.items()}

    @property
    def width(self) -> int:
        """Channels C of all streams together."""
        return sum(self.widths)

    def require_width(self, width: int) -> None:
        """Raise an InputError unless the features have `width` channels."""
        if self.width != width:
            parts = " + ".join(map(str, self.widths))
            raise InputError(
                f"{self.description.streams[0].folder}: features of {parts} channels, the model takes {width}; "
                "use the features that the model was trained on, or train it on these"
            )

    def steps(self, video: str) -> int:
        """Return the number of steps T of a video of the set."""
        return self.videos[video].steps

    def time_axis(self, video: str) -> TimeAxis:
        """Return the time axis of a video of the set."""
        return self._time_axes[video]

    def read(self, video: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Read steps start … stop − 1 of a video (as a Python slice): float32 [n,C], finite (else InputError)."""
        return self.videos[video].read(start, stop)

    def find_files(self, video: str) -> list[Path] | None:
        """Return the feature files of any video, one per stream, also of one that is not in the set; None: none."""
        places = zip(self._folders, self.description.streams, strict=True)
        try:
            return [require_one(find_files(folder, stream, video), video) for folder, stream in places]
        except InputError:
            return None

    def features(self, video: str) -> Features:
        """Return the features of a video of the set as `Detector.run` takes them."""
        annotation = self._annotations[video]
        return Features(
            self.videos[video].streams,
            name=video,
            fps=annotation.fps,
            duration_s=annotation.duration_s,
            layout=self.orders,
            uneven=self.description.uneven,
            sampling=self.description.sampling,
            own_streams=self._own_streams,
        )

    def _time_axis(self, video: VideoAnnotation) -> TimeAxis:
        sampling = self.description.sampling
        return sampling.time_axis(video.name, self.steps(video.name), fps=video.fps, duration_s=video.duration_s)


def open_features(
    path: PathLike, *, names: Iterable[str] | None = None, fold: str = "", streams: Sequence[int] = ()
) -> tuple[FeatureSet, tuple[VideoAnnotation, ...]]:
    """Open a feature set and the annotations of its videos, from features.json.

    Args:
        path: path of features.json.
        names: names of the videos wanted, such as one side of a fold; None: all of the annotations.
        fold: see `FeatureSet`.
        streams: numbers of the streams wanted, see `FeatureDescription.take_streams`; none: all.

    Raises:
        InputError: see `read_description` and `FeatureSet`; a name is not annotated.
        AnnotationError: the annotations cannot be read.
    """
    path = Path(path)
    description = read_description(path)
    description = description.take_streams(*streams) if streams else description
    videos = {video.name: video for video in load_annotations(path.parent / description.annotations)}
    wanted = list(videos if names is None else names)
    unknown = [name for name in wanted if name not in videos]
    if unknown:
        raise InputError(
            f"{path}: {unknown[0]!r} is not in the annotations {description.annotations}; correct the name"
        )
    chosen = tuple(videos[name] for name in wanted)
    return FeatureSet(description, path.parent, chosen, fold=fold, own_streams=bool(streams)), chosen


def open_model_features(
    places: Sequence[Path], spec: ModelSpec, videos: Sequence[VideoAnnotation], *, fold: str = ""
) -> FeatureSet:
    """Open the features of annotated videos for a model, from features.json or from plain folders.

    Args:
        places: one features.json, or one folder of <video>.npy or .npz per stream.
        spec: spec of a model on features; plain folders must hold features made as in the model's training set.
        videos: annotations of the videos wanted.
        fold: see `FeatureSet`.

    Raises:
        InputError: see `FeatureSet`; the features have another width or another sampling than the model's.
    """
    if spec.features is None:
        raise InputError(
            f"{places[0]}: features, and the model sees {spec.stream} frames; give it the videos themselves"
        )
    name, described = str(places[0]), places[0].suffix == ".json"
    if described:
        if len(places) > 1:
            raise InputError(f"{name}: got {len(places)} places, expected one features.json, or a folder per stream")
        root, description = places[0].parent, read_description(places[0])
        _require_same_sampling(description, spec, name)
    else:
        root, description = Path(), _describe_folders(places, spec)
    chosen = select_streams(len(description.streams), spec, name, whole_set=described)
    description = replace(description.take_streams(*chosen), width=spec.channels)
    features = FeatureSet(description, root, videos, fold=fold, own_streams=True)
    features.require_width(spec.channels)
    return features


def list_features(
    places: Sequence[Path], spec: ModelSpec, names: Sequence[str] = (), *, fold: str = ""
) -> list[Features]:
    """List the videos of a feature set for a model: the named ones, or all.

    Args:
        places: one features.json, whose annotations name the videos, or one folder of <video>.npy or .npz per stream,
            whose first folder does, in natural order; a file in a folder below it is of a video "day1/cam1".
        spec: spec of a model on features.
        names: names of the videos wanted.
        fold: see `FeatureSet`.

    Raises:
        InputError: a folder is not found or has no feature file, or a video lacks features in one of the folders; of a
            features.json see `open_model_features`.
    """
    if places[0].suffix == ".json":
        annotated = load_annotations(places[0].parent / read_description(places[0]).annotations)
        unknown = sorted(set(names) - {video.name for video in annotated})
        if unknown:
            raise InputError(f"{places[0]}: {unknown[0]!r} is not among the set's annotations; correct the name")
        wanted = [video for video in annotated if not names or video.name in names]
        opened = open_model_features(places, spec, wanted, fold=fold)
        return [opened.features(video.name) for video in wanted]
    if is_file(places[0] / FEATURES):
        raise InputError(f"{places[0]}: got the folder of a feature set, expected its {FEATURES}")
    files = (path for path in require_folder(places[0]).rglob("*") if path.suffix in FEATURE_SUFFIXES)
    there = {path.relative_to(places[0]).with_suffix("").as_posix() for path in files}
    if not there:
        raise InputError(f"{places[0]}: holds no .npy or .npz, expected a feature file per video")
    plain = StreamFolder("")
    return [
        Features([require_one(find_files(require_folder(folder), plain, name), name) for folder in places], name)
        for name in (names or sorted(there, key=natural_key))
    ]


def _describe_folders(folders: Sequence[Path], spec: ModelSpec) -> FeatureDescription:
    """Describe plain folders as features made like those of a model's training set."""
    assert spec.features is not None
    return FeatureDescription(
        annotations="",
        streams=tuple(StreamFolder(str(folder)) for folder in folders),
        sampling=spec.features,
        resize=spec.feature_resize,
        uneven=spec.feature_uneven,
    )


def _require_same_sampling(description: FeatureDescription, spec: ModelSpec, name: str) -> None:
    """Raise an InputError if the sampling differs from that of a model's training set; rates may differ."""
    trained, here = spec.features, description.sampling
    for field in ("stride", "window", "every", "whole_video"):
        if getattr(trained, field) != getattr(here, field):
            raise InputError(
                f"{name}: sampling.{field} is {getattr(here, field)!r}, the model was trained on features with "
                f"{getattr(trained, field)!r}; use the features that the model was trained on, or train it on these"
            )
    if trained is not None and not here.whole_video and trained.middle != here.middle:
        raise InputError(
            f"{name}: the middle of step 0 is frame {here.middle:g}, the model was trained on features with "
            f"{trained.middle:g}; correct sampling.offset"
        )
    if spec.features is not None and description.resize != spec.feature_resize and spec.sampling != "whole_video":
        raise InputError(
            f"{name}: resize is {description.resize}, the model was trained with {spec.feature_resize}; use the "
            "features that the model was trained on, or train it on these"
        )
