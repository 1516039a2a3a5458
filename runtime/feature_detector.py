"""FeatureDetector: the features of a video in, detections out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation
from runtime.decoding.candidates import Candidates
from runtime.decoding.families import decode_window, suppression_of
from runtime.decoding.two_stage import decode_proposals
from runtime.detector import BACKBONE_USE, DetectorOptions, fixed_batch
from runtime.engines import open_engine
from runtime.engines.base import Engine
from runtime.engines.pipeline import infer_in_turn
from runtime.errors import AfsdError, InputError
from runtime.features.files import (
    UNEVEN_STEPS,
    Layout,
    checked_features,
    read_features,
    read_header,
    resized_features,
)
from runtime.features.video_features import FeatureVideo, annotated_feature_videos
from runtime.inputs import feature_inputs
from runtime.kept_candidates import ANCHORS, PLAIN, POINTS, PROPOSALS, VideoCandidates, present
from runtime.results.detections import Detections
from runtime.spec.model import ModelSpec
from runtime.spec.time_axis import FeatureTiming
from runtime.timing import Timing
from runtime.windows import Window, cut_windows

FeatureInput = str | os.PathLike[str] | NDArray[Any]
"""Path of an .npy or .npz, or an array [T,C]."""

Decode = Callable[[Mapping[str, NDArray[Any]], int, Window], Candidates]
"""Raw outputs of a batch and which window of it → candidates of that window."""


class FeatureDetector:
    """Finds actions in the features of videos with one engine of any family; `Detector` does so in frames.

    Give it a path or a loaded engine; it closes only what it opened. Not for concurrent use.
    """

    def __init__(self, engine: str | os.PathLike[str] | Engine, *, options: DetectorOptions | None = None) -> None:
        """Load the engine if a path is given.

        Args:
            engine: of a model on features.
            options: see `DetectorOptions`; those of videos and flow do not count here.

        Raises:
            InputError: a model on frames, or a batch size fixed at another number.
            EngineError, SpecError, MissingDependencyError: see `open_engine`.
        """
        self.options = DetectorOptions() if options is None else options
        self._opened: Engine | None = None
        if isinstance(engine, (str, os.PathLike)):
            engine = self._opened = open_engine(Path(engine))
        self.engine: Engine = engine
        self.spec = engine.spec
        try:
            if self.spec.is_backbone:
                raise InputError(f"the model is a backbone, which detects nothing; {BACKBONE_USE}")
            if self.spec.features is None:
                raise InputError(f"the model sees {self.spec.stream} frames, expected one on features; use Detector")
            self._fixed_batch = fixed_batch(self.spec, self.options.batch_size)
        except AfsdError:
            self.close()
            raise
        self.timing = Timing(self.spec.sample_fps)
        """Where the time of the latest run went."""

    def run(
        self,
        *features: FeatureInput,
        video: str = "",
        fps: float | None = None,
        duration_s: float | None = None,
        layout: Layout | None = None,
    ) -> Detections:
        """Detect in a whole video.

        Args:
            features: every step of the video as the feature set has them (what the model skips is skipped here); one
                file or array per stream, in the order of the training set. A model of some streams alone takes all
                and uses its own, or only its own in its order.
            video: its name; default: the file's.
            fps: frames per second of the video, where the model does not know one for all.
            duration_s: of the video, seconds; detections are cut there, else where the last snippet ends.
            layout: of the arrays; default: whichever has the model's width.

        Raises:
            InputError: features that cannot be read, of another width, with NaN or without a step; an unknown rate.
            EngineError: the network failed or gave NaN.
        """
        name = video or next((Path(part).stem for part in features if not isinstance(part, np.ndarray)), "")
        steps = joined_steps(features, self.spec, name, layout)
        assert self.spec.features is not None
        timing = self.spec.features.timing(name or "features", len(steps), fps=fps, duration_s=duration_s)
        return self.detect(steps, timing, video=name, duration_s=duration_s)

    def run_video(self, video: FeatureVideo) -> Detections:
        """Detect in a whole video whose files, rate and duration are known; errors as in `run`."""
        return self.run(*video.files, video=video.name, fps=video.fps, duration_s=video.duration_s)

    def detect(
        self, steps: NDArray[np.float32], timing: FeatureTiming, *, video: str = "", duration_s: float | None = None
    ) -> Detections:
        """Detect in features that are as the network sees them: joined, skipped and resized.

        Args:
            steps: [T,C], T ≥ 1, finite.
            timing: when in the video they lie.
            video, duration_s: as in `run`.

        Raises:
            EngineError: the network failed or gave NaN.
        """
        end = timing.extent_s(len(steps)) if duration_s is None else duration_s
        found = self._found(steps, replace(self.spec, sample_fps=1 / timing.step_s))
        return present(found, timing.seconds(0.0), end, self.spec.classes, video, self.options.min_score)

    def keep(
        self, steps: NDArray[np.float32], timing: FeatureTiming, *, video: str = "", duration_s: float | None = None
    ) -> VideoCandidates:
        """The candidates of a video before λ and suppression; arguments and errors as in `detect`.

        A2Net's are kept module by module: λ 1 leaves the points alone, λ 0 the anchors. A two-stage detector's
        proposals are kept beside its candidates.
        """
        spec = replace(self.spec, sample_fps=1 / timing.step_s)
        modules = {PLAIN: partial(self._decoded, spec=spec)}
        if (decoding := spec.a2net_decoding) is not None:  # of one window the anchors first, as the decoder gives them
            alone = {m: replace(decoding, balance=b) for m, b in ((ANCHORS, 0.0), (POINTS, 1.0))}
            modules = {m: partial(self._decoded, spec=replace(spec, a2net_decoding=d)) for m, d in alone.items()}
        if spec.two_stage is not None:
            modules[PROPOSALS] = partial(_proposed, spec=spec)
        windows = [
            (offset, module, found)
            for offset, parts in self._windows(steps, spec.sample_fps, list(modules.values()))
            for module, found in zip(modules, parts, strict=True)
        ]
        counts = [len(found) for _, _, found in windows]
        return VideoCandidates(
            video,
            start_s=timing.seconds(0.0),
            end_s=timing.extent_s(len(steps)) if duration_s is None else duration_s,
            step_s=timing.step_s,
            candidates=Candidates.concatenate([found for _, _, found in windows]),
            modules=np.repeat(np.array([module for _, module, _ in windows], np.int8), counts),
            offsets=np.repeat(np.array([offset for offset, _, _ in windows], np.int64), counts),
        )

    def close(self) -> None:
        """Close the engine if this detector opened it."""
        if self._opened is not None:
            self._opened.close()

    def __enter__(self) -> FeatureDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _found(self, steps: NDArray[np.float32], spec: ModelSpec) -> Candidates:
        """Final candidates, in seconds from the edge of the first step."""
        suppression, parts = suppression_of(spec, reference=self.options.nms == "reference"), []
        for offset, (candidates,) in self._windows(steps, spec.sample_fps, [partial(self._decoded, spec=spec)]):
            with self.timing.post():
                parts.append(suppression.push(candidates, offset))
        with self.timing.post():
            return Candidates.concatenate([*parts, suppression.finish()])

    def _windows(
        self, steps: NDArray[np.float32], sample_fps: float, decoders: Sequence[Decode]
    ) -> Iterator[tuple[int, list[Candidates]]]:
        """First step of every window, in order, and what each decoder makes of it."""
        timing = self.timing = Timing(sample_fps, expected_frames=len(steps))
        timing.frames = len(steps)
        for batch, outputs in infer_in_turn(self.engine, self._batches(steps), timing.engine):
            timing.windows += len(batch)
            for index, window in enumerate(batch):
                with timing.post():
                    candidates = [decode(outputs, index, window) for decode in decoders]
                yield window.offset, candidates

    def _decoded(self, outputs: Mapping[str, NDArray[Any]], index: int, window: Window, spec: ModelSpec) -> Candidates:
        reference = self.options.nms == "reference"
        return decode_window(
            outputs,
            index,
            window.offset,
            spec,
            score_threshold=self.options.score_threshold,
            keep_empty=reference,
            length=None if reference else window.length,
        )

    def _batches(self, steps: NDArray[np.float32]) -> Iterator[tuple[list[Window], Mapping[str, NDArray[Any]]]]:
        """Windows in groups of the batch size, with the inputs made of them; the last window fills up a short batch."""
        windows = cut_windows(steps, self.spec.window_length, self.spec.window_stride)
        size = self.options.batch_size
        for first in range(0, len(windows), size):
            batch = windows[first : first + size]
            yield batch, feature_inputs(batch, self._fixed_batch or len(batch))


def _proposed(outputs: Mapping[str, NDArray[Any]], index: int, window: Window, spec: ModelSpec) -> Candidates:
    return decode_proposals(outputs, index, window.offset, spec, window.length)


def joined_steps(
    parts: Sequence[FeatureInput], spec: ModelSpec, name: str, layout: Layout | None = None
) -> NDArray[np.float32]:
    """The features of all streams of a video [T,C], as the network is to see them: joined, skipped, resized.

    Args:
        parts: one file or array per stream.
        spec: of a model on features.
        name: of the video, for errors.
        layout: of the arrays; default: whichever has the model's width.

    Raises:
        InputError: see `FeatureDetector.run`.
    """
    assert spec.features is not None
    if not parts:
        raise InputError("features: got none, expected a file or an array [T,C] per stream")
    parts = _streams(parts, spec, name)
    arrays = [_array(part, spec.channels, layout, alone=len(parts) == 1) for part in parts]
    length = min(map(len, arrays))
    if max(map(len, arrays)) - length > UNEVEN_STEPS:
        lengths = " and ".join(str(len(array)) for array in arrays)
        raise InputError(f"{name}: streams of {lengths} steps, expected at most {UNEVEN_STEPS} of difference")
    joined = np.concatenate([array[:length] for array in arrays], axis=1)
    width, source = spec.channels, name or "features"
    if joined.shape[1] != width:
        raise InputError(
            f"{source}: features of {joined.shape[1]} channels, the model takes {width}; "
            "use the features it was trained on"
        )
    if not length:
        raise InputError(f"{source}: no step of features, expected at least one; extract the features again")
    every = spec.features.every
    checked = checked_features(joined[::every], source, every=every)
    return resized_features(checked, spec.window_length) if spec.sampling == "whole_video" else checked


def _streams(parts: Sequence[FeatureInput], spec: ModelSpec, name: str) -> Sequence[FeatureInput]:
    """Of the streams of the set those that the model was trained on."""
    wanted = spec.feature_streams
    if len(parts) == len(wanted) or not wanted:
        return parts
    if max(wanted) >= len(parts):
        numbers = ", ".join(map(str, wanted))
        raise InputError(
            f"{name or 'features'}: {len(parts)} streams, the model takes those numbered {numbers} (from 0) of its "
            "training set; give all streams of the set, or these alone"
        )
    return [parts[number] for number in wanted]


def _array(part: FeatureInput, width: int, layout: Layout | None, *, alone: bool) -> NDArray[Any]:
    """One stream [T,C]; the axis with the model's width is C where nothing else is said."""
    if isinstance(part, np.ndarray):
        array, shape = part, part.shape
        if part.ndim != 2 or part.dtype.kind not in "fiu":
            raise InputError(f"features: got {part.dtype} {list(shape)}, expected an array of numbers [T,C]")
    else:
        shape, array = read_header(part).shape, read_features(part)
    if layout is None:
        turned = alone and shape[0] == width and shape[1] != width
        layout = "channels_first" if turned else "steps_first"
    return array if layout == "steps_first" else array.T


def detect_annotated_features(
    detector: FeatureDetector, truth: Sequence[VideoAnnotation], folders: Sequence[Path]
) -> list[Detections]:
    """Detections in every annotated video, each named as in the annotations.

    Args:
        detector: finds them.
        truth: the videos; their rates and durations are used, their instances are not looked at.
        folders: of feature files, one per stream.

    Raises:
        InputError: a video without features (before any is run), or see `FeatureDetector.run`.
    """
    return [detector.run_video(video) for video in annotated_feature_videos(folders, truth)]
