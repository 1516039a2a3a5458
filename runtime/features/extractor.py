"""Extract steps of features from a stream of frames with one backbone, or one per stream.

Snippet i holds the frames i·stride … i·stride + window − 1, so a video of F ≥ window frames has
floor((F − window) / stride) + 1 steps, whose times `runtime.spec.time_axis` gives. Each frame is decoded once, though
several snippets share it. A shorter video is one snippet with its last frame repeated.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from runtime.common.ranges import Count, FramesPerSecond, require_in_range
from runtime.engines.base import Engine
from runtime.errors import EngineError, InputError, VideoWarning
from runtime.spec.model import AGREEING, FEATURES_OUTPUT, ModelSpec
from runtime.spec.tensors import TensorSpec
from runtime.spec.time_axis import FeatureSampling
from runtime.timing import Timing
from runtime.video.readers.base import Frame
from runtime.video.rgb_and_flow import RGB_CHANNELS
from runtime.video.sampling import FrameStream
from runtime.windows import Window, WindowBuffer, repeat_last

SNIPPETS_PER_CALL = 4
"""Default number of snippets per call of a backbone; it delays a live stream by as many strides."""

STREAM_PARTS = {"rgb": slice(0, RGB_CHANNELS), "flow": slice(RGB_CHANNELS, None)}
"""Channels of each stream in frames that carry both."""


class FeatureExtractor:
    """Turns frames into steps of features [n,C]; the channels of several backbones are concatenated in their order.

    The extractor does not close the engines. Not for concurrent use.
    """

    def __init__(
        self, backbones: Sequence[Engine], *, sample_fps: float | None = None, batch_size: int | None = None
    ) -> None:
        """Check that the engines fit together.

        Args:
            backbones: one engine, or one on RGB and one on flow, in the order of the features' channels.
            sample_fps: rate at which frames are sampled; None: every frame of a video.
            batch_size: snippets per call; None: 4, or the batch size that an engine was built for.

        Raises:
            InputError: an engine is no backbone, two have one stream or differ in size or snippets, or an engine was
                not built for the batch size.
        """
        require_in_range("sample_fps", sample_fps, FramesPerSecond | None)
        require_in_range("batch_size", batch_size, Count | None)
        specs = [engine.spec for engine in backbones]
        _check_backbones(specs)
        self.backbones = tuple(backbones)
        first = specs[0] if len(specs) == 1 else replace(specs[0], stream="rgb+flow", inputs=_join_inputs(specs))
        self.spec = first if sample_fps is None else replace(first, sample_fps=sample_fps, sampling="fixed")
        """ModelSpec of all backbones as one model of frames (see `open_streams`)."""
        self.batch_size = _common_batch(specs, batch_size)
        """Number of snippets per call."""

    @property
    def width(self) -> int:
        """Channels C of all streams together."""
        return sum(feature_width(engine.spec) for engine in self.backbones)

    @property
    def sampling(self) -> FeatureSampling:
        """Sampling of the steps in time."""
        fps = self.spec.sample_fps if self.spec.sampling == "fixed" else None
        return FeatureSampling(stride=self.spec.window_stride, window=self.spec.window_length, fps=fps)

    def steps(self, source: FrameStream, timing: Timing, every: int = 1) -> Iterator[NDArray[np.float32] | None]:
        """Yield the features of a source, float32 [n,C] with n ≥ 1; None where the next frame is not ready.

        Args:
            source: frames that fit `spec` (see `open_streams`).
            timing: records frames, waiting and engine times.
            every: use every n-th step.

        Raises:
            EngineError: a backbone failed, or gave NaN or infinity.
        """
        waiting: list[Frame] = []
        for snippet in self._snippets(source, timing):
            if snippet is None:
                yield None
            elif snippet.offset // self.spec.window_stride % every == 0:
                waiting.append(snippet.frames)
                if len(waiting) == self.batch_size:
                    yield self._extract(waiting, timing)
                    waiting = []
        if waiting:
            yield self._extract(waiting, timing)

    def _snippets(self, source: FrameStream, timing: Timing) -> Iterator[Window | None]:
        """Yield every whole snippet, or the only one of a short video; None where the next frame is not ready."""
        length = self.spec.window_length
        buffer = WindowBuffer(length, self.spec.window_stride)
        while True:
            if not source.ready:
                yield None
            if (frame := timing.next_frame(source)) is None:
                break
            yield from buffer.push(frame)
        if 0 < buffer.pushed < length:
            warnings.warn(
                f"{source.name or 'the frames'}: {buffer.pushed} frames are less than a snippet of {length}; "
                "the last frame is repeated",
                VideoWarning,
                stacklevel=2,
            )
            (short,) = buffer.finish()
            yield replace(short, frames=repeat_last(short.frames[: short.length], length))

    def _extract(self, snippets: list[Frame], timing: Timing) -> NDArray[np.float32]:
        """Return the steps [n,C] of n snippets; the last snippet fills up the batch of an engine with a fixed batch."""
        fixed = any(isinstance(engine.spec.inputs[0].shape[0], int) for engine in self.backbones)
        filled = snippets + [snippets[-1]] * (self.batch_size - len(snippets) if fixed else 0)
        with timing.engine():
            parts = [self._run(engine, filled)[: len(snippets)] for engine in self.backbones]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _run(self, engine: Engine, snippets: list[Frame]) -> NDArray[np.float32]:
        both = len(self.backbones) > 1
        part = STREAM_PARTS[engine.spec.stream] if both else slice(None)
        found = engine.infer({"frames": np.stack([snippet[..., part] for snippet in snippets])})[FEATURES_OUTPUT]
        if not np.isfinite(found).all():
            raise EngineError(
                f"the backbone on {engine.spec.stream} gave NaN or infinity ({engine.library}); check its weights, "
                "or export it in float32"
            )
        return found


def feature_width(spec: ModelSpec) -> int:
    """Return C, the channels of a backbone's features."""
    return next(int(tensor.shape[1]) for tensor in spec.outputs if tensor.name == FEATURES_OUTPUT)


def check_backbone_fits(model: ModelSpec, extractor: FeatureExtractor) -> None:
    """Raise an InputError unless a model takes the features that the backbones make."""
    wanted = model.features
    if wanted is None:
        raise InputError(f"backbone: the model is {model.family} on {model.stream} frames, expected one on features")
    if wanted.whole_video:
        raise InputError(
            "backbone: the model sees whole videos resized to one window, which is not possible before their end; "
            "make the features with afsd features, and give them to the model"
        )
    made = extractor.sampling
    if (wanted.stride, wanted.window) != (made.stride, made.window):
        raise InputError(
            f"backbone: makes a step of {made.window:g} frames every {made.stride:g}, the model was trained on steps "
            f"of {wanted.window:g} every {wanted.stride:g}; use the backbone that made its features"
        )
    if extractor.width != model.channels:
        parts = " + ".join(str(feature_width(engine.spec)) for engine in extractor.backbones)
        raise InputError(
            f"backbone: features of {parts} channels, the model takes {model.channels}; give the backbones of all its "
            "streams, in the order of its channels"
        )


def _join_inputs(specs: Sequence[ModelSpec]) -> tuple[TensorSpec, ...]:
    """Return the inputs of two backbones as those of one model: `frames` of RGB, and `flow`."""
    names = {"rgb": "frames", "flow": "flow"}
    return tuple(replace(spec.inputs[0], name=names[spec.stream]) for spec in specs)


def _check_backbones(specs: Sequence[ModelSpec]) -> None:
    if not specs:
        raise InputError("backbone: got none, expected at least one engine of afsd export-backbone")
    for spec in specs:
        if not spec.is_backbone:
            raise InputError(
                f"backbone: got the detector {spec.family} on {spec.stream}; expected an engine of afsd export-backbone"
            )
    streams = [spec.stream for spec in specs]
    if len(set(streams)) < len(streams):
        raise InputError(f"backbones: got {' and '.join(streams)}, expected one on rgb and one on flow")
    for name in AGREEING:
        values = [getattr(spec, name) for spec in specs]
        if any(value != values[0] for value in values):
            raise InputError(f"backbones: differ in {name}, {' and '.join(map(repr, values))}; expected the same")


def _common_batch(specs: Sequence[ModelSpec], asked: int | None) -> int:
    fixed = {size for spec in specs if isinstance(size := spec.inputs[0].shape[0], int)}
    batch = asked if asked is not None else next(iter(fixed), SNIPPETS_PER_CALL)
    if fixed - {batch}:
        built = " and ".join(map(str, sorted(fixed)))
        raise InputError(f"backbone: got a batch of {batch} snippets; the backbones were built for {built}")
    return batch
