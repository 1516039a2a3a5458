"""How a model on features is fed from frames, and what feeding it from files has in common with that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.decoding.candidates import Candidates
from runtime.engines.base import Arrays, Engine
from runtime.features.extractor import FeatureExtractor, check_backbone_fits
from runtime.spec.model import ModelSpec
from runtime.spec.time_axis import FeatureTiming
from runtime.timing import Timing
from runtime.video.sampling import FrameStream
from runtime.windows import Window, WindowBuffer


class StepInput:
    """Frames → snippets → steps of features → windows of a model on features, in bounded memory."""

    def __init__(self, model: ModelSpec, backbones: Sequence[Engine]) -> None:
        """Take a model and its backbones together.

        Raises:
            InputError: see `FeatureExtractor`; or the model takes other features than these.
        """
        fps = None if model.features is None else model.features.fps
        self.extractor = FeatureExtractor(backbones, sample_fps=fps)
        check_backbone_fits(model, self.extractor)
        self.model = model
        self.seen = self.extractor.spec
        """What the backbones see of a source (see `open_streams`)."""


class StepRun:
    """One source on its way through a `StepInput`."""

    def __init__(self, through: StepInput, source: FrameStream) -> None:
        features = through.model.features
        assert features is not None  # check_backbone_fits
        self.timing: FeatureTiming = features.timing(source.name, 1, fps=source.sample_fps)
        """When in the source the steps lie."""
        self._source, self._every = source, features.every
        self._model, self._extractor = through.model, through.extractor
        self._steps = 0
        self._ended = False

    def windows(self, timing: Timing, on_progress: Callable[[Timing], None] | None) -> Iterator[Window | None]:
        """Windows of steps [T,C] as soon as each is complete; None: the next frame must be waited for."""
        buffer = WindowBuffer(self._model.window_length, self._model.window_stride)
        for steps in self._extractor.steps(self._source, timing, self._every):
            if steps is None:
                yield None
                continue
            self._steps += len(steps)
            yield from buffer.push(steps)
            if on_progress is not None:
                on_progress(timing)
        self._ended = True
        yield from buffer.finish()

    def placed(self, found: Candidates) -> Candidates:
        """Final candidates as seconds of the video. Before its end none reaches behind the last snippet seen."""
        end_s = self.timing.extent_s(self._steps) if self._ended else math.inf
        return found.placed(self.timing.seconds(0.0), end_s)


def feature_inputs(batch: list[Window], size: int) -> Arrays:
    """Engine inputs: features float32 [size,C,T], lengths int32 [size]; the last window fills up a short batch."""
    filled = batch + [batch[-1]] * (size - len(batch))
    features: NDArray[np.float32] = np.stack([np.ascontiguousarray(window.frames.T) for window in filled])
    return {"features": features, "lengths": np.array([window.length for window in filled], np.int32)}
