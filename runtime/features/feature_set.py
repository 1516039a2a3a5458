"""The features of a data set's videos: found, checked against one another, and read step by step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation, load_annotations
from runtime.errors import InputError
from runtime.features.description import FeatureSource, read_source
from runtime.features.files import checked_features, read_features, resized_features
from runtime.features.scan import VideoFeatures, scan_features
from runtime.spec.time_axis import FeatureTiming

Missing = Literal["refuse", "skip"]
"""Videos without features: an error, or left out without a word (ActionFormer)."""


class FeatureSet:
    """The features of the videos of a data set, read when asked for: never in memory as a whole.

    An .npy is read slice by slice; an .npz is unpacked whole each time.
    """

    def __init__(
        self,
        source: FeatureSource,
        root: str | os.PathLike[str],
        videos: Iterable[VideoAnnotation],
        *,
        fold: str = "",
        missing: Missing = "refuse",
    ) -> None:
        """Find the files of the videos and read what their headers say.

        Args:
            source: what the features are.
            root: folder that the folders of `source` are relative to.
            videos: those that are to have features; their durations and rates are used.
            fold: name of the fold, for features made for every fold.
            missing: see `Missing`.

        Raises:
            InputError: a folder or a fold is missing, or the first video with a fault: no file or two, unreadable, no
                steps, streams of different length, another width than the others. A video with unknown timing.
        """
        self.source, self.fold = source, fold
        self._annotations = {video.name: video for video in videos}
        scan = scan_features(source, Path(root), self._annotations.values(), fold=fold)
        self.missing = tuple(scan.missing) if missing == "skip" else ()
        """Videos left out for want of a file."""
        faults = scan.faults if missing == "skip" else scan.missing | scan.faults
        if faults:
            more = f" ({len(faults)} of {len(self._annotations)} videos have a fault)" if len(faults) > 1 else ""
            raise InputError(f"{next(iter(faults.values()))}{more}")
        if not scan.videos:
            raise InputError(f"{root}: no video with features, expected at least one of {len(self._annotations)}")
        self.videos: Mapping[str, VideoFeatures] = scan.videos
        self.widths, self.layouts = scan.widths, scan.layouts
        self._timings = {name: self._timing(name) for name in self.videos}

    @property
    def width(self) -> int:
        """C, channels of all streams together."""
        return sum(self.widths)

    def require_width(self, width: int) -> None:
        """InputError unless a network that takes `width` channels fits."""
        if self.width != width:
            parts = " + ".join(map(str, self.widths))
            raise InputError(
                f"{self.source.streams[0].folder}: features of {parts} channels, the model takes {width}; "
                "use the features it was trained on, or train it on these"
            )

    def steps(self, video: str) -> int:
        """T of a video of the set."""
        return self.videos[video].steps

    def timing(self, video: str) -> FeatureTiming:
        """How the steps of a video of the set lie in time."""
        return self._timings[video]

    def read(self, video: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Steps start … stop − 1 of a video (slices as usual): float32 [n,C], checked to be finite (InputError)."""
        files = self.videos[video]
        chosen = slice(*slice(start, stop).indices(files.steps))
        parts = [self._read(path, index, files, chosen) for index, path in enumerate(files.paths)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _read(self, path: Path, stream: int, files: VideoFeatures, chosen: slice) -> NDArray[np.float32]:
        """A slice of one stream: cut or stretched to the common length, every so many-th step, then resized."""
        features, every = read_features(path, self.layouts[stream]), self.source.sampling.every
        resize = self.source.resize
        stretched = self.source.uneven == "stretch" and len(features) != files.common
        if resize is None and not stretched:  # the usual way: only what is asked for is read
            return checked_features(features[::every][chosen], str(path), chosen.start, every)
        whole = checked_features(features, str(path))
        whole = resized_features(whole, files.common) if stretched else whole[: files.common]
        whole = whole[::every]
        return (whole if resize is None else resized_features(whole, resize))[chosen]

    def _timing(self, name: str) -> FeatureTiming:
        video = self._annotations[name]
        return self.source.sampling.timing(name, self.steps(name), fps=video.fps, duration_s=video.duration_s)


def open_features(
    description: str | os.PathLike[str],
    *,
    names: Iterable[str] | None = None,
    fold: str = "",
    missing: Missing = "refuse",
    streams: Sequence[int] = (),
) -> tuple[FeatureSet, tuple[VideoAnnotation, ...]]:
    """A feature set and the annotations of its videos, from features.json.

    Args:
        description: path of features.json.
        names: the videos wanted, such as one side of a fold; None: all of the annotations.
        fold: see `FeatureSet`.
        missing: see `Missing`; videos that are skipped are not among the annotations returned.
        streams: those wanted, see `FeatureSource.of_streams`; none: all.

    Raises:
        InputError: see `read_source` and `FeatureSet`; a name that is not annotated.
        AnnotationError: the annotations cannot be read.
    """
    path = Path(description)
    source = read_source(path)
    source = source.of_streams(*streams) if streams else source
    videos = {video.name: video for video in load_annotations(path.parent / source.annotations)}
    wanted = list(videos if names is None else names)
    unknown = [name for name in wanted if name not in videos]
    if unknown:
        raise InputError(f"{path}: {unknown[0]!r} is not in the annotations {source.annotations}; correct the name")
    features = FeatureSet(source, path.parent, [videos[name] for name in wanted], fold=fold, missing=missing)
    return features, tuple(videos[name] for name in wanted if name in features.videos)
