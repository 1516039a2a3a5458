"""Turn a detector's input into windows for its engine: frames, features, or frames through a backbone.

All three implement one protocol, `Input`, so that the detector's loop is independent of the kind of input.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.decoding.candidates import Candidates
from runtime.engines.base import Arrays
from runtime.engines.streaming import StreamingEngine
from runtime.errors import InputError
from runtime.features.extractor import FeatureExtractor
from runtime.features.files import FEATURE_SUFFIXES
from runtime.features.stored import fetch_features
from runtime.features.video_features import Features, find_time_axis, open_steps
from runtime.results.facts import VideoFacts
from runtime.segments import valid_segments
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import LIVE_CHUNK, STREAMING_CHUNK
from runtime.streaming.frames_to_windows import FramesToWindows
from runtime.streaming.windows import FeatureWindow
from runtime.timing import Timing
from runtime.video.flow import FlowMethod
from runtime.video.readers.base import Reader
from runtime.video.readers.choice import ReaderName
from runtime.video.rgb_and_flow import RGB_CHANNELS, FlowSource, open_streams
from runtime.video.sampling import FrameStream, FrameTiming
from runtime.video.sources import FrameSource, is_remote
from runtime.windows import Window, WindowBuffer, cut_windows

AnyWindow = Window | FeatureWindow
"""Window of frames or steps, or of a streaming backbone's features."""

Progress = Callable[[Timing], None]
"""Function called after each batch of windows, and of a backbone's snippets."""


class Input(Protocol):
    """Provides one video as windows for an engine."""

    @property
    def name(self) -> str:
        """Name of the video; empty if unknown."""
        ...

    @property
    def rate(self) -> float:
        """Frames or steps per second of the windows."""
        ...

    @property
    def endless(self) -> bool | None:
        """Whether the source has no end, as a camera's; None: nobody knows."""
        ...

    @property
    def timing(self) -> Timing:
        """Timing of this video, updated while it is read."""
        ...

    def windows(self, on_progress: Progress | None = None) -> Iterator[AnyWindow | None]:
        """Yield each window as soon as it is complete; None: the next frame is not ready.

        Raises:
            VideoError: after the last window, if the video broke off; what was read before is whole.
        """
        ...

    def place(self, candidates: Candidates) -> Candidates:
        """Return final candidates in seconds of the video, cut to its length."""
        ...

    def facts(self) -> VideoFacts:
        """Return what is known of the video itself, as far as it was read."""
        ...

    def close(self) -> None:
        """Stop reading and release the video; safe to call more than once."""
        ...


def open_input(
    source: FrameSource | Features | Reader,
    spec: ModelSpec,
    *,
    extractor: FeatureExtractor | None = None,
    streaming: StreamingEngine | None = None,
    flow: FlowSource | None = None,
    flow_method: FlowMethod = "auto",
    fps: float | None = None,
    batch_size: int = 1,
    allow_truncated: bool = False,
    frame_timing: FrameTiming = "presented",
    reader: ReaderName = "auto",
    chunk: int | None = None,
    prompt: bool = False,
) -> Input:
    """Open a video for a model.

    Args:
        source: frames in any form (see `open_frames`), also an open reader of them; for a model on features also
            `Features`, a path of an .npy or .npz, or an array [T,C].
        spec: the model's.
        extractor: backbones that make the features of a model on features from frames.
        streaming: engine of a streaming network, whose backbone takes the frames.
        flow, flow_method, fps, allow_truncated, frame_timing, reader: see `open_streams`.
        batch_size: number of windows per call of the engine.
        chunk: number of frames at a time in which the input hands over the frames themselves (`ChunkInput`), for a
            caller that runs the streaming network; None: windows.
        prompt: whether a streaming network takes the short chunks of live sources, whatever the source.

    Raises:
        VideoError, InputError, MissingDependencyError: see `open_streams`, `open_steps` and `find_time_axis`; features
            were given to a model on frames, or frames to a model on features without a backbone.
    """
    if spec.features is None and isinstance(source, Features):
        raise InputError(f"{source}: features, and the model sees {spec.stream} frames; give it the video itself")
    features = None if spec.features is None else _as_features(source, fps)
    if features is not None:
        return FeatureInput(features, spec)
    if spec.features is not None and extractor is None:
        raise InputError(
            f"{_shown(source)}: the model sees features, not frames; give it the features of the video (.npy, .npz, or "
            "Features(…)), or the backbone that makes them: Detector(model, backbone=…), --backbone"
        )
    seen = spec if extractor is None else extractor.spec
    timing = Timing(seen.sample_fps)
    stream = open_streams(
        source,  # type: ignore[arg-type]  # features have been handled above
        seen,
        timing,
        flow=flow,
        flow_method=flow_method,
        fps=fps,
        batch_size=batch_size,
        allow_truncated=allow_truncated,
        frame_timing=frame_timing,
        reader=reader,
    )
    if chunk is not None:
        return ChunkInput(stream, timing, chunk)
    if streaming is not None:
        step = LIVE_CHUNK if prompt or stream.endless else STREAMING_CHUNK
        return StreamingInput(stream, spec, timing, streaming, step)
    return FrameInput(stream, spec, timing) if extractor is None else BackboneInput(stream, spec, timing, extractor)


class _StreamInput:
    """A base class: provides what all inputs from a stream of frames have."""

    _stream: FrameStream

    def facts(self) -> VideoFacts:
        """See `Input`."""
        length_s = max(self._stream.duration or 0.0, self._stream.seconds)
        return VideoFacts(duration_s=length_s, fps=self._stream.fps)

    def close(self) -> None:
        """See `Input`."""
        self._stream.close()


class FrameInput(_StreamInput):
    """Provides windows of frames."""

    def __init__(self, stream: FrameStream, spec: ModelSpec, timing: Timing) -> None:
        self.name, self.rate, self.timing = stream.name, stream.sample_fps, timing  # a whole video has its own rate
        self.endless = stream.endless
        self._stream, self._spec = stream, spec
        stream.keep_error = True

    def windows(self, on_progress: Progress | None = None) -> Iterator[Window | None]:
        """See `Input`."""
        buffer = WindowBuffer(self._spec.window_length, self._spec.window_stride)
        while True:
            if not self._stream.ready:
                yield None
            if (frame := self.timing.next_frame(self._stream)) is None:
                break
            with self.timing.window():
                complete = buffer.push(frame)
            yield from complete
        yield from buffer.finish()
        if self._stream.error is not None:
            raise self._stream.error

    def place(self, candidates: Candidates) -> Candidates:
        """Cut candidates of a whole video at its end, as published, since a short video is padded."""
        if self._spec.sampling != "whole_video" or self._stream.duration is None:
            return candidates
        segments = np.clip(candidates.segments, 0, self._stream.duration)
        return replace(candidates, segments=segments).take(valid_segments(segments))


class _UncutInput(_StreamInput):
    """A base class: provides what needs no cutting at the end of the video, since it ends there."""

    def place(self, candidates: Candidates) -> Candidates:
        """See `Input`; windows end with the video, so nothing is cut."""
        return candidates


class StreamingInput(_UncutInput):
    """Provides windows of features of a streaming backbone, which sees each frame once."""

    def __init__(
        self, stream: FrameStream, spec: ModelSpec, timing: Timing, engine: StreamingEngine, chunk: int
    ) -> None:
        """Start a video, which the network takes in chunks of so many frames."""
        self.name, self.rate, self.timing, self.endless = stream.name, stream.sample_fps, timing, stream.endless
        self._stream = stream
        self._windows = FramesToWindows(engine, spec, chunk)
        stream.keep_error = True

    def windows(self, on_progress: Progress | None = None) -> Iterator[FeatureWindow | None]:
        """See `Input`."""
        while True:
            if not self._stream.ready:
                yield None
            if (frame := self.timing.next_frame(self._stream)) is None:
                break
            with self.timing.engine():
                complete = self._windows.push(frame)
            if complete is not None:
                yield from complete
                if on_progress is not None:
                    on_progress(self.timing)
        with self.timing.engine():
            complete = self._windows.finish()
        yield from complete
        if self._stream.error is not None:
            raise self._stream.error


class ChunkInput(_UncutInput):
    """Provides the frames of a video in chunks, for a caller that runs a streaming network on several videos in turn.

    Each chunk is a `Window` of `chunk` new frames, the last of the video of fewer; none is padded.
    """

    def __init__(self, stream: FrameStream, timing: Timing, chunk: int) -> None:
        self.name, self.rate, self.timing, self.endless = stream.name, stream.sample_fps, timing, stream.endless
        self._stream, self._chunk = stream, chunk
        stream.keep_error = True

    def windows(self, on_progress: Progress | None = None) -> Iterator[Window | None]:
        """See `Input`."""
        frames: NDArray[np.uint8] | None = None
        offset = held = 0
        while True:
            if not self._stream.ready:
                yield None
            if (frame := self.timing.next_frame(self._stream)) is None:
                break
            if frames is None:
                frames = np.empty((self._chunk, *frame.shape), np.uint8)
            frames[held] = frame
            held += 1
            if held == self._chunk:
                yield Window(offset, frames, held)
                frames, offset, held = None, offset + held, 0  # the chunk is its taker's
        if frames is not None:
            yield Window(offset, frames[:held], held)
        if self._stream.error is not None:
            raise self._stream.error


class BackboneInput(_StreamInput):
    """Provides windows of feature steps that backbones make from frames, in bounded memory."""

    def __init__(self, stream: FrameStream, spec: ModelSpec, timing: Timing, extractor: FeatureExtractor) -> None:
        assert spec.features is not None  # check_backbone_fits
        self._axis = spec.features.time_axis(stream.name, 1, fps=stream.sample_fps)
        self.name, self.rate, self.timing = stream.name, 1 / self._axis.step_s, timing
        self._stream, self._spec, self._extractor = stream, spec, extractor
        self._every = spec.features.every
        self.endless = stream.endless
        stream.keep_error = True
        self._steps = 0
        self._ended = False

    def windows(self, on_progress: Progress | None = None) -> Iterator[Window | None]:
        """See `Input`."""
        buffer = WindowBuffer(self._spec.window_length, self._spec.window_stride)
        for steps in self._extractor.steps(self._stream, self.timing, self._every):
            if steps is None:
                yield None
                continue
            self._steps += len(steps)
            yield from buffer.push(steps)
            if on_progress is not None:
                on_progress(self.timing)
        self._ended = True
        yield from buffer.finish()
        if self._stream.error is not None:
            raise self._stream.error

    def place(self, candidates: Candidates) -> Candidates:
        """See `Input`; before the end of the video, candidates are within the last snippet seen."""
        end_s = self._axis.extent_s(self._steps) if self._ended else math.inf
        return candidates.place(self._axis.seconds(0.0), end_s)


class FeatureInput:
    """Provides windows of steps from the features of a whole video."""

    endless = False

    def __init__(self, features: Features, spec: ModelSpec) -> None:
        """Open the features; errors as in `open_steps` and `find_time_axis`."""
        self._reader = open_steps(features, spec)
        self._axis = find_time_axis(features, spec, self._reader.steps)
        self.name, self.rate = features.name, 1 / self._axis.step_s
        self.start_s = self._axis.seconds(0.0)
        """Start of step 0 in seconds of the video."""
        self.end_s = features.duration_s or self._axis.extent_s(self._reader.steps)
        """End in seconds at which detections are cut."""
        self._spec = spec
        self.timing = Timing(self.rate, expected_frames=self._reader.steps)

    def windows(self, on_progress: Progress | None = None) -> Iterator[Window]:
        """See `Input`."""
        steps = self._reader.read()
        self.timing.frames = len(steps)
        return cut_windows(steps, self._spec.window_length, self._spec.window_stride)

    def place(self, candidates: Candidates) -> Candidates:
        """See `Input`."""
        return candidates.place(self.start_s, self.end_s)

    def facts(self) -> VideoFacts:
        """See `Input`; the rate of the video is not known."""
        return VideoFacts(duration_s=self.end_s)

    def close(self) -> None:
        """Do nothing, since feature files are open only while they are read."""


def make_engine_inputs(windows: Sequence[AnyWindow], size: int, spec: ModelSpec) -> Arrays:
    """Stack windows as the inputs of an engine, which does not write to them; the last window fills up a short batch.

    Args:
        windows: windows of the batch, at least one.
        size: batch size B.
        spec: the model's.

    Returns:
        `lengths` int32 [B], and `features` float32 [B,C,T], or `frames` uint8 [B,T,H,W,C] and, for two streams, `flow`
        uint8 [B,T,H,W,2]; of a streaming network the features, float32 [B,C,t] by name.
    """
    streamed = [window for window in windows if isinstance(window, FeatureWindow)]
    if streamed:
        return {name: np.stack([window.features[name] for window in streamed]) for name in streamed[0].features}
    given = [window for window in windows if isinstance(window, Window)]
    filled = [*given, *[given[-1]] * (size - len(given))]
    lengths = {"lengths": np.array([window.length for window in filled], np.int32)}
    if spec.stream == "features":
        features: NDArray[np.float32] = np.stack([np.ascontiguousarray(window.frames.T) for window in filled])
        return {"features": features, **lengths}
    if spec.stream != "rgb+flow":
        frames = _without_copy(filled[0].frames) if size == 1 else np.stack([window.frames for window in filled])
        return {"frames": frames, **lengths}
    return {
        "frames": np.stack([window.frames[..., :RGB_CHANNELS] for window in filled]),
        "flow": np.stack([window.frames[..., RGB_CHANNELS:] for window in filled]),
        **lengths,
    }


class _Shared:
    """Describes the memory of a read-only array as writable, and keeps it alive."""

    def __init__(self, array: NDArray[Any]) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}
        self._owner = array


def _without_copy(frames: NDArray[Any]) -> NDArray[Any]:
    """Return frames as a batch of one that shares their memory and counts as writable.

    PyTorch warns of arrays that are read-only, and OpenVINO copies them.
    """
    return np.asarray(_Shared(frames))[None]


def _as_features(source: Any, fps: float | None) -> Features | None:
    """Return the source as `Features` if it is features in any form, else None."""
    if isinstance(source, Features):
        return source if fps is None else replace(source, fps=fps)
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() in FEATURE_SUFFIXES:
        return fetch_features(str(source), fps) if is_remote(source) else Features(source, fps=fps)
    return Features(source, fps=fps) if isinstance(source, np.ndarray) and source.ndim == 2 else None


def _shown(source: object) -> str:
    return str(source) if isinstance(source, (str, os.PathLike, int)) else "frames"
