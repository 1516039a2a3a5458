"""Detector: video in, detections out, all at once or as soon as each is final."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.decode import Candidates, decode_afsd
from runtime.detections import Detections
from runtime.engines import open_engine
from runtime.engines.base import Engine
from runtime.errors import InputError
from runtime.resize import FramePreparation
from runtime.spec import ModelSpec
from runtime.suppression import LocalSuppression, ReferenceSuppression, Suppression
from runtime.timing import Timing
from runtime.video import FrameSource, FrameStream, open_frames
from runtime.windows import Window, WindowBuffer

MIN_READ_AHEAD = 8
"""Frames decoded ahead of the network at least."""

Progress = Callable[[Timing], None]
"""Called after each batch of windows."""


@dataclass(frozen=True)
class DetectorOptions:
    """Options of a Detector."""

    batch_size: int = 1
    """Windows per call of the engine. More than one delays a stream's detections by as many windows."""
    score_threshold: float | None = None
    """Candidates need a score above this before suppression; None: the model's own (0.01)."""
    min_score: float = 0.0
    """Detections below this score, after suppression, are left out."""
    nms: Literal["local", "reference"] = "local"
    """"local": exact soft-NMS as the video goes, in bounded memory. "reference": the published script's, over the
    whole video, which never gives the last candidate of a class; for reproducing published numbers."""
    allow_truncated: bool = False
    """Take what is there of a file that ends early, with a VideoWarning instead of a VideoError."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"batch_size: got {self.batch_size}, expected at least 1")
        for name, value in (("score_threshold", self.score_threshold), ("min_score", self.min_score)):
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name}: got {value}, expected 0 … 1")
        if self.nms not in ("local", "reference"):
            raise InputError(f"nms: got {self.nms!r}, expected 'local' or 'reference'")


class Detector:
    """Finds actions in videos with one engine.

    Give it a path or a loaded engine; it closes only what it opened. Not for concurrent use.
    """

    def __init__(
        self,
        engine: str | os.PathLike[str] | Engine,
        *,
        flow_engine: str | os.PathLike[str] | Engine | None = None,
        options: DetectorOptions | None = None,
    ) -> None:
        """Load the engine if a path is given.

        Raises:
            InputError: the model is of another family or stream, or its batch size is fixed at another number.
            EngineError, SpecError, MissingDependencyError: see `open_engine`.
        """
        if flow_engine is not None:
            raise InputError("two-stream detection is not part of this release yet; leave flow_engine out")
        self._owns_engine = isinstance(engine, (str, os.PathLike))
        self.engine: Engine = open_engine(Path(engine)) if isinstance(engine, (str, os.PathLike)) else engine
        self.spec = self.engine.spec
        self.options = DetectorOptions() if options is None else options
        self.timing = Timing(self.spec.sample_fps)
        """Where the time of the latest run or stream went; grows while it goes."""
        _check_model(self.spec)
        self._fixed_batch = _fixed_batch(self.spec)
        if self._fixed_batch not in (None, self.options.batch_size):
            raise InputError(
                f"batch_size: got {self.options.batch_size}, the engine was built for {self._fixed_batch} windows; "
                f"use batch_size {self._fixed_batch} or export with a dynamic batch"
            )

    def run(self, frames: FrameSource, *, fps: float | None = None, on_progress: Progress | None = None) -> Detections:
        """Detect in the whole input: the concatenation of what `stream` gives.

        Args:
            frames: file, folder of images, URL, camera index, array [T,H,W,C] uint8 0–255, or an iterable of
                frames or chunks. RGB; a flow model takes arrays of flow (x, y).
            fps: frames per second of the input. Default: the file's own; the model's for arrays and folders.
            on_progress: called after each batch.

        Raises:
            VideoError, InputError: see `open_frames`.
            EngineError: the network failed or gave NaN.
        """
        source = self._open(frames, fps)
        nothing = Detections.empty(self.spec.classes, source.name)
        return Detections.concatenate([nothing, *self._stream(source, self.timing, on_progress)])

    def stream(
        self, frames: FrameSource, *, fps: float | None = None, on_progress: Progress | None = None
    ) -> Iterator[Detections]:
        """Yield detections, each exactly once, as soon as nothing later can change them.

        Memory does not grow with the length of the input (with nms="local"). Closing the iterator ends the reading.
        Arguments and errors as in `run`; a source that cannot be opened fails here, not at the first step.
        """
        return self._stream(self._open(frames, fps), self.timing, on_progress)

    def close(self) -> None:
        """Close the engine if this detector opened it."""
        if self._owns_engine:
            self.engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, frames: FrameSource, fps: float | None) -> FrameStream:
        """Open the source, as the model needs it, and start the clock."""
        source = open_frames(
            frames,
            self.spec.sample_fps,
            fps=fps,
            channels=self.spec.channels,
            prepare=FramePreparation(self.spec.frame_size, self.spec.crop_size),
            read_ahead=max(MIN_READ_AHEAD, self.options.batch_size * self.spec.window_stride),
            allow_truncated=self.options.allow_truncated,
        )
        self.timing = Timing(self.spec.sample_fps, expected_frames=source.expected)
        return source

    def _stream(self, source: FrameStream, timing: Timing, on_progress: Progress | None) -> Iterator[Detections]:
        suppression = self._suppression()
        with source:
            for batch in self._batches(source, timing):
                with timing.engine():
                    outputs = self.engine.infer(_inputs(batch, self._fixed_batch or len(batch)))
                timing.windows += len(batch)
                for index, window in enumerate(batch):
                    with timing.post():
                        final = suppression.push(self._decode(outputs, index, window.offset), window.offset)
                    yield from self._present(final, source.name)
                if on_progress is not None:
                    on_progress(timing)
            with timing.post():
                final = suppression.finish()
            yield from self._present(final, source.name)

    def _batches(self, source: FrameStream, timing: Timing) -> Iterator[list[Window]]:
        """Windows in groups of `batch_size`, by window index alone; the last group may be smaller."""
        size = self.options.batch_size
        buffer = WindowBuffer(self.spec.window_length, self.spec.window_stride)
        waiting: list[Window] = []
        while (frame := timing.next_frame(source)) is not None:
            waiting += buffer.push(frame)
            if len(waiting) >= size:
                yield waiting[:size]
                waiting = waiting[size:]
        waiting += buffer.finish()
        for first in range(0, len(waiting), size):
            yield waiting[first : first + size]

    def _decode(self, outputs: Mapping[str, NDArray[Any]], index: int, offset: int) -> Candidates:
        published = self.options.nms == "reference"
        return decode_afsd(outputs, index, offset, self.spec, self.options.score_threshold, keep_empty=published)

    def _suppression(self) -> Suppression:
        return ReferenceSuppression(self.spec) if self.options.nms == "reference" else LocalSuppression(self.spec)

    def _present(self, final: Candidates, name: str) -> Iterator[Detections]:
        shown = final.take(final.scores >= self.options.min_score)
        if len(shown):
            yield Detections(shown.segments, shown.labels, shown.scores, self.spec.classes, name)


def _inputs(batch: list[Window], size: int) -> dict[str, NDArray[Any]]:
    """Engine inputs: frames uint8 [size,T,H,W,C] and lengths int32 [size]; the last window fills up a short batch."""
    filled = batch + [batch[-1]] * (size - len(batch))
    return {
        "frames": np.stack([window.frames for window in filled]),
        "lengths": np.array([window.length for window in filled], np.int32),
    }


def _check_model(spec: ModelSpec) -> None:
    if spec.family != "afsd" or spec.stream not in ("rgb", "flow"):
        raise InputError(
            f"the model is {spec.family} on {spec.stream}, expected afsd on rgb or flow frames; "
            "detection on video takes no other in this release"
        )


def _fixed_batch(spec: ModelSpec) -> int | None:
    """The batch size the engine was built for; None if any will do."""
    sizes = [tensor.shape[0] for tensor in spec.inputs]
    return next((size for size in sizes if isinstance(size, int)), None)
