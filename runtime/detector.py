"""Detector: video in, detections out, all at once or as soon as each is final."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.decoding.candidates import Candidates
from runtime.decoding.families import decode_window, suppression_of
from runtime.engines import open_engine
from runtime.engines.base import Engine
from runtime.engines.pipeline import infer_in_turn
from runtime.errors import AfsdError, InputError
from runtime.inputs import StepInput, StepRun, feature_inputs
from runtime.results.detections import Detections
from runtime.segments import valid_segments
from runtime.spec.model import ModelSpec
from runtime.suppression.policies import Suppression
from runtime.timing import Timing
from runtime.two_streams import TwoStreamEngine
from runtime.video.flow import FLOW_METHODS, FlowMethod
from runtime.video.rgb_and_flow import RGB_CHANNELS, FlowSource, open_streams
from runtime.video.sampling import FrameSource, FrameStream
from runtime.windows import Window, WindowBuffer

MIN_READ_AHEAD = 8
"""Frames decoded ahead of the network at least."""

EngineSource = str | os.PathLike[str] | Engine
"""Path of an engine file, or a loaded engine."""

BACKBONE_USE = "give it as Detector(model, backbone=…), beside a model on features, or to afsd features"

Progress = Callable[[Timing], None]
"""Called after each batch of windows, and of a backbone's snippets."""


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
    flow_method: FlowMethod = "auto"
    """Optical flow of models that see it, where none is given: "tvl1" as published, "dis", or whichever is there."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"batch_size: got {self.batch_size}, expected at least 1")
        for name, value in (("score_threshold", self.score_threshold), ("min_score", self.min_score)):
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name}: got {value}, expected 0 … 1")
        if self.nms not in ("local", "reference"):
            raise InputError(f"nms: got {self.nms!r}, expected 'local' or 'reference'")
        if self.flow_method not in FLOW_METHODS:
            raise InputError(f"flow_method: got {self.flow_method!r}, expected one of {', '.join(FLOW_METHODS)}")


class Detector:
    """Finds actions in videos with one engine, with an RGB and a flow engine whose outputs are fused, or with an engine
    on features behind the backbones that make them.

    Give it paths or loaded engines; it closes only what it opened. Not for concurrent use.
    """

    def __init__(
        self,
        engine: EngineSource,
        *,
        flow_engine: EngineSource | None = None,
        backbone: EngineSource | Sequence[EngineSource] | None = None,
        options: DetectorOptions | None = None,
    ) -> None:
        """Load the engines whose paths are given.

        Args:
            engine: of an RGB, flow, or fused two-stream model; or of one on features, with `backbone`.
            flow_engine: of the flow model beside an RGB one.
            backbone: of an I3D that makes the features; of one on RGB and one on flow, in the order of the model's
                channels.
            options: see `DetectorOptions`.

        Raises:
            InputError: a model of another family or stream, a batch size fixed at another number, or models that do
                not belong together.
            EngineError, SpecError, MissingDependencyError: see `open_engine`.
        """
        self.options = DetectorOptions() if options is None else options
        self._opened: list[Engine] = []
        try:
            self.engine: Engine = self._load(engine)
            """The engine; of two, a `TwoStreamEngine` around both."""
            if flow_engine is not None:
                self.engine = TwoStreamEngine(self.engine, self._load(flow_engine))
            self.spec = self.engine.spec
            """Of the model; of two, of both together."""
            self._steps = self._behind(backbone)
            self._fixed_batch = fixed_batch(self.spec, self.options.batch_size)
        except AfsdError:
            self.close()
            raise
        self.timing = Timing(self.spec.sample_fps)
        """Where the time of the latest run or stream went; grows while it goes."""

    def run(
        self,
        frames: FrameSource,
        *,
        flow: FlowSource | None = None,
        fps: float | None = None,
        on_progress: Progress | None = None,
    ) -> Detections:
        """Detect in the whole input: the concatenation of what `stream` gives.

        Args:
            frames: file, folder of images, URL, camera index, array [T,H,W,C] uint8 0–255, or an iterable of
                frames or chunks. RGB; a flow model also takes arrays and iterables of flow (x, y).
            flow: precomputed flow for two streams, one for each frame the network sees; computed when None.
            fps: frames per second of the input. Default: the file's own; the model's for arrays and folders.
            on_progress: called after each batch.

        Raises:
            VideoError, InputError, MissingDependencyError: see `open_streams`.
            EngineError: the network failed or gave NaN.
        """
        source = self._open(frames, flow, fps)
        nothing = Detections.empty(self.spec.classes, source.name)
        return Detections.concatenate([nothing, *self._stream(source, self.timing, on_progress)])

    def stream(
        self,
        frames: FrameSource,
        *,
        flow: FlowSource | None = None,
        fps: float | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Detections]:
        """Yield detections, each exactly once, as soon as nothing later can change them.

        Memory does not grow with the length of the input (with nms="local"). Closing the iterator ends the reading.
        A model that sees whole videos gives everything at the end.
        Arguments and errors as in `run`; a source that cannot be opened fails here, not at the first step.
        """
        return self._stream(self._open(frames, flow, fps), self.timing, on_progress)

    def close(self) -> None:
        """Close what this detector opened."""
        for engine in self._opened:
            engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _behind(self, backbone: EngineSource | Sequence[EngineSource] | None) -> StepInput | None:
        """What feeds a model on features; None: the model sees frames itself."""
        if backbone is None:
            _check_model(self.spec)
            return None
        several = [backbone] if isinstance(backbone, (str, os.PathLike, Engine)) else backbone
        return StepInput(self.spec, [self._load(one) for one in several])

    def _load(self, engine: EngineSource) -> Engine:
        if not isinstance(engine, (str, os.PathLike)):
            return engine
        self._opened.append(open_engine(Path(engine)))
        return self._opened[-1]

    def _open(self, frames: FrameSource, flow: FlowSource | None, fps: float | None) -> FrameStream:
        """Open the source, as the model needs it, and start the clock."""
        seen = self.spec if self._steps is None else self._steps.seen
        timing = Timing(seen.sample_fps)
        source = open_streams(
            frames,
            seen,
            timing,
            flow=flow,
            flow_method=self.options.flow_method,
            fps=fps,
            read_ahead=max(MIN_READ_AHEAD, self.options.batch_size * seen.window_stride),
            allow_truncated=self.options.allow_truncated,
        )
        timing.sample_fps, timing.expected_frames = source.sample_fps, source.expected
        self.timing = timing
        return source

    def _stream(self, source: FrameStream, timing: Timing, on_progress: Progress | None) -> Iterator[Detections]:
        run = None if self._steps is None else StepRun(self._steps, source)
        rate = source.sample_fps if run is None else 1 / run.timing.step_s
        spec = replace(self.spec, sample_fps=rate)  # a whole video, and the features of any, have a rate of their own
        suppression = self._suppression(spec)
        windows = self._windows(source, timing) if run is None else run.windows(timing, on_progress)
        with source:
            for batch, outputs in infer_in_turn(self.engine, self._prepared(windows, timing, spec), timing.engine):
                timing.windows += len(batch)
                for index, window in enumerate(batch):
                    with timing.post():
                        final = suppression.push(self._decode(outputs, index, window, spec), window.offset)
                    yield from self._present(final, source, run)
                if on_progress is not None:
                    on_progress(timing)
            with timing.post():
                final = suppression.finish()
            yield from self._present(final, source, run)

    def _prepared(
        self, windows: Iterator[Window | None], timing: Timing, spec: ModelSpec
    ) -> Iterator[tuple[list[Window], dict[str, NDArray[Any]]] | None]:
        """Batches with the inputs made of them; None before a frame that must be waited for."""
        for batch in self._batches(windows):
            if batch is None:
                yield None
                continue
            with timing.engine():
                size = self._fixed_batch or len(batch)
                on_features = spec.stream == "features"
                inputs = feature_inputs(batch, size) if on_features else engine_inputs(batch, size, spec)
            yield batch, inputs

    def _batches(self, windows: Iterator[Window | None]) -> Iterator[list[Window] | None]:
        """Windows in groups of `batch_size`, by window index alone; the last group may be smaller. None between them:
        the next frame must be waited for."""
        waiting: list[Window] = []
        for window in windows:
            if window is None:
                yield None
                continue
            waiting.append(window)
            if len(waiting) == self.options.batch_size:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def _windows(self, source: FrameStream, timing: Timing) -> Iterator[Window | None]:
        """Windows of frames; None: the next frame must be waited for."""
        buffer = WindowBuffer(self.spec.window_length, self.spec.window_stride)
        while True:
            if not source.ready:
                yield None
            if (frame := timing.next_frame(source)) is None:
                break
            yield from buffer.push(frame)
        yield from buffer.finish()

    def _decode(self, outputs: Mapping[str, NDArray[Any]], index: int, window: Window, spec: ModelSpec) -> Candidates:
        published = self.options.nms == "reference"
        return decode_window(
            outputs,
            index,
            window.offset,
            spec,
            score_threshold=self.options.score_threshold,
            keep_empty=published,
            length=None if published or spec.sampling == "whole_video" else window.length,
        )

    def _suppression(self, spec: ModelSpec) -> Suppression:
        return suppression_of(spec, reference=self.options.nms == "reference")

    def _present(self, final: Candidates, source: FrameStream, run: StepRun | None) -> Iterator[Detections]:
        """What is shown of final candidates. Those of a whole video are cut at its end, as published; the padding of a
        short one lies behind it."""
        final = final if run is None else run.placed(final)
        shown = final.take(final.scores >= self.options.min_score)
        if self.spec.sampling == "whole_video" and source.duration is not None:
            shown = replace(shown, segments=np.clip(shown.segments, 0, source.duration))
            shown = shown.take(valid_segments(shown.segments))
        if len(shown):
            yield Detections(shown.segments, shown.labels, shown.scores, self.spec.classes, source.name)


def engine_inputs(batch: list[Window], size: int, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """Engine inputs: frames uint8 [size,T,H,W,C], lengths int32 [size], and for two streams flow uint8 [size,T,H,W,2];
    the last window fills up a short batch."""
    filled = batch + [batch[-1]] * (size - len(batch))
    lengths = np.array([window.length for window in filled], np.int32)
    if spec.stream != "rgb+flow":
        return {"frames": np.stack([window.frames for window in filled]), "lengths": lengths}
    return {
        "frames": np.stack([window.frames[..., :RGB_CHANNELS] for window in filled]),
        "flow": np.stack([window.frames[..., RGB_CHANNELS:] for window in filled]),
        "lengths": lengths,
    }


def _check_model(spec: ModelSpec) -> None:
    if spec.is_backbone:
        raise InputError(f"the model is a backbone, which detects nothing; {BACKBONE_USE}")
    if spec.family != "afsd" or spec.stream == "features":
        raise InputError(
            f"the model is {spec.family} on {spec.stream}, expected afsd on rgb or flow frames; "
            "give the features of the video to FeatureDetector or to afsd evaluate --features, or to Detector or afsd "
            "detect the backbone that makes them"
        )


def fixed_batch(spec: ModelSpec, batch_size: int) -> int | None:
    """The batch size the engine was built for, which must be the one asked for; None if any will do."""
    fixed = {size for tensor in spec.inputs if isinstance(size := tensor.shape[0], int)}
    if fixed - {batch_size}:
        built = " and ".join(map(str, sorted(fixed)))
        raise InputError(
            f"batch_size: got {batch_size}, the engine was built for {built} windows; "
            f"use batch_size {built} or export with a dynamic batch"
        )
    return batch_size if fixed else None
