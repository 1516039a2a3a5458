"""Turn the frames of one video into windows of a streaming backbone's features."""

from __future__ import annotations

from runtime.engines.streaming import StreamingEngine
from runtime.spec.model import ModelSpec
from runtime.streaming.backbone import StreamingBackbone
from runtime.streaming.windows import FeatureWindow, FeatureWindows
from runtime.video.readers.base import Frame


class FramesToWindows:
    """Takes the frames of one video and gives the windows that its head sees, each once.

    Holds the state of the backbone for this one video, so several videos share an engine, one instance for each.
    """

    def __init__(self, engine: StreamingEngine, spec: ModelSpec, chunk: int) -> None:
        """Start a video.

        Args:
            engine: engine of the network; it may serve other videos in between.
            spec: the model's, at the stride of the windows.
            chunk: number of frames of a step; see `StreamingBackbone`.
        """
        self._backbone = StreamingBackbone(engine, chunk)
        self._windows = FeatureWindows(engine.streaming, spec.window_length, spec.window_stride)

    def push(self, frame: Frame) -> list[FeatureWindow] | None:
        """Take one frame uint8 [H,W,C]; return the windows that it completes, None while a chunk is not full.

        Raises:
            InputError, EngineError: see `StreamingBackbone.push`.
        """
        features = self._backbone.push(frame)
        return None if features is None else self._windows.push(features)

    def finish(self) -> list[FeatureWindow]:
        """End the video and return the windows left, the last of which ends with it; no frames give none.

        Raises:
            EngineError: see `StreamingBackbone.push`.
        """
        return self._windows.finish(self._backbone.finish(), self._backbone.taken)
