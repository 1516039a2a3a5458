"""Read the features of one video: streams joined to one length, every n-th step, resized. The one reader of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import PathLike
from runtime.errors import InputError
from runtime.features.axes import AxisOrder, axis_orders_by_width
from runtime.features.files import FeatureHeader, read_features, read_header, require_finite, resize_steps
from runtime.spec.model import ModelSpec
from runtime.spec.time_axis import FeatureSampling, TimeAxis, Uneven
from runtime.video.names import DIGITS, video_digest

FeatureInput = PathLike | NDArray[Any]
"""Path of an .npy or .npz, or an array [T,C]."""

UNEVEN_STEPS = 2
"""Steps by which the streams of a video may differ in length without being taken for different videos: flow has a
frame less than RGB."""


@dataclass(frozen=True)
class StepReader:
    """Read the steps of one video, as a network sees them.

    An .npy is read slice by slice; an .npz is unpacked whole each time.
    """

    streams: tuple[Path | NDArray[Any], ...]
    """One file or array per stream."""
    orders: tuple[AxisOrder, ...]
    """Axis order of each stream."""
    common: int
    """Steps to which every stream is cut or stretched, before `every` and `resize`."""
    video: str = "features"
    """Names an array in errors; a file is named by its path."""
    stretch: bool = False
    every: int = 1
    """Every n-th step is used."""
    resize: int | None = None
    """The whole video is resized to this many steps."""

    @property
    def steps(self) -> int:
        """T, the number of steps that `read` gives of a whole video."""
        return self.resize or -(-self.common // self.every)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Read steps start … stop − 1 (slices as usual): float32 [n,C], checked to be finite (InputError)."""
        chosen = slice(*slice(start, stop).indices(self.steps))
        parts = [self._read(part, order, chosen) for part, order in zip(self.streams, self.orders, strict=True)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _read(self, part: Path | NDArray[Any], order: AxisOrder, chosen: slice) -> NDArray[np.float32]:
        """Read a slice of one stream: cut or stretched to the common length, every n-th step, then resized."""
        name = self.video if isinstance(part, np.ndarray) else str(part)
        if isinstance(part, np.ndarray):
            features = part if order == "steps_first" else part.T
        else:
            features = read_features(part, order)
        stretched = self.stretch and len(features) != self.common
        if self.resize is None and not stretched:  # the usual way: only what is asked for is read
            return require_finite(features[:: self.every][chosen], name, chosen.start, self.every)
        whole = require_finite(features, name)
        whole = resize_steps(whole, self.common) if stretched else whole[: self.common]
        whole = whole[:: self.every]
        return (whole if self.resize is None else resize_steps(whole, self.resize))[chosen]


@dataclass(frozen=True)
class Features:
    """The features of one video, as `Detector.run` takes them in place of frames."""

    files: FeatureInput | Sequence[FeatureInput]
    """One file .npy or .npz, or one array [T,C], or one of them per stream in the order of the training set: every step
    of the video as the feature set has them (what the model skips is skipped when they are read). A model of some
    streams alone takes all and uses its own, or only its own in its order."""
    name: str = ""
    """Name of the video; empty: the first file's."""
    fps: float | None = None
    """Frames per second of the video, where the model does not know one for all."""
    duration_s: float | None = None
    """Length of the video; detections are cut there, else where the last snippet ends."""
    layout: AxisOrder | tuple[AxisOrder, ...] | None = None
    """Axis order of the arrays, of all streams or one per stream; None: whichever has the model's width, [T,C] where
    both have it."""
    uneven: Uneven | None = None
    """What is done where streams differ in length; None: as in the model's training set."""
    sampling: FeatureSampling | None = None
    """How the features were made; None: as those of the model's training set."""

    def __post_init__(self) -> None:
        files = self.files
        parts = (files,) if isinstance(files, (str, os.PathLike, np.ndarray)) else tuple(files)
        if not parts:
            raise InputError("features: got none, expected a file or an array [T,C] per stream")
        for part in parts:
            if isinstance(part, np.ndarray) and (part.ndim != 2 or part.dtype.kind not in "fiu"):
                raise InputError(f"features: got {part.dtype} {list(part.shape)}, expected an array of numbers [T,C]")
        streams = tuple(part if isinstance(part, np.ndarray) else Path(part) for part in parts)
        object.__setattr__(self, "files", streams)
        if not self.name:
            object.__setattr__(self, "name", next((part.stem for part in self.paths), ""))

    @property
    def streams(self) -> tuple[Path | NDArray[Any], ...]:
        """The files and arrays, one per stream."""
        return self.files  # type: ignore[return-value]  # as __post_init__ has them

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files among the streams."""
        return tuple(part for part in self.streams if isinstance(part, Path))

    def __str__(self) -> str:
        return str(self.paths[0]) if self.paths else self.name or "features"


def open_steps(features: Features, spec: ModelSpec) -> StepReader:
    """Open the features of a video as a model on features sees them.

    Raises:
        InputError: features that cannot be read, of another width, of streams that differ in length or without a step.
    """
    assert spec.features is not None
    name = features.name or "features"
    parts, headers, orders = _model_streams(features, spec, name)
    uneven, sampling = features.uneven or spec.feature_uneven, features.sampling or spec.features
    common = align_streams([h.steps(order) for h, order in zip(headers, orders, strict=True)], uneven, name)
    widths = [header.width(order) for header, order in zip(headers, orders, strict=True)]
    if sum(widths) != spec.channels:
        raise InputError(
            f"{name}: features of {' + '.join(map(str, widths))} channels, the model takes {spec.channels}; "
            "use the features it was trained on"
        )
    if not common:
        raise InputError(f"{name}: no step of features, expected at least one; extract the features again")
    resize = spec.feature_resize or (spec.window_length if spec.sampling == "whole_video" else None)
    return StepReader(parts, orders, common, name, uneven == "stretch", sampling.every, resize)


def find_time_axis(features: Features, spec: ModelSpec, steps: int) -> TimeAxis:
    """Return when in the video the `steps` steps lie that a model sees (InputError: its rate is not known)."""
    sampling = features.sampling or spec.features
    assert sampling is not None
    name = features.name or "features"
    return sampling.time_axis(name, steps, fps=features.fps, duration_s=features.duration_s)


Video = Path | Features
"""A video file, or the features of a video."""


def identify_video(video: Video) -> str:
    """Identify a video by content, whatever its file is called.

    Returns:
        The first 16 digits of its file's SHA-256, or of the hash over those of all its feature files.
    """
    if isinstance(video, Path):
        return video_digest(video)
    digests = [video_digest(path) for path in video.paths]
    return digests[0] if len(digests) == 1 else sha256(" ".join(digests).encode()).hexdigest()[:DIGITS]


def align_streams(steps: Sequence[int], uneven: Uneven, name: str) -> int:
    """Return the number of steps to which streams of these lengths are cut or stretched.

    Raises:
        InputError: they are to be cut and differ by more than UNEVEN_STEPS; `name` is that of the video or its file.
    """
    if uneven == "cut" and max(steps) - min(steps) > UNEVEN_STEPS:
        raise InputError(
            f"{name}: streams of {' and '.join(map(str, steps))} steps, expected at most {UNEVEN_STEPS} of "
            "difference; extract both from the same frames, or stretch them: uneven stretch"
        )
    return min(steps) if uneven == "cut" else max(steps)


def select_streams(given: int, spec: ModelSpec, name: str) -> tuple[int, ...]:
    """Return which of `given` streams a model takes: its own of all streams of the set, or those that are given alone.

    Raises:
        InputError: neither all streams of the set nor the model's alone are given.
    """
    wanted = spec.feature_streams
    if given == len(wanted) or not wanted:
        return tuple(range(given))
    if max(wanted) >= given:
        raise InputError(
            f"{name}: {given} streams, the model takes those numbered {', '.join(map(str, wanted))} (from 0) of its "
            "training set; give all streams of the set, or these alone"
        )
    return wanted


def _model_streams(
    features: Features, spec: ModelSpec, name: str
) -> tuple[tuple[Path | NDArray[Any], ...], list[FeatureHeader], tuple[AxisOrder, ...]]:
    """The streams that a model takes, their headers and axis orders."""
    chosen = select_streams(len(features.streams), spec, name)
    parts = tuple(features.streams[number] for number in chosen)
    headers = [
        FeatureHeader((part.shape[0], part.shape[1]), part.dtype) if isinstance(part, np.ndarray) else read_header(part)
        for part in parts
    ]
    if isinstance(features.layout, tuple):
        return parts, headers, tuple(features.layout[number] for number in chosen)
    if features.layout is not None:
        return parts, headers, (features.layout,) * len(parts)
    fitting = axis_orders_by_width([[header.shape for header in headers]], spec.channels)
    plain: AxisOrder = "steps_first"
    return parts, headers, fitting[0] if len(fitting) == 1 else (plain,) * len(parts)
