"""A streaming network of a few weights, in numpy, whose features reach over 24 frames before and behind each."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines.base import Arrays
from runtime.engines.streaming import NEVER, Run, StreamingEngine
from runtime.errors import EngineError
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import HEAD, StreamFeature, Streaming, StreamState
from tests.tiny import LEVELS, OUTPUT_WIDTHS, tiny_spec

WINDOW, STRIDE = 32, 16
LAG = 6
"""Frames by which the network looks back in the frames themselves: the overlap of chunks."""
KEPT = 40
"""Positions of the state."""
KERNELS = {"level_0": (4, -12, 16), "level_1": (8, -24, 24)}
"""Feature → its rate, and the first frame and the end of what it sums, from its own frame on."""
FEATURES = StreamFeature("level_0", 2, 4, 3), StreamFeature("level_1", 1, 8, 2)


def streaming_spec(**changes: Any) -> ModelSpec:
    """Spec of the network: windows of 32 frames every 16 at 10 fps."""
    spec = tiny_spec(window_length=WINDOW, window_stride=STRIDE, **changes)
    return replace(spec, streaming=Streaming(LAG, (StreamState((1, 1, KEPT, 1, 1), "float32"),), FEATURES))


def kernel(name: str, channel: int) -> NDArray[np.float64]:
    _, first, end = KERNELS[name]
    return np.random.default_rng([ord(name[-1]), channel]).normal(0, 0.5, end - first)


def levels(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Brightness of each frame [T,H,W,C] around mid grey."""
    return frames.mean(axis=(1, 2, 3), dtype=np.float64) / 64 - 2


def whole_features(frames: NDArray[np.uint8]) -> Arrays:
    """The features of a whole video at once: plain sums over an array with zeros before and behind."""
    end = max(-(-len(frames) // 8) * 8, WINDOW)
    seen = np.zeros(LAG + end)
    seen[LAG : LAG + len(frames)] = levels(frames)
    mixed = np.pad((seen[LAG:] - 0.5 * seen[:-LAG]).astype(np.float32), KEPT).astype(np.float64)
    found: Arrays = {}
    for feature in FEATURES:
        rate, first, last = KERNELS[feature.name]
        values = [
            [(mixed[KEPT + f + first : KEPT + f + last] * kernel(feature.name, c)).sum() for f in range(0, end, rate)]
            for c in range(feature.channels)
        ]
        found[feature.name] = np.array(values, np.float32)
    return found


class TinyStreamingEngine(StreamingEngine):
    """The network in steps; keeps the start of each step and the windows that its head was given, unless told not to.

    `gate` holds back every step while it is closed; the step number `fails_at` fails.
    """

    def __init__(self, spec: ModelSpec | None = None, fails_at: int = -1, keeps: bool = True) -> None:
        super().__init__(streaming_spec() if spec is None else spec, "tiny", "numpy", "cpu", "fp32")
        self.starts: list[int] = []
        self.windows: list[Arrays] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self._fails_at, self._keeps, self._steps = fails_at, keeps, 0

    def step(self, frames: Arrays, states: Arrays, **bounds: Any) -> tuple[Arrays, Arrays]:
        self.entered.set()
        assert self.gate.wait(20)
        self._steps += 1
        if self._keeps:
            self.starts.append(bounds["start"])
        if self._steps == self._fails_at:
            raise EngineError("out of memory")
        return super().step(frames, states, **bounds)

    def close(self) -> None:
        """Nothing is held."""

    def _part(self, part: str, length: int) -> Run:
        return self._detect if part == HEAD else self._extract

    def _extract(self, given: Mapping[str, NDArray[Any]]) -> Arrays:
        start, valid, end = (int(given[name][0]) if name in given else NEVER for name in ("start", "valid", "end"))
        start = 0 if start == NEVER else start
        seen = levels(given["frames"][0])
        count = len(seen) - LAG
        index = np.arange(start - LAG, start + count)
        seen[((index < 0) & ("start" in given)) | (index >= valid)] = 0
        mixed = (seen[LAG:] - 0.5 * seen[:-LAG]).astype(np.float32)
        mixed[index[LAG:] >= end] = 0
        history = np.concatenate([given["state_0"].reshape(KEPT), mixed])
        found: Arrays = {"next_state_0": history[-KEPT:].reshape(1, 1, KEPT, 1, 1)}
        padded = history.astype(np.float64)
        for feature in FEATURES:
            rate, first, last = KERNELS[feature.name]
            places = KEPT - feature.delay * rate + np.arange(0, count, rate)
            values = [
                [(padded[p + first : p + last] * kernel(feature.name, c)).sum() for p in places]
                for c in range(feature.channels)
            ]
            found[feature.name] = np.array(values, np.float32)[None]
        return found

    def _detect(self, given: Mapping[str, NDArray[Any]]) -> Arrays:
        if self._keeps:
            count = len(given[FEATURES[0].name])
            self.windows += [{name: array[k] for name, array in given.items()} for k in range(count)]
        rng, places = np.random.default_rng(7), sum(LEVELS)
        flat = np.concatenate([given[f.name].reshape(len(given[f.name]), -1) for f in FEATURES], axis=1)
        found: Arrays = {}
        for name, width in OUTPUT_WIDTHS.items():
            weights = rng.normal(0, 0.4, (flat.shape[1], places * width))
            sums = [(row.astype(np.float64)[:, None] * weights).sum(axis=0) for row in flat]
            found[name] = np.array(sums, np.float32).reshape(-1, places, width)
        found["loc"] = np.abs(found["loc"]) * 3
        return found
