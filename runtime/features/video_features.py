"""Read the features of one video: join the streams, use every n-th step, resize. All packages read features here."""

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

StreamFeatures = PathLike | NDArray[Any]
"""Features of one stream: path of an .npy or .npz, or an array [T,C]."""

UNEVEN_STEPS = 2
"""Largest difference in steps between the streams of one video that are cut to one length: flow has one frame less than
RGB."""


@dataclass(frozen=True)
class StepReader:
    """Reads the steps of one video as a network sees them.

    An .npy is read slice by slice; an .npz is unpacked completely for each read.
    """

    streams: tuple[Path | NDArray[Any], ...]
    """File or array of each stream."""
    orders: tuple[AxisOrder, ...]
    """Axis order of each stream."""
    common: int
    """Number of steps to which every stream is cut or stretched, before `every` and `resize`."""
    video: str = "features"
    """Name of arrays in errors; files are named by their path."""
    stretch: bool = False
    """Whether streams are stretched to the common length; else they are cut."""
    every: int = 1
    """Use every n-th step."""
    resize: int | None = None
    """Number of steps to which the whole video is resized; None: not resized."""

    @property
    def steps(self) -> int:
        """Number of steps T that `read` returns for the whole video."""
        return self.resize or -(-self.common // self.every)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Read steps start … stop − 1 (as a Python slice): float32 [n,C], checked to be finite (InputError)."""
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
        if self.resize is None and not stretched:  # the usual case: read only the slice
            return require_finite(features[:: self.every][chosen], name, chosen.start, self.every)
        whole = require_finite(features, name)
        whole = resize_steps(whole, self.common) if stretched else whole[: self.common]
        whole = whole[:: self.every]
        return (whole if self.resize is None else resize_steps(whole, self.resize))[chosen]


@dataclass(frozen=True)
class Features:
    """Holds the features of one video, as input of `Detector.run` in place of frames."""

    files: StreamFeatures | Sequence[StreamFeatures]
    """Features of all steps: one .npy, .npz or array [T,C], or one per stream in the order of the training set. Steps
    that the model skips are skipped when they are read. For a model trained on some of the streams, give all streams
    of the set, or only the model's in its order; as many as the set has are taken for the set's own order."""
    name: str = ""
    """Name of the video; empty: the stem of the first file."""
    fps: float | None = None
    """Frames per second of the video; needed unless the model has one rate for all videos."""
    duration_s: float | None = None
    """Length of the video in seconds, where detections are cut; None: they are cut where the last snippet ends."""
    layout: AxisOrder | tuple[AxisOrder, ...] | None = None
    """Axis order of the arrays, of all streams or one per stream; None: the order with the model's width, [T,C] where
    both have it."""
    uneven: Uneven | None = None
    """Treatment of streams that differ in length; None: as in the model's training set."""
    sampling: FeatureSampling | None = None
    """Sampling of the features; None: as in the model's training set."""
    own_streams: bool = False
    """Whether the files are the streams that the model takes, in the model's order, in place of the set's."""

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
        self._check_layout(len(streams))
        if not self.name:
            object.__setattr__(self, "name", next((part.stem for part in self.paths), ""))

    def _check_layout(self, streams: int) -> None:
        if isinstance(self.layout, list):
            object.__setattr__(self, "layout", tuple(self.layout))
        given = self.layout if isinstance(self.layout, tuple) else (self.layout,) * streams
        if len(given) != streams or any(order not in (None, "steps_first", "channels_first") for order in given):
            raise InputError(
                f"layout: got {self.layout!r}, expected 'steps_first' or 'channels_first', or one for each of {streams}"
            )

    @property
    def streams(self) -> tuple[Path | NDArray[Any], ...]:
        """File or array of each stream."""
        return self.files  # type: ignore[return-value]  # normalised in __post_init__

    @property
    def paths(self) -> tuple[Path, ...]:
        """Paths of the streams that are files."""
        return tuple(part for part in self.streams if isinstance(part, Path))

    def __str__(self) -> str:
        return str(self.paths[0]) if self.paths else self.name or "features"


def open_steps(features: Features, spec: ModelSpec) -> StepReader:
    """Open the features of a video as a model on features sees them.

    Raises:
        InputError: the features cannot be read, have another width, streams that differ in length, or no step.
    """
    assert spec.features is not None
    name = features.name or "features"
    parts, headers, orders = _model_streams(features, spec, name)
    uneven, sampling = features.uneven or spec.feature_uneven, features.sampling or spec.features
    steps = [header.steps(order) for header, order in zip(headers, orders, strict=True)]
    common = align_streams(steps, uneven, name)
    widths = [header.width(order) for header, order in zip(headers, orders, strict=True)]
    if sum(widths) != spec.channels:
        raise InputError(
            f"{name}: features of {' + '.join(map(str, widths))} channels, the model takes {spec.channels}; "
            "use the features that the model was trained on"
        )
    if not min(steps):
        raise InputError(f"{name}: no step of features, expected at least one; extract the features again")
    resize = spec.feature_resize or (spec.window_length if spec.sampling == "whole_video" else None)
    return StepReader(parts, orders, common, name, uneven == "stretch", sampling.every, resize)


def find_time_axis(features: Features, spec: ModelSpec, steps: int) -> TimeAxis:
    """Return the time axis of the `steps` steps of a video that a model sees (InputError: the rate is not known)."""
    sampling = features.sampling or spec.features
    assert sampling is not None
    name = features.name or "features"
    return sampling.time_axis(name, steps, fps=features.fps, duration_s=features.duration_s)


Video = Path | Features
"""A video as a file or as its features."""


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
        InputError: streams to be cut differ by more than UNEVEN_STEPS; the error begins with `name`.
    """
    if uneven == "cut" and max(steps) - min(steps) > UNEVEN_STEPS:
        raise InputError(
            f"{name}: streams of {' and '.join(map(str, steps))} steps, expected a difference of at most "
            f"{UNEVEN_STEPS}; extract both from the same frames, or stretch them: uneven stretch"
        )
    return min(steps) if uneven == "cut" else max(steps)


def select_streams(given: int, spec: ModelSpec, name: str, *, whole_set: bool = False) -> tuple[int, ...]:
    """Return the numbers of the streams that a model takes, out of `given` streams.

    Args:
        given: number of streams.
        spec: spec of a model on features.
        name: names the streams in errors.
        whole_set: whether these are known to be all streams of a set; else as many as the model takes may be the
            model's own, unless the model takes all streams in another order than the set's.

    Raises:
        InputError: `given` is neither the number of streams of the training set nor that of the model's streams.
    """
    wanted = spec.feature_streams
    own = not whole_set and given == len(wanted) and sorted(wanted) != list(range(given))
    if own or not wanted:
        return tuple(range(given))
    if max(wanted) >= given:
        raise InputError(
            f"{name}: {given} streams, the model takes those numbered {', '.join(map(str, wanted))} (from 0) of its "
            "training set; give all streams of the set, or only these"
        )
    return wanted


def _model_streams(
    features: Features, spec: ModelSpec, name: str
) -> tuple[tuple[Path | NDArray[Any], ...], list[FeatureHeader], tuple[AxisOrder, ...]]:
    """Return the streams that a model takes, their headers and axis orders."""
    given = len(features.streams)
    chosen = tuple(range(given)) if features.own_streams else select_streams(given, spec, name)
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
