"""From frames through a backbone to steps of features, and through a model on features to detections."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.detector import Detector, DetectorOptions
from runtime.errors import EngineError, InputError, VideoWarning
from runtime.features.extractor import FeatureExtractor
from runtime.results.detections import Detections
from runtime.spec.model import spec_from_json
from runtime.spec.time_axis import FeatureSampling
from runtime.timing import Timing
from runtime.video.rgb_and_flow import open_streams
from tests.streaming import cut, peak_memory
from tests.tiny import TinyEngine
from tests.tiny_backbone import (
    SAMPLING,
    SIZE,
    SNIPPET,
    STRIDE,
    MixingModel,
    TinyBackbone,
    backbone_spec,
    feature_model_spec,
    snippet_features,
)

LENGTHS = [1, 7, 8, 11, 12, 13, 71, 150, 301]
"""Frames: less than a snippet, one, two; less than a window of 16 steps (68 frames), and several."""


def video(count: int, seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    """Frames of the backbone's size whose brightness wanders."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (count, 1, 1, 1))
    noise = rng.integers(-20, 20, (count, *SIZE, channels))
    return np.clip(levels + noise, 0, 255).astype(np.uint8)


def plain_steps(frames: NDArray[np.uint8], stream: str = "rgb") -> NDArray[np.float32]:
    """Snippet after snippet, as the words of the paper have it."""
    if len(frames) < SNIPPET:
        frames = np.concatenate([frames, *[frames[-1:]] * (SNIPPET - len(frames))])
    starts = range(0, len(frames) - SNIPPET + 1, STRIDE)
    return np.concatenate([snippet_features(frames[start : start + SNIPPET][None], stream) for start in starts])


def steps_of(extractor: FeatureExtractor, frames: Any, every: int = 1, **sources: Any) -> NDArray[np.float32]:
    source = open_streams(frames, extractor.spec, Timing(1.0), **sources)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VideoWarning)
        return np.concatenate([part for part in extractor.steps(source, Timing(1.0), every) if part is not None])


@pytest.mark.parametrize("count", LENGTHS)
def test_steps_are_those_of_snippets_taken_one_by_one(count: int) -> None:
    frames, backbone = video(count), TinyBackbone()
    expected = plain_steps(frames)
    np.testing.assert_array_equal(steps_of(FeatureExtractor([backbone]), cut(frames, seed=count)), expected)
    assert len(expected) == max((count - SNIPPET) // STRIDE + 1, 1)
    assert sum(backbone.batches) == len(expected)
    assert max(backbone.batches) <= 4
    for every in (2, 3):
        np.testing.assert_array_equal(steps_of(FeatureExtractor([backbone]), frames, every), expected[::every])


def test_a_backbone_of_fixed_batch_is_filled_up() -> None:
    frames, backbone = video(41), TinyBackbone(batch=3)
    np.testing.assert_array_equal(steps_of(FeatureExtractor([backbone]), frames), plain_steps(frames))
    assert backbone.batches == [3, 3, 3]
    with pytest.raises(InputError, match="built for 3"):
        FeatureExtractor([backbone], batch_size=2)


@pytest.mark.parametrize("order", [("rgb", "flow"), ("flow", "rgb")])
def test_channels_of_two_streams_follow_in_the_order_of_the_backbones(order: Sequence[str]) -> None:
    parts = {"rgb": video(45), "flow": video(45, seed=5, channels=2)}
    extractor = FeatureExtractor([TinyBackbone(stream) for stream in order])
    assert extractor.width == 5
    expected = np.concatenate([plain_steps(parts[stream], stream) for stream in order], axis=1)
    np.testing.assert_array_equal(steps_of(extractor, parts["rgb"], flow=parts["flow"]), expected)


def test_a_flow_backbone_sees_flow_that_is_given_or_computed() -> None:
    flow = video(30, channels=2)
    extractor = FeatureExtractor([TinyBackbone("flow")])
    np.testing.assert_array_equal(steps_of(extractor, flow), plain_steps(flow, "flow"))
    still = steps_of(extractor, np.repeat(video(1), 30, axis=0), flow_method="dis")
    np.testing.assert_allclose(still, plain_steps(np.full((30, *SIZE, 2), 128, np.uint8), "flow"), rtol=1e-6)


def same(found: Detections, expected: Detections) -> None:
    for name in ("segments", "labels", "scores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


SAMPLINGS = {
    "centred": SAMPLING,
    "as released": replace(SAMPLING, offset=2.0),
    "early": replace(SAMPLING, offset=0.0),
    "every third": replace(SAMPLING, every=3),
}


@pytest.mark.filterwarnings("ignore::runtime.video.sampling.VideoWarning")
@pytest.mark.parametrize("family", ["afsd", "a2net"])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize(("nms", "batch"), [("local", 1), ("local", 3), ("reference", 2)])
def test_detections_are_those_of_the_features_in_a_file(
    family: str, sampling: FeatureSampling, nms: str, batch: int
) -> None:
    options = DetectorOptions(nms=nms, batch_size=batch)  # type: ignore[arg-type]
    model = MixingModel(feature_model_spec(family, features=sampling))
    detector = Detector(model, backbone=TinyBackbone(), options=options)
    there = 0
    for count in LENGTHS:
        frames = video(count, seed=count)
        expected = Detector(model, options=options).run(plain_steps(frames), fps=25)
        same(detector.run(frames, fps=25), expected)
        assert detector.timing.frames == count
        streamed = [Detections.empty(("a", "b")), *detector.stream(cut(frames, seed=count), fps=25)]
        same(Detections.concatenate(streamed), expected)
        there += len(expected)
    assert there > 20


def test_frames_are_taken_at_the_rate_of_the_features() -> None:
    """A model on features of 10 frames per second, before a source of 20: every second frame, from the second."""
    model = MixingModel(feature_model_spec("a2net", features=replace(SAMPLING, fps=10.0)))
    frames = video(300)
    found = Detector(model, backbone=TinyBackbone()).run(frames, fps=20)
    same(found, Detector(model).run(plain_steps(frames[1::2])))
    assert found.segments.max() > 10
    assert found.segments.max() <= 15


def test_streams_that_run_side_by_side_do_not_mix() -> None:
    detector = Detector(MixingModel(feature_model_spec("a2net")), backbone=TinyBackbone())
    long, short = video(300, seed=1), video(90, seed=2)
    expected = detector.run(long)
    stream = detector.stream(iter(long))
    parts = [next(stream)]
    detector.run(short)
    same(Detections.concatenate([*parts, *stream]), expected)


def test_a_live_stream_gives_detections_before_its_end() -> None:
    given = 0

    def live() -> Iterator[NDArray[np.uint8]]:
        nonlocal given
        for frame in video(400):
            given += 1
            yield frame

    first = next(Detector(MixingModel(feature_model_spec("afsd")), backbone=TinyBackbone()).stream(live()))
    assert len(first) > 0
    assert given < 200


def test_memory_does_not_grow_with_the_stream() -> None:
    base = video(64, seed=1)
    detector = Detector(MixingModel(feature_model_spec("afsd")), backbone=TinyBackbone())

    def peak(repeats: int) -> int:
        return peak_memory(detector.stream(base[t % 64] for t in range(64 * repeats)))

    peak(4)
    assert peak(60) < 1.5 * peak(10)


def test_progress_is_told_between_windows() -> None:
    frames: list[int] = []
    detector = Detector(MixingModel(feature_model_spec("afsd")), backbone=TinyBackbone())
    detector.run(video(60), on_progress=lambda timing: frames.append(timing.frames))  # one window
    assert frames == [20, 36, 52, 60, 60]  # four snippets, four more, …, the last two, the window


def test_a_short_video_is_told() -> None:
    detector = Detector(MixingModel(feature_model_spec("afsd")), backbone=TinyBackbone())
    with pytest.warns(
        VideoWarning, match=r"the frames: 5 frames are less than a snippet of 8; the last frame is repeated"
    ):
        detector.run(video(5))


def test_nan_of_a_backbone_is_an_error() -> None:
    class Broken(TinyBackbone):
        def infer(self, inputs: Any) -> dict[str, NDArray[np.float32]]:
            return {"features": np.full((len(inputs["frames"]), 3), np.nan, np.float32)}

    detector = Detector(MixingModel(feature_model_spec("afsd")), backbone=Broken())
    with pytest.raises(EngineError, match="the backbone on rgb gave NaN or infinity"):
        detector.run(video(20))


A2NET = feature_model_spec("a2net")


@pytest.mark.parametrize(
    ("model", "backbones", "message"),
    [
        (A2NET, [backbone_spec("flow")], r"features of 2 channels, the model takes 3"),
        (A2NET, [backbone_spec(), backbone_spec("flow")], r"features of 3 \+ 2 channels, the model takes 3"),
        (A2NET, [backbone_spec(), backbone_spec()], r"got rgb and rgb, expected one on rgb and one on flow"),
        (A2NET, [backbone_spec(), backbone_spec("flow", frame_size=(20, 20))], r"differ in frame_size"),
        (A2NET, [], r"got none"),
        (A2NET, [A2NET], r"got the detector a2net on features"),
        (A2NET, [TinyEngine().spec], r"got the detector afsd on rgb"),
        (A2NET, [backbone_spec(window_stride=2)], r"a step of 8 frames every 2, the model was trained on .* 8 every 4"),
        (replace(A2NET, features=FeatureSampling(stride=4, window=16)), [backbone_spec()], r"trained on .* 16 every 4"),
        (replace(A2NET, features=FeatureSampling(whole_video=True)), [backbone_spec()], r"sees whole videos"),
        (TinyEngine().spec, [backbone_spec()], r"the model is afsd on rgb frames, expected one on features"),
    ],
)
def test_what_does_not_belong_together_is_refused(model: Any, backbones: list[Any], message: str) -> None:
    engines = []
    for spec in backbones:
        engines.append(TinyBackbone())
        engines[-1].spec = spec
    with pytest.raises(InputError, match=message) as caught:
        Detector(MixingModel(model), backbone=engines)
    assert "\n" not in str(caught.value)


def test_a_backbone_is_no_detector() -> None:
    with pytest.raises(InputError, match="is a backbone, which detects nothing; give it as Detector"):
        Detector(TinyBackbone())
    frames = np.zeros((20, 8, 10, 3), np.uint8)
    with pytest.raises(InputError, match=r"the model sees features, not frames; give it .* or the backbone"):
        Detector(MixingModel(A2NET)).run(frames)


def test_the_spec_of_a_backbone_survives_its_json_and_is_checked() -> None:
    spec = backbone_spec()
    assert spec_from_json(spec.to_json(), "x") == spec
    assert spec.is_backbone
    assert not A2NET.is_backbone
    with pytest.raises(ValueError, match="neither classes nor level_lengths"):
        backbone_spec(classes=("a",))
    with pytest.raises(ValueError, match="must not be empty"):
        replace(A2NET, classes=())


def test_only_what_was_opened_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = {"m.onnx": MixingModel(A2NET), "b.onnx": TinyBackbone()}
    monkeypatch.setattr("runtime.detector.open_engine", lambda path: opened[path.name])
    with Detector("m.onnx", backbone="b.onnx"):
        pass
    assert all(engine.closed for engine in opened.values())  # type: ignore[attr-defined]
    backbone = TinyBackbone()
    Detector(MixingModel(A2NET), backbone=backbone).close()
    assert not backbone.closed
