"""Detect actions in a video from frames or features, all at once or each as soon as it is final."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

import runtime
from runtime.common.ranges import Count, Length, Seconds, Share, check_ranges
from runtime.decoding.candidates import Candidates
from runtime.engines import open_engine
from runtime.engines.base import Arrays, Engine
from runtime.engines.pipeline import infer_in_turn, runs_for_throughput
from runtime.engines.streaming import StreamingEngine
from runtime.errors import AfsdError, InputError, VideoError, VideoWarning
from runtime.families import family_of
from runtime.features.extractor import FeatureExtractor, check_backbone_fits
from runtime.features.video_features import Features
from runtime.inputs import AnyWindow, Input, Progress, make_engine_inputs, open_input
from runtime.live.delay import worst_delay
from runtime.results.detections import Detections
from runtime.results.facts import VideoFacts, selection_facts
from runtime.spec.model import ModelSpec
from runtime.suppression.policies import SETTLE_WINDOWS
from runtime.suppression.selection import EXCLUSIVE, Exclusive, Selection
from runtime.timing import Timing
from runtime.two_streams import TwoStreamEngine, name_pair
from runtime.video.flow import FLOW_METHODS, FlowMethod
from runtime.video.readers.choice import READERS, ReaderName
from runtime.video.rgb_and_flow import FlowSource
from runtime.video.sampling import FRAME_TIMINGS, FrameTiming
from runtime.video.sources import FrameSource, NamedSource, is_url, name_of

if TYPE_CHECKING:
    from runtime.live.options import WatchOptions
    from runtime.live.watcher import Watcher

EngineSource = str | os.PathLike[str] | Engine
"""Engine of a detector: path of an engine file, or a loaded engine."""

WindowOutputs = tuple[AnyWindow, Mapping[str, NDArray[np.float32]], int]
"""Outputs of a window: the window, the raw outputs of its batch, and its index in the batch."""


@dataclass(frozen=True)
class DetectorOptions:
    """Holds the options of a Detector."""

    batch_size: Count = 1
    """Number of windows per call of the engine; a stream's detections are delayed until a batch is full."""
    score_threshold: Share | None = None
    """Score that candidates must exceed before suppression; None: the model's own (0.01)."""
    min_score: Share = 0.0
    """Lowest score, after suppression, of a detection that is returned."""
    exclusive: Exclusive = "none"
    """Detections that may not overlap, of which the best wins: those of one "class", or "all" (see `Selection`)."""
    merge_gap: Length | None = None
    """Longest gap in seconds between two detections of a class that become one; None: none do."""
    min_length: Length = 0.0
    """Shortest detection in seconds that is returned, after merging."""
    nms: Literal["local", "reference"] = "local"
    """Suppression. "local": NMS during the video, exact for every source with an end (see `settle_seconds`).
    "reference": the published script's over the whole video, which never returns the last candidate of a class; for
    reproducing published numbers."""
    settle_seconds: Seconds | None = None
    """Longest time in seconds for which, in a source without end, a chain of ever better overlapping candidates may
    hold back an older one; then its scores are settled without those that follow, with a VideoWarning, and counted in
    `Timing.settlements`. None: four windows. Sources that have an end are never settled early; iterables and pipes, of
    which nobody knows, only if this is given."""
    stride: Count | None = None
    """Frames, or steps, between the starts of windows; None: the model's own. A model on windows runs once per window;
    of a streaming one only the head does, and it takes multiples of `Streaming.multiple` (8)."""
    max_latency: Seconds | None = None
    """Longest time in seconds from an action's end to its detection (`runtime.live.delay`, `usual_s`), by which the
    stride is chosen: the largest that keeps it, at most the model's own. None: `stride`."""
    timing: FrameTiming | None = None
    """Rule by which frames are sampled, "presented" or "counted" (see `FrameTiming`); None: by time stamps, and counted
    with nms="reference"."""
    reader: ReaderName = "auto"
    """Library that reads files and URLs: "pyav", "opencv", or "auto" (see `ReaderName`)."""
    allow_truncated: bool = False
    """Read a file that ends early as far as possible, with a VideoWarning instead of a VideoError."""
    flow_method: FlowMethod = "auto"
    """Method of optical flow where none is given: "tvl1" as published, "dis", or "auto" (see `FlowMethod`)."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.stride is not None and self.max_latency is not None:
            raise InputError("max_latency: chooses the stride, which is given too; leave one of them out")
        if self.settle_seconds is not None and self.nms == "reference":
            raise InputError("settle_seconds: nms 'reference' waits for the whole video; leave one of them out")
        if self.nms not in ("local", "reference"):
            raise InputError(f"nms: got {self.nms!r}, expected 'local' or 'reference'")
        for name, choice, choices in (
            ("flow_method", self.flow_method, FLOW_METHODS),
            ("timing", self.frame_timing, FRAME_TIMINGS),
            ("reader", self.reader, READERS),
            ("exclusive", self.exclusive, EXCLUSIVE),
        ):
            if choice not in choices:
                raise InputError(f"{name}: got {choice!r}, expected one of {', '.join(choices)}")

    def horizon(self, spec: ModelSpec, endless: bool | None) -> float:
        """Return the longest wait in seconds of a candidate that no later window can lower; infinite for no bound.

        Args:
            spec: spec of the model at the rate of the video.
            endless: whether the source has no end; None: nobody knows.
        """
        if endless is not False and self.settle_seconds is not None:
            return self.settle_seconds
        return SETTLE_WINDOWS * spec.window_length / spec.sample_fps if endless else math.inf

    @property
    def frame_timing(self) -> FrameTiming:
        """Rule by which frames are sampled, `timing` or its default."""
        return self.timing or ("counted" if self.nms == "reference" else "presented")


class Detector:
    """Finds actions in videos with one engine, or with an RGB and a flow engine whose outputs are fused.

    A model on features takes features, or frames through the backbones that make the features. Engines are paths or
    loaded engines; the detector closes only engines that it opened. Not for concurrent use.
    """

    def __init__(
        self,
        engine: EngineSource,
        *,
        flow_engine: EngineSource | None = None,
        backbone: EngineSource | Sequence[EngineSource] | None = None,
        options: DetectorOptions | None = None,
        model: str = "",
    ) -> None:
        """Load the engines whose paths are given.

        Args:
            engine: engine of a model on RGB, flow, both, or features.
            flow_engine: engine of the flow model that is fused with an RGB model.
            backbone: engine of the I3D that makes the features of a model on features, or one on RGB and one on flow,
                in the order of the model's channels.
            options: see `DetectorOptions`.
            model: name of the model, for what is written; empty: by the paths of the engines.

        Raises:
            InputError: `engine` is a backbone, an engine was built for another batch size, or the models do not fit
                together.
            EngineError, SpecError, MissingDependencyError: see `open_engine`.
        """
        self.options = DetectorOptions() if options is None else options
        self._opened: list[Engine] = []
        self._model = model or name_pair(_path_of(engine), _path_of(flow_engine))
        try:
            self.engine: Engine = self._load(engine)
            """Engine of the model; for two streams a `TwoStreamEngine`."""
            if flow_engine is not None:
                self.engine = TwoStreamEngine(self.engine, self._load(flow_engine))
            self.spec = choose_stride(self.engine.spec, self.options)
            """Spec of the model at the stride of the options; for two streams the fused spec."""
            family_of(self.spec)  # refuses a backbone
            self._extractor = None if backbone is None else self._load_backbones(backbone)
            if self._extractor is not None and self.options.max_latency is not None:
                raise InputError(
                    "max_latency: the delay of a backbone that makes features is not known; give stride in its place"
                )
            self._fixed_batch = _require_batch(self.spec, self.options.batch_size)
        except AfsdError:
            self.close()
            raise
        self.timing = Timing(self.spec.sample_fps)
        """Timing of the latest run or stream, updated while it runs."""

    @property
    def model(self) -> str:
        """Name of the model: as given, or the path of its file, of two streams with the name of the other's; empty
        for a loaded engine."""
        return self._model

    def run(
        self,
        source: FrameSource | Features,
        *,
        flow: FlowSource | None = None,
        fps: float | None = None,
        on_progress: Progress | None = None,
    ) -> Detections:
        """Detect actions in the whole input, and return the concatenation of what `stream` yields.

        Args:
            source: file, folder of images, URL, camera index, array [T,H,W,C] uint8 0–255, or an iterable of frames or
                chunks. RGB; a flow model also takes arrays and iterables of flow (x, y). A model on features takes
                `Features`, an .npy or .npz, or an array [T,C]; with a backbone also frames.
            flow: precomputed flow for two streams, one for each frame that the network sees; None: flow is computed.
            fps: frames per second of the video. Default: the file's own; the model's for arrays and folders.
            on_progress: function called after each batch.

        Raises:
            VideoError, InputError, MissingDependencyError: see `open_input`; the source has no end.
            EngineError: the network failed or gave NaN.
        """
        video = self.open(source, flow=flow, fps=fps)
        if video.endless:
            video.close()
            raise InputError(
                f"{video.name}: a live source has no end; use stream(), or afsd detect --stream or afsd watch"
            )
        nothing = Detections.empty(self.spec.classes, video.name)
        found = Detections.concatenate([nothing, *self.find(video, on_progress)])
        return replace(found, facts=self._facts(source, video))

    def stream(
        self,
        source: FrameSource | Features,
        *,
        flow: FlowSource | None = None,
        fps: float | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Detections]:
        """Yield detections, each exactly once, as soon as no later frame can change them.

        Memory does not grow with the length of the input (with nms="local"). Closing the iterator ends the reading.
        A model that sees whole videos yields everything at the end. If the source breaks off (VideoError), what was
        found before is yielded first.
        Arguments and errors are those of `run`; a source that cannot be opened fails in this call.
        """
        return self.find(self.open(source, flow=flow, fps=fps), on_progress)

    def open(
        self, source: FrameSource | Features, *, flow: FlowSource | None = None, fps: float | None = None
    ) -> Input:
        """Open a video as the model needs it, and start the timing; arguments and errors are those of `run`."""
        video = open_input(
            source,
            self.spec,
            extractor=self._extractor,
            streaming=self.engine if isinstance(self.engine, StreamingEngine) else None,
            flow=flow,
            flow_method=self.options.flow_method,
            fps=fps,
            batch_size=self.options.batch_size,
            allow_truncated=self.options.allow_truncated,
            frame_timing=self.options.frame_timing,
            reader=self.options.reader,
            prompt=self.options.max_latency is not None,
        )
        self.timing = video.timing
        return video

    def infer(self, video: Input, on_progress: Progress | None = None) -> Iterator[WindowOutputs]:
        """Run the network on an opened video, yield each window with its raw outputs, and close the video.

        Raises:
            VideoError, InputError: reading the video failed; see `run`.
            EngineError: the network failed.
        """
        timing = video.timing
        with closing(video):
            batches = self._batches(video.windows(on_progress), timing)
            patient = video.endless is False and runs_for_throughput(self.engine)
            for batch, outputs in infer_in_turn(self.engine, batches, timing.engine, patient):
                timing.windows += len(batch)
                for index, window in enumerate(batch):
                    yield window, outputs, index
                if on_progress is not None:
                    on_progress(timing)

    def stack(self, windows: Sequence[AnyWindow]) -> Arrays:
        """Stack windows, at most `batch_size`, as the engine's inputs; the last fills up an engine of fixed batch."""
        return make_engine_inputs(windows, self._fixed_batch or len(windows), self.spec)

    def find_in(self, video: Input, *, endless: bool | None = None) -> Finder:
        """Return what turns the raw outputs of a video's windows into detections (see `infer`).

        Args:
            video: the video.
            endless: whether it is part of a source without end; None: as the video says.
        """
        return Finder(video, self.spec, self.options, video.endless if endless is None else endless)

    def watch(self, sources: Sequence[str | int | NamedSource], options: WatchOptions | None = None) -> Watcher:
        """Watch several live sources and files at once; iterate over the result for its events.

        Args:
            sources: URLs of streams, camera numbers, and files, which are read once; a NamedSource has its own name.
            options: see `WatchOptions`.

        Raises:
            InputError: the model sees features or whole videos.
            VideoError: a file is missing.
        """
        from runtime.live.watcher import Watcher

        return Watcher(self, sources, options)

    def close(self) -> None:
        """Close the engines that this detector opened."""
        for engine in self._opened:
            engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _facts(self, source: FrameSource | Features, video: Input) -> VideoFacts:
        """Return where the detections of a video come from."""
        path = ""
        if isinstance(source, (str, os.PathLike)):
            path = name_of(source)[1] if isinstance(source, str) and is_url(source) else str(source)
        return replace(
            video.facts(),
            path=path,
            model=self._model,
            threshold=self.options.min_score or None,
            **selection_facts(self.options.exclusive, self.options.merge_gap, self.options.min_length),
            version=runtime.__version__,
        )

    def _load(self, engine: EngineSource) -> Engine:
        if not isinstance(engine, (str, os.PathLike)):
            return engine
        self._opened.append(open_engine(Path(engine)))
        return self._opened[-1]

    def _load_backbones(self, backbone: EngineSource | Sequence[EngineSource]) -> FeatureExtractor:
        several = [backbone] if isinstance(backbone, (str, os.PathLike, Engine)) else backbone
        fps = None if self.spec.features is None else self.spec.features.fps
        extractor = FeatureExtractor([self._load(one) for one in several], sample_fps=fps)
        check_backbone_fits(self.spec, extractor)
        return extractor

    def _batches(
        self, windows: Iterator[AnyWindow | None], timing: Timing
    ) -> Iterator[tuple[list[AnyWindow], Arrays] | None]:
        """Yield batches of `batch_size` windows, the last may be smaller, with the engine's inputs made of them.

        Batches depend only on the index of the windows. None: the next frame is not ready.
        """
        waiting: list[AnyWindow] = []
        for window in windows:
            if window is None:
                yield None
                continue
            waiting.append(window)
            if len(waiting) == self.options.batch_size:
                yield self._prepare(waiting, timing)
                waiting = []
        if waiting:
            yield self._prepare(waiting, timing)

    def _prepare(self, batch: list[AnyWindow], timing: Timing) -> tuple[list[AnyWindow], Arrays]:
        with timing.window():
            return batch, self.stack(batch)

    def find(self, video: Input, on_progress: Progress | None = None) -> Iterator[Detections]:
        """Yield the detections of an opened video, as `stream` does, and close it.

        Raises:
            VideoError, EngineError: see `stream`.
        """
        finder = self.find_in(video)
        said = False
        timing, windows = video.timing, self.infer(video, on_progress)
        failure: VideoError | None = None
        with closing(windows):  # type: ignore[type-var]  # a generator
            try:
                for window, outputs, index in windows:
                    with timing.post():
                        found = finder.push(window, outputs, index)
                    timing.settlements = finder.settlements
                    if timing.settlements and not said:
                        said = True
                        warnings.warn(finder.settled(), stacklevel=3)
                    if len(found):
                        yield found
            except VideoError as error:
                failure = error
        with timing.post():
            found = finder.finish()
        if len(found):
            yield found
        if failure is not None:
            raise failure


class Finder:
    """Turns the raw outputs of one video's windows into detections, each given out once, when it is final."""

    def __init__(self, video: Input, model: ModelSpec, options: DetectorOptions, endless: bool | None = False) -> None:
        spec = replace(model, sample_fps=video.rate)  # each video may have a rate of its own
        self._video, self._spec, self._options, self._endless = video, spec, options, endless
        self._published = options.nms == "reference"
        self._family = family_of(spec)
        family = self._family
        self._horizon = options.horizon(spec, endless)
        self._suppression = (
            family.suppress_as_published(spec) if self._published else family.suppress(spec, self._horizon)
        )
        self._selection = Selection(
            len(spec.classes),
            exclusive=options.exclusive,
            merge_gap=options.merge_gap,
            min_length=options.min_length,
            horizon=self._horizon,
        )

    def anew(self) -> Finder:
        """Return a finder for the same video that has seen none of its windows; its second 0 is where they begin."""
        return Finder(self._video, self._spec, self._options, self._endless)

    @property
    def settlements(self) -> int:
        """Number of chains of candidates, or of detections, that were settled before their end."""
        return self._suppression.settlements + self._selection.settlements

    def settled(self) -> VideoWarning:
        """Return the warning that a chain was settled."""
        return VideoWarning(
            f"{self._video.name or 'frames'}: candidates overlap in a chain of more than {self._horizon:g} s, so "
            "scores were settled before it ended and may differ from those over the whole video; raise settle_seconds "
            "(--settle) to wait longer"
        )

    def push(self, window: AnyWindow, outputs: Mapping[str, NDArray[Any]], index: int) -> Detections:
        """Take the raw outputs of the next window, the entry `index` of its batch, and return what is final.

        Raises:
            EngineError: the network gave NaN.
        """
        whole = self._published or (self._spec.sampling == "whole_video" and self._spec.features is None)
        candidates = self._family.decode(
            outputs,
            index,
            window.offset,
            self._spec,
            self._options.score_threshold,
            keep_empty=self._published,
            length=None if whole else window.length,
        )
        return self._present(self._suppression.push(candidates, window.offset), self._frontier())

    def finish(self) -> Detections:
        """End the video and return the rest."""
        return self._present(self._suppression.finish(), math.inf)

    def _frontier(self) -> float:
        """Return the second of the video at or after which everything starts that suppression still holds back."""
        start = self._suppression.frontier
        if not math.isfinite(start):
            return start
        probe = Candidates(np.array([[start, start + 1]]), np.zeros(1, np.int32), np.ones(1))
        return float(self._video.place(probe).segments[:, 0].min(initial=math.inf))

    def _present(self, final: Candidates, frontier: float) -> Detections:
        """Return the final candidates that reach `min_score` and are selected as detections."""
        placed = self._video.place(final)
        shown = self._selection.push(placed.take(placed.scores >= self._options.min_score), frontier)
        return Detections(shown.segments, shown.labels, shown.scores, self._spec.classes, self._video.name)


def choose_stride(spec: ModelSpec, options: DetectorOptions) -> ModelSpec:
    """Return a spec with the stride of the options: as given, or the largest that keeps `max_latency`.

    Raises:
        InputError: the model has no such stride, or none is short enough.
    """
    step = 1 if spec.streaming is None else spec.streaming.multiple
    if options.max_latency is None:
        if options.stride is None:
            return spec
        if options.stride % step or options.stride > spec.window_length:
            kind = "a whole number" if step == 1 else f"a multiple of {step} frames"
            raise InputError(f"stride: got {options.stride}, expected {kind} from {step} to {spec.window_length}")
        return replace(spec, window_stride=options.stride)

    def delay(stride: int) -> float:
        """Return the longest delay in seconds; a batch waits for the strides of its other windows."""
        usual_s = worst_delay(
            replace(spec, window_stride=stride),
            0.0,
            exclusive=options.exclusive != "none",
            merge_gap_s=options.merge_gap,
        ).usual_s
        return usual_s + (options.batch_size - 1) * stride / spec.sample_fps

    fitting = [stride for stride in range(step, spec.window_stride + 1, step) if delay(stride) <= options.max_latency]
    if not fitting:
        batch = "" if options.batch_size == 1 else f", {options.batch_size} in a batch,"
        raise InputError(
            f"max_latency: got {options.max_latency:g} s, the model's windows of {spec.window_length} frames{batch} at "
            f"{spec.sample_fps:g} per second need {delay(step):.1f} s at least; "
            "give as much, or a model of shorter windows"
        )
    return replace(spec, window_stride=fitting[-1])


def _path_of(engine: EngineSource | None) -> str:
    return str(engine) if isinstance(engine, (str, os.PathLike)) else ""


def _require_batch(spec: ModelSpec, batch_size: int) -> int | None:
    """Return the batch size that an engine was built for, None for any (InputError: it is not `batch_size`)."""
    fixed = {size for tensor in spec.inputs if isinstance(size := tensor.shape[0], int)}
    if fixed - {batch_size}:
        built = " and ".join(map(str, sorted(fixed)))
        raise InputError(
            f"batch_size: got {batch_size}, the engine was built for {built} windows; "
            f"use batch_size {built} or export with a dynamic batch"
        )
    return batch_size if fixed else None
