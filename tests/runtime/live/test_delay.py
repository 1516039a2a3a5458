"""The bound on the delay, against streams simulated frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime import detector as detector_module
from runtime.decoding.candidates import Candidates
from runtime.detector import Detector, DetectorOptions, Finder
from runtime.engines.base import Arrays
from runtime.engines.streaming import Run, StreamingEngine
from runtime.errors import InputError
from runtime.families import FAMILIES
from runtime.inputs import open_input
from runtime.live.delay import Delay, worst_delay
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import StreamFeature, Streaming
from tests.runtime.live.fakes import FakeReader, FakeTime, Shot, images
from tests.tiny import TinyEngine, tiny_spec
from tests.tiny_streaming import TinyStreamingEngine, streaming_spec

PLAIN = DetectorOptions()

Actions = NDArray[np.float64]
"""Start, end, score of each action, in seconds, [N,3]."""


@pytest.fixture
def found_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[float, float]]:
    """Maker of a stream in which the network finds each action in every window that holds it whole: end → delay."""

    def run(spec: ModelSpec, actions: Actions, options: DetectorOptions = PLAIN) -> dict[float, float]:
        def decode(outputs: Any, index: int, offset: int, spec: ModelSpec, *_: Any, **__: Any) -> Candidates:
            start, end = offset / spec.sample_fps, (offset + spec.window_length) / spec.sample_fps
            inside = actions[(actions[:, 0] >= start) & (actions[:, 1] <= end)]
            return Candidates(inside[:, :2], np.zeros(len(inside), np.int32), inside[:, 2])

        monkeypatch.setattr(detector_module, "family_of", lambda _: replace(FAMILIES["afsd"], decode=decode))
        fake = FakeTime()
        interval = 1 / (1.07 * spec.sample_fps)  # of the source, which is a little faster than the model
        last = actions[:, 1].max() + bound_of(spec, options).worst_s + 1
        size = (1, spec.crop_size[0], spec.crop_size[1], 3)
        image = np.zeros(size, np.uint8)[0] if spec.crop_size != (8, 10) else images(1)[0]
        script = (Shot(image, k * interval, interval) for k in range(int(last / interval)))
        reader = FakeReader(script, fake)
        reader.fps, reader.endless = 1 / interval, True
        streaming = None if spec.streaming is None else NoFeatures(spec, "", "numpy", "cpu", "fp32")
        video = open_input(reader, spec, streaming=streaming, flow_method="dis")
        finder = Finder(video, spec, options, endless=True)
        begun = fake.seconds + interval
        delays: dict[float, float] = {}
        outputs: Mapping[str, NDArray[Any]] = {}
        for window in video.windows():
            if window is not None:
                for one in finder.push(window, outputs, 0):
                    delays.setdefault(one.end_s, fake.seconds - begun - one.end_s)
        return delays

    return run


class NoFeatures(StreamingEngine):
    """A streaming network whose features are all zero, as late as those of a real one."""

    def step(
        self, frames: Arrays, states: Arrays, *, start: int, valid: int | None = None, end: int | None = None
    ) -> tuple[Arrays, Arrays]:
        length = frames["frames"].shape[1] - self.streaming.overlap
        return {f.name: np.zeros((1, f.channels, length // f.rate), np.float32) for f in self.streaming.features}, {}

    def prepare(self, chunk: int) -> None:
        """There is nothing to compile."""

    def close(self) -> None:
        raise AssertionError("not of this test")

    def _part(self, part: str, length: int) -> Run:
        raise AssertionError("the head is not run")


def bound_of(spec: ModelSpec, options: DetectorOptions = PLAIN) -> Delay:
    """The bound of a live source."""
    return worst_delay(
        spec,
        options.horizon(spec, endless=True),
        exclusive=options.exclusive != "none",
        merge_gap_s=options.merge_gap,
    )


def model(stream: str, length: int, stride: int, rate: float) -> ModelSpec:
    return tiny_spec(
        stream, window_length=length, window_stride=stride, sample_fps=rate, frame_size=(16, 16), crop_size=(16, 16)
    )


@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize(("length", "stride", "rate"), [(16, 8, 10.0), (20, 20, 4.0), (32, 5, 25.0)])
def test_no_detection_is_later_and_one_is_nearly_as_late(
    found_at: Callable[[ModelSpec, Actions], dict[float, float]], stream: str, length: int, stride: int, rate: float
) -> None:
    spec = model(stream, length, stride, rate)
    ends = length / rate + np.arange(1, 40 * stride) / rate / 8  # at all places between the windows
    actions = np.column_stack([ends - 0.01 / rate, ends, np.full(len(ends), 0.5)])
    delays = found_at(spec, actions)
    latest, bound = max(delays.values()), bound_of(spec)
    assert latest <= bound.usual_s + 1e-9
    assert latest > bound.usual_s - stride / rate
    assert latest > bound.usual_s - 0.5 / rate  # in fact within half a frame
    assert bound.usual_s == pytest.approx((length + stride + 1 + (stream == "flow")) / rate)


@pytest.mark.parametrize(
    "options",
    [
        DetectorOptions(exclusive="class"),
        DetectorOptions(exclusive="all", merge_gap=0.15),
        DetectorOptions(merge_gap=0.7, min_length=0.1),
    ],
)
def test_selected_detections_keep_the_bound_of_their_selection(
    found_at: Callable[..., dict[float, float]], options: DetectorOptions
) -> None:
    """Short actions apart, each with one that is worse, ends later and is nearly as long as a window."""
    length, stride, rate = 20, 4, 4.0
    spec = model("rgb", length, stride, rate)
    starts = 10.0 + 13.0 * np.arange(12) + np.arange(12) * stride / rate / 12
    short = np.column_stack([starts, starts + 0.3, np.full(len(starts), 0.8)])
    long = np.column_stack([starts + 0.2, starts + 0.2 + (length - stride - 1) / rate, np.full(len(starts), 0.4)])
    delays = found_at(spec, np.concatenate([short, long]), options)
    bound = bound_of(spec, options)
    late = [delays[end] for end in short[:, 1].tolist() if end in delays]
    assert bool(late) == (options.exclusive != "none")  # merged, they end with the long ones
    assert max(delays.values()) <= bound.usual_s + 1e-9
    assert max(delays.values()) > bound_of(spec).usual_s  # a selection waits longer


@pytest.mark.parametrize(("length", "stride", "rate"), [(32, 8, 10.0), (40, 24, 25.0)])
def test_a_streaming_network_is_as_late_as_it_says(
    found_at: Callable[[ModelSpec, Actions], dict[float, float]], length: int, stride: int, rate: float
) -> None:
    features = StreamFeature("level_0", 2, 4, 8), StreamFeature("level_1", 2, 8, 6)
    spec = replace(model("rgb", length, stride, rate), streaming=Streaming(6, (), features))
    ends = length / rate + np.arange(1, 40 * stride) / rate / 8
    actions = np.column_stack([ends - 0.01 / rate, ends, np.full(len(ends), 0.5)])
    latest, bound = max(found_at(spec, actions).values()), bound_of(spec)
    assert latest <= bound.usual_s + 1e-9
    assert latest > bound.usual_s - 1 / rate
    assert bound.usual_s == pytest.approx((length + stride + 48 + 8 + 1) / rate)


def test_a_bound_on_the_delay_is_kept_by_sources_that_do_not_say_whether_they_end() -> None:
    """A generator, as standard input: a detector without the bound takes it in chunks of a file."""
    taken = [0]

    def frames() -> Iterator[NDArray[np.uint8]]:
        for _ in range(400):
            taken[0] += 1
            yield np.zeros((8, 10, 3), np.uint8)

    spec = streaming_spec()
    for options in (DetectorOptions(max_latency=(32 + 16 + 16 + 8 + 1) / 10), DetectorOptions(stride=16)):
        detector = Detector(TinyStreamingEngine(spec), options=options)
        assert detector.spec.window_stride == 16
        taken[0] = 0
        late = [
            taken[0] - (window.offset + window.length)
            for window in detector.open(frames(), fps=10.0).windows()
            if window is not None and window.offset + window.length < 300
        ]
        assert len(late) > 5
        assert (max(late) <= 16 + 16) == (options.max_latency is not None)


@pytest.mark.parametrize(("batch", "stride"), [(1, 16), (2, 8)])
def test_a_batch_waits_for_its_windows(batch: int, stride: int) -> None:
    """Windows of 32 frames every 16 at 10 fps come 0.1 · (32 + 16 + 1) s after an action; two at once 1.6 s later."""
    engine = TinyEngine(model("rgb", 32, 16, 10.0))
    detector = Detector(engine, options=DetectorOptions(max_latency=4.9, batch_size=batch))
    assert detector.spec.window_stride == stride
    with pytest.raises(InputError, match=r"need 3\.4 s at least" if batch == 1 else r"2 in a batch, .* need 3\.5 s"):
        Detector(engine, options=DetectorOptions(max_latency=1.0, batch_size=batch))


@pytest.mark.parametrize(("length", "stride", "rate"), [(16, 8, 10.0), (20, 4, 4.0), (32, 5, 25.0)])
def test_a_chain_of_ever_better_actions_waits_no_longer_than_the_bound(
    found_at: Callable[[ModelSpec, Actions], dict[float, float]], length: int, stride: int, rate: float
) -> None:
    spec = model("rgb", length, stride, rate)
    bound, latest = bound_of(spec), 0.0
    step = 0.25 * stride / rate
    for phase in np.arange(8) * stride / rate / 8:
        starts = phase + np.arange(0, 12 * length / rate, step)
        ladder = np.column_stack([starts, starts + 2 * step, np.linspace(0.3, 0.9, len(starts))])
        delays = found_at(spec, ladder)
        latest = max(latest, *delays.values())
    assert latest <= bound.worst_s + 1e-9
    assert latest > bound.worst_s - stride / rate
    assert bound.worst_s == pytest.approx(bound.usual_s + 4 * length / rate)


def test_a_batch_of_one_stream_waits_for_its_windows() -> None:
    spec = tiny_spec()
    assert str(bound_of(spec)).startswith("a detection comes up to 2.5 s after its action ends, in a chain of ever")
