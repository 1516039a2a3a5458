"""Define what the engines of a streaming network have in common: a step on chunks of frames, and the head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines.base import Arrays
from runtime.engines.checks import Shape
from runtime.errors import EngineError, InputError, SpecError
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import EDGE, EDGES, HEAD, STEADY, Streaming

NEVER = 2**30
"""Frame that stands for the end of a video that has not come yet."""

Run = Callable[[Mapping[str, NDArray[Any]]], Arrays]
"""Function that runs one part, on arrays under the names of its tensors without that of the part."""


class StreamingEngine(ABC):
    """Runs a streaming network: `step` gives features of the next chunk of frames, `infer` detects in a window of them.

    A base class; those of the libraries open the parts. The states are the caller's, so one engine serves several
    videos in turn, on CPUs in several threads too.
    """

    without_masks = True
    """Whether chunks that touch no end of the video run in a part of their own, which is faster."""

    def __init__(self, spec: ModelSpec, origin: str, library: str, device: str, precision: str) -> None:
        """Describe the engine; `origin` names the file in errors."""
        if spec.streaming is None:
            raise SpecError(f"{origin}: is no streaming network")
        self.spec, self.library, self.device, self.precision = spec, library, device, precision
        self.streaming: Streaming = spec.streaming
        """Step and features of the network."""
        self._origin = origin

    def prepare(self, chunk: int) -> None:
        """Compile what steps of `chunk` frames need, which otherwise happens at the first of them.

        Raises:
            EngineError: the engine is closed, or a part cannot be loaded.
        """
        for part in (STEADY, EDGE) if self.without_masks else (EDGE,):
            self._part(part, chunk)

    def step(
        self, frames: Arrays, states: Arrays, *, start: int, valid: int | None = None, end: int | None = None
    ) -> tuple[Arrays, Arrays]:
        """Run the backbone on the next chunk of a video.

        Args:
            frames: `frames`, and for two streams `flow`: uint8 [1,overlap+n,H,W,C], n a multiple of
                `Streaming.multiple`, the last `overlap` frames of the chunk before and those of this one. Frames before
                the first and after the last one may hold anything.
            states: states that the step before gave; `empty_states` before the first.
            start: index of the chunk's first frame.
            valid: number of frames of the video, if its last one is in the chunk or was before it.
            end: frame, a multiple of `Streaming.multiple` and at least `valid`, up to which the network runs over
                frames of zeros; needed with `valid`.

        Returns:
            Features float32 [1,C,n/rate] by name, from position start / rate − delay on, and the new states.

        Raises:
            InputError: arrays that do not fit.
            EngineError: the engine is closed, or the run failed.
        """
        length = self._check(frames, states, start)
        inside = self.without_masks and valid is None and start >= self.streaming.delay
        bounds = {} if inside else self._bounds(start, valid, end)
        part = self._part(STEADY if inside else EDGE, length)
        found = part({**frames, **states, **bounds})
        features = {feature.name: found[feature.name] for feature in self.streaming.features}
        return features, {name: found[f"next_{name}"] for name in states}

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run the head on windows of features, float32 [B,C,t] by name; returns the raw outputs of `spec.outputs`.

        Raises:
            InputError: arrays that do not fit.
            EngineError: the engine is closed, or the run failed.
        """
        for feature in self.streaming.features:
            array, length = inputs.get(feature.name), self.spec.window_length // feature.rate
            if array is None or array.dtype != np.float32 or array.shape[1:] != (feature.channels, length):
                got = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
                raise InputError(f"{feature.name}: got {got}, expected float32 [B, {feature.channels}, {length}]")
        found = self._part(HEAD, 0)({feature.name: inputs[feature.name] for feature in self.streaming.features})
        return {tensor.name: found[tensor.name] for tensor in self.spec.outputs}

    def empty_states(self) -> Arrays:
        """Return the states before the first frame."""
        return {
            f"state_{number}": np.full(state.shape, state.zero, state.dtype)
            for number, state in enumerate(self.streaming.states)
        }

    @abstractmethod
    def close(self) -> None:
        """Release the network; `step` and `infer` raise EngineError from then on."""

    @abstractmethod
    def _part(self, part: str, length: int) -> Run:
        """Return what runs a part; `length` is the number of frames of a step's chunk."""

    def _closed(self) -> EngineError:
        return EngineError(f"{self._origin}: the engine is closed; open it again")

    def _bounds(self, start: int, valid: int | None, end: int | None) -> Arrays:
        """Return the inputs of a step that touches an end; what lies far behind the first frame is counted from later.

        So the numbers are small however long the video is: OpenVINO computes them as int32.
        """
        shift = max(start - self.streaming.multiple * (self.streaming.delay // self.streaming.multiple + 1), 0)
        values = [start - shift, *(NEVER if bound is None else bound - shift for bound in (valid, end))]
        return {name: np.array([value], np.int64) for name, value in zip(EDGES, values, strict=True)}

    def _check(self, frames: Arrays, states: Arrays, start: int) -> int:
        """Check the arrays of a step and return the number of frames of its chunk."""
        lengths = {array.shape[1] - self.streaming.overlap for array in frames.values() if array.ndim == 5}
        length = lengths.pop() if len(lengths) == 1 else 0
        multiple = self.streaming.multiple
        if length < multiple or length % multiple or start % multiple or lengths:
            raise InputError(
                f"streaming: got a chunk of {length} frames from frame {start}; expected multiples of {multiple}"
            )
        wanted = {tensor.name: tensor for tensor in self.spec.inputs if tensor.name != "lengths"}
        for name, tensor in wanted.items():
            shape = (1, length + self.streaming.overlap, *tensor.shape[2:])
            array = frames.get(name)
            if array is None or array.shape != shape or array.dtype != np.uint8:
                got = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
                raise InputError(f"{name}: got {got}, expected uint8 {list(shape)}")
        for number, state in enumerate(self.streaming.states):
            array = states.get(f"state_{number}")
            if array is None or array.shape != tuple(state.shape) or array.dtype != state.dtype:
                raise InputError(f"state_{number}: is not one that a step of this network gave, or `empty_states`")
        return length


def require_parts(spec: ModelSpec, found: Mapping[str, Shape], steps: Sequence[str], origin: str) -> None:
    """Compare the inputs of an artifact's parts, by full name, with its ModelSpec (SpecError: one differs)."""
    assert spec.streaming is not None
    for part in steps:
        for number, state in enumerate(spec.streaming.states):
            name = f"{part}/state_{number}"
            if found.get(name) != tuple(state.shape):
                raise SpecError(f"{origin}: {name} is {found.get(name)}, its ModelSpec says {list(state.shape)}")
    for feature in spec.streaming.features:
        name, shape = f"{HEAD}/{feature.name}", (feature.channels, spec.window_length // feature.rate)
        if found.get(name, ())[1:] != shape:
            raise SpecError(
                f"{origin}: {name} is {found.get(name)}, its ModelSpec says [batch, {shape[0]}, {shape[1]}]"
            )
