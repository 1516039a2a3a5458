"""Run the backbone of a streaming network over a video, chunk by chunk, each frame once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.engines.base import Arrays
from runtime.engines.streaming import StreamingEngine
from runtime.errors import EngineError, InputError
from runtime.video.readers.base import Frame
from runtime.video.rgb_and_flow import RGB_CHANNELS


class StreamingBackbone:
    """Takes the frames of one video and gives its features, from the first to the last position, each once.

    The features are those of the backbone run over the whole video at once, filled up with frames of 0 (after the
    normalisation) to a multiple of `Streaming.multiple`, and to one window if it is shorter: as the network sees a
    short clip. They depend neither on how the frames are handed over, nor, beyond rounding, on the length of chunks.
    """

    def __init__(self, engine: StreamingEngine, chunk: int) -> None:
        """Start a video.

        Args:
            engine: engine of the network; it may serve other videos in between.
            chunk: number of frames of a step, a multiple of `Streaming.multiple`.

        Raises:
            InputError: `chunk` is no such multiple.
            EngineError: see `StreamingEngine.prepare`.
        """
        multiple = engine.streaming.multiple
        if chunk < multiple or chunk % multiple:
            raise InputError(f"chunk: got {chunk} frames, expected a multiple of {multiple}")
        engine.prepare(chunk)
        self._engine, self._chunk = engine, chunk
        self._states = engine.empty_states()
        self._frames: NDArray[np.uint8] | None = None
        self._start = 0
        self._held = 0

    @property
    def taken(self) -> int:
        """Number of frames taken so far."""
        return self._start + self._held

    @property
    def states(self) -> Arrays:
        """States after the last step, by name."""
        return self._states

    def push(self, frame: Frame) -> Arrays | None:
        """Take one frame uint8 [H,W,C]; return the features that it completes, float32 [C,t] by name, or None.

        Raises:
            InputError: a frame of another size than the first.
            EngineError: the engine failed, or gave NaN or infinity.
        """
        overlap = self._engine.streaming.overlap
        if self._frames is None:
            self._frames = np.zeros((overlap + self._chunk, *frame.shape), np.uint8)
        if frame.shape != self._frames.shape[1:]:
            raise InputError(f"frame {self.taken} has shape {frame.shape}, expected {self._frames.shape[1:]}")
        self._frames[overlap + self._held] = frame
        self._held += 1
        if self._held < self._chunk:
            return None
        found = self._step(self._frames)
        self._frames[:overlap] = self._frames[self._chunk :]
        self._start, self._held = self._start + self._chunk, 0
        return found

    def finish(self) -> Arrays:
        """End the video and return the rest of its features; no frames give none.

        Raises:
            EngineError: see `push`.
        """
        if self._frames is None:
            return {}
        streaming, valid = self._engine.streaming, self.taken
        end = max(-(-valid // streaming.multiple) * streaming.multiple, self._engine.spec.window_length)
        left = end - self._start + -(-streaming.delay // streaming.multiple) * streaming.multiple
        frames = np.zeros((streaming.overlap + left, *self._frames.shape[1:]), np.uint8)
        given = streaming.overlap + self._held
        frames[:given] = self._frames[:given]
        return self._step(frames, valid, end)

    def _step(self, frames: NDArray[np.uint8], valid: int | None = None, end: int | None = None) -> Arrays:
        """Run one step and return its features within the video."""
        split = {tensor.name for tensor in self._engine.spec.inputs} == {"frames", "flow", "lengths"}
        inputs = {"frames": frames[None]}
        if split:
            inputs = {"frames": frames[None, ..., :RGB_CHANNELS], "flow": frames[None, ..., RGB_CHANNELS:]}
            inputs = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        features, self._states = self._engine.step(inputs, self._states, start=self._start, valid=valid, end=end)
        found: Arrays = {}
        for feature in self._engine.streaming.features:
            values = features[feature.name][0]
            first = self._start // feature.rate - feature.delay
            last = values.shape[1] if end is None else end // feature.rate - first
            found[feature.name] = values[:, max(-first, 0) : max(last, 0)]
            if not np.isfinite(found[feature.name]).all():
                raise EngineError(
                    f"the backbone gave NaN or infinity ({self._engine.library}); check its weights, or use float32"
                )
        return found
