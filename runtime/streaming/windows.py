"""Cut the features of a streaming backbone into the windows that the head sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runtime.engines.base import Arrays
from runtime.spec.streaming import Streaming


@dataclass(frozen=True)
class FeatureWindow:
    """Holds the features of one window of a video, as the head takes them."""

    offset: int
    """Index of the window's first frame."""
    features: Arrays
    """Features float32 [C,T/rate] by name."""
    length: int
    """Number of frames of the video in the window, 1 … T."""


class FeatureWindows:
    """Cuts features into windows by the rule of `window_offsets`, as soon as each is complete, in bounded memory.

    The video counts as filled up to a multiple of `Streaming.multiple`, so that its last window ends with its last
    position; a video shorter than one window has one window.
    """

    def __init__(self, streaming: Streaming, length: int, stride: int) -> None:
        """Start a video; `length` and `stride` are in frames, multiples of `Streaming.multiple`."""
        self._streaming, self._length, self._stride = streaming, length, stride
        self._known: Arrays = {f.name: np.zeros((f.channels, 0), np.float32) for f in streaming.features}
        self._begin = 0
        self._next = 0

    def push(self, features: Arrays) -> list[FeatureWindow]:
        """Take the next features [C,t] of the video, t may be 0; return the windows that they complete."""
        self._take(features)
        return self._complete(self._end)

    def finish(self, features: Arrays, frames: int) -> list[FeatureWindow]:
        """Take the last features of a video of `frames` frames; return the windows left, the last ends with it."""
        self._take(features)
        if not frames:
            return []
        windows, last = self._complete(frames), self._end - self._length
        if self._next - self._stride != last:
            windows.append(self._cut(last, frames))
        return windows

    @property
    def _end(self) -> int:
        """Frame up to which all features are known."""
        lengths = (int(self._known[f.name].shape[1]) * f.rate for f in self._streaming.features)
        return self._begin + min(lengths)

    def _take(self, features: Arrays) -> None:
        """Join features to those known, and drop those that no later window needs, but for one window before."""
        begin = max(self._begin, min(self._next, self._end - self._length))
        for feature in self._streaming.features if features else ():
            kept = self._known[feature.name][:, (begin - self._begin) // feature.rate :]
            self._known[feature.name] = np.concatenate([kept, features[feature.name]], axis=1)
        self._begin = begin if features else self._begin

    def _complete(self, frames: int) -> list[FeatureWindow]:
        """Cut the windows every `stride` frames whose features are known."""
        windows = []
        while self._next + self._length <= self._end:
            windows.append(self._cut(self._next, frames))
            self._next += self._stride
        return windows

    def _cut(self, offset: int, frames: int) -> FeatureWindow:
        cut = {}
        for feature in self._streaming.features:
            first = (offset - self._begin) // feature.rate
            cut[feature.name] = self._known[feature.name][:, first : first + self._length // feature.rate]
        return FeatureWindow(offset, cut, min(frames - offset, self._length))
