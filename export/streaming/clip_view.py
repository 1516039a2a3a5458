"""Run a streaming network on windows, to compare it with the clip network that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines.base import Arrays, Engine
from runtime.engines.streaming import StreamingEngine
from runtime.streaming.backbone import StreamingBackbone
from runtime.streaming.windows import FeatureWindows


class ClipView:
    """Runs each window as a video of its own: both ends of a video then fall on those of the window, zeros and all.

    So every chunk that a step inside a video sees is compared too: of the chunk lengths that the first windows take,
    short ones leave chunks between the two ends.
    """

    def __init__(self, engine: StreamingEngine) -> None:
        self._engine = engine
        self.spec, self.library, self.device, self.precision = (
            engine.spec,
            engine.library,
            engine.device,
            engine.precision,
        )
        self._windows = 0

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run a batch of windows; see `runtime.engines.base.Engine.infer`."""
        found = [self._run({name: array[k] for name, array in inputs.items()}) for k in range(len(inputs["lengths"]))]
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _run(self, window: Arrays) -> dict[str, NDArray[np.float32]]:
        chunk = CHUNKS[min(self._windows, len(CHUNKS) - 1)] * self._engine.streaming.multiple
        self._windows += 1
        backbone = StreamingBackbone(self._engine, chunk)
        windows = FeatureWindows(self._engine.streaming, self.spec.window_length, self.spec.window_stride)
        frames = [window[name] for name in ("frames", "flow") if name in window]
        for frame in np.concatenate(frames, axis=-1)[: int(window["lengths"])]:
            if (features := backbone.push(frame)) is not None:
                assert not windows.push(features)  # a window is whole only when its last frames are
        (last,) = windows.finish(backbone.finish(), backbone.taken)
        return self._engine.infer({name: values[None] for name, values in last.features.items()})


CHUNKS = (8, 2, 5, 16)
"""Lengths of chunks of the first windows, in multiples of the coarsest rate; all others take the last, since an engine
may have to compile the step for each."""


def as_clip_engine(engine: Engine) -> Engine:
    """Return an engine that takes windows: the engine itself, or the view of a streaming one."""
    return ClipView(engine) if isinstance(engine, StreamingEngine) else engine
