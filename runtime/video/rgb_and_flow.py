"""Open a source as a model sees it: RGB frames, optical flow, or both, cropped to the network's size.

Two streams are one array of five channels (R, G, B, x, y), so that a frame and its flow stay together.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import STREAMING_CHUNK
from runtime.timing import Timing
from runtime.video.flow import FlowEstimator, FlowMethod
from runtime.video.readers.base import Frame
from runtime.video.readers.choice import ReaderName
from runtime.video.readers.memory import as_chunk
from runtime.video.resize import FramePreparation, Size, resize_bicubic
from runtime.video.sampling import FrameStream, FrameTiming, Transform, open_frames
from runtime.video.sources import FrameSource

FlowSource = str | os.PathLike[str] | NDArray[np.uint8] | Iterable[NDArray[np.uint8]]
"""Precomputed flow (x, y): a .npy file, an array [T,H,W,2] uint8, or an iterable of flows [H,W,2] or chunks; one flow
for each frame the network sees, of the model's frame or crop size."""

MIN_READ_AHEAD = 8
"""Frames decoded ahead of the network at least."""
STREAMING_AHEAD = 2 * STREAMING_CHUNK
"""Frames decoded ahead of a streaming network: with fewer than a chunk it would wait for the rest of each."""

RGB_CHANNELS = 3
"""Number of channels before the flow in a frame that carries both streams."""


def open_streams(
    frames: FrameSource,
    spec: ModelSpec,
    timing: Timing,
    *,
    flow: FlowSource | None = None,
    flow_method: FlowMethod = "auto",
    fps: float | None = None,
    batch_size: int = 1,
    allow_truncated: bool = False,
    frame_timing: FrameTiming = "presented",
    reader: ReaderName = "auto",
) -> FrameStream:
    """Open a source as the model sees it: uint8 [crop height, crop width, C] with C = 3, 2 (flow) or 5 (both).

    Unless flow is given, it is computed from the sampled frames at the model's frame size, before the crop; frames
    that already have the crop size are used as they are. Arrays of two channels are taken as flow.

    Args:
        frames: see `open_frames`.
        spec: the model's.
        timing: records the rate and length of the source, the time spent on reading and flow, and the flow method.
        flow: precomputed flow for a model of two streams.
        flow_method: see `FlowEstimator`.
        fps, allow_truncated, reader: see `open_frames`; `frame_timing` is its `timing`.
        batch_size: number of windows that the model takes at a time; as many strides of frames are decoded ahead, for a
            streaming network two chunks.

    Raises:
        VideoError, InputError: see `open_frames`; the model takes no flow, or the flow cannot be read.
            While iterating: flow of another length or size than the frames.
        MissingDependencyError: see `FlowEstimator`.
    """
    if flow is not None and spec.stream != "rgb+flow":
        raise InputError(
            f"flow: the model sees {spec.stream} alone; leave flow out, or give a flow engine with an rgb one"
        )
    crop = FramePreparation(spec.frame_size, spec.crop_size)
    stored = False
    if spec.stream == "flow":
        frames, stored = _peek_flow(frames)
    plain = spec.stream == "rgb" or stored
    source = open_frames(
        frames,
        spec.sample_fps,
        fps=fps,
        channels=2 if stored else RGB_CHANNELS,
        prepare=crop if plain else _Uncropped(spec.frame_size, spec.crop_size),
        read_ahead=max(MIN_READ_AHEAD, batch_size * spec.window_stride if spec.streaming is None else STREAMING_AHEAD),
        allow_truncated=allow_truncated,
        transform=None if plain else _transform(spec, crop, timing, flow, flow_method),
        max_frames=spec.window_length if spec.sampling == "whole_video" else None,
        every_frame=spec.sampling == "every_frame",
        timing=frame_timing,
        reader=reader,
    )
    timing.sample_fps, timing.expected_frames, timing.reading = source.sample_fps, source.expected, source.reading
    return source


def _transform(
    spec: ModelSpec, crop: FramePreparation, timing: Timing, flow: FlowSource | None, method: FlowMethod
) -> Transform:
    """Return the function that adds given or computed flow to RGB frames of full size and crops them."""
    if flow is not None:
        given = _iterate_flow(flow)
        return lambda frames: _add_given_flow(frames, given, crop)
    estimator = FlowEstimator(method)
    timing.flow_method = estimator.name
    alone = spec.stream == "flow"
    return lambda frames: _add_computed_flow(frames, estimator, timing, crop, alone)


@dataclass(frozen=True)
class _Uncropped:
    """Resizes a decoded frame to the size on which flow is computed."""

    frame_size: Size
    crop_size: Size

    def __call__(self, frame: Frame) -> Frame:
        known = frame.shape[:2] in (self.frame_size, self.crop_size)
        return frame if known else resize_bicubic(frame, self.frame_size)


def _add_computed_flow(
    frames: Generator[Frame, None, None],
    estimator: FlowEstimator,
    timing: Timing,
    crop: FramePreparation,
    alone: bool,
) -> Generator[Frame, None, None]:
    """Yield each frame with its flow, or the flow `alone`; one frame late, since flow needs the next frame."""
    waiting: list[Frame] = []
    with closing(frames):
        for frame in frames:
            with timing.flow():
                flows = estimator.push(frame)
            for flow in flows:
                yield crop(flow if alone else np.concatenate([waiting.pop(), flow], axis=-1))
            waiting = [frame]
        for flow in estimator.finish():
            yield crop(flow if alone else np.concatenate([waiting.pop(), flow], axis=-1))


def _add_given_flow(
    frames: Generator[Frame, None, None], flows: Iterator[Frame], crop: FramePreparation
) -> Generator[Frame, None, None]:
    """Yield each frame with the flow given for the frame."""
    count = 0
    with closing(frames):
        for frame in frames:
            flow = next(flows, None)
            if flow is None:
                raise InputError(
                    f"flow: got {count} entries, the network sees more frames than that; expected one flow for each "
                    "frame the network sees"
                )
            yield np.concatenate([crop(frame), _crop_flow(flow, crop, count)], axis=-1)
            count += 1
        if count and next(flows, None) is not None:
            raise InputError(
                f"flow: got more than {count} entries, the network sees {count} frames; expected one flow for each"
            )


def _crop_flow(flow: Frame, crop: FramePreparation, index: int) -> Frame:
    """Crop flow to the network's size; flow is never resized, since its values are in pixels."""
    height, width = flow.shape[:2]
    if (height, width) not in (crop.frame_size, crop.crop_size):
        sizes = " or ".join(f"{h}×{w}" for h, w in (crop.frame_size, crop.crop_size))
        raise InputError(
            f"flow: entry {index} is {height}×{width} pixels, expected {sizes}: the model's frames or its crop"
        )
    return crop(flow)


def _iterate_flow(flow: FlowSource) -> Iterator[Frame]:
    """Iterate over given flow, one [H,W,2] uint8 at a time."""
    arrays: Any = _load_flow(flow)
    if hasattr(arrays, "__array__"):
        arrays = [arrays]
    if not isinstance(arrays, Iterable):
        raise InputError(f"flow: got {type(flow).__name__}, expected a .npy file, an array or an iterable of flows")
    return (entry for array in arrays for entry in as_chunk(array, 2, "flow"))


def _load_flow(flow: FlowSource) -> Any:
    """Return flow as an array or iterable; a file is memory-mapped."""
    if not isinstance(flow, (str, os.PathLike)):
        return flow
    path = Path(flow)
    if path.suffix != ".npy" or not path.is_file():
        reason = "not a .npy file" if path.suffix != ".npy" else "file not found"
        raise InputError(f"flow: {path}: {reason}; expected a .npy file of uint8 [T,H,W,2] (x, y)")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"flow: {path}: not a readable .npy file ({error}); write it again with numpy.save") from None


def _peek_flow(source: Any) -> tuple[Any, bool]:
    """Return the source, complete, and whether it is flow: an array, or an iterable's first item, of two channels."""
    if hasattr(source, "__array__"):
        return source, np.shape(source)[-1:] == (2,)
    if isinstance(source, (str, os.PathLike, int, bytes, dict)) or not isinstance(source, Iterable):
        return source, False
    rest = iter(source)
    first = next(rest, None)
    return _put_back(first, rest), np.shape(first)[-1:] == (2,)  # type: ignore[arg-type]


def _put_back(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    if first is not None:
        yield first
        yield from rest
