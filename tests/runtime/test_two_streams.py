"""Two streams in one detector against a slow reference that has the whole video in memory; flow given and computed."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.detector import Detector, DetectorOptions
from runtime.errors import EngineError, InputError
from runtime.results.detections import Detections
from runtime.spec.decoding_constants import Decoding
from runtime.spec.model import ModelSpec, fuse_specs
from runtime.two_streams import TwoStreamEngine, fuse_outputs
from runtime.video.flow import FlowEstimator
from runtime.video.resize import resize_bicubic
from runtime.video.sampling import open_frames
from tests.shared import shared
from tests.slow import plain_detections, plain_segments
from tests.streaming import cut, peak_memory
from tests.tiny import CROP, LENGTH, LEVELS, STRIDE, TinyEngine, forward, tiny_spec, write_tiny_onnx
from tests.videos import write_video

SIZE = (12, 14)
"""Frame size of the tiny model; its crop is the centre 8×10."""

Rows = list[tuple[float, ...]]


def video(count: int, seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    """Frames [count,12,14,channels] whose brightness wanders."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (count, 1, 1, channels))
    return np.clip(levels + rng.integers(-40, 40, (count, *SIZE, channels)), 0, 255).astype(np.uint8)


def both(engine: type[TinyEngine] = TinyEngine, options: DetectorOptions | None = None, **spec: Any) -> Detector:
    """A detector of an RGB and a flow engine."""
    return Detector(engine(tiny_spec(**spec)), flow_engine=engine(tiny_spec("flow", **spec)), options=options)


def windows(frames: NDArray[np.uint8], offset: int) -> dict[str, NDArray[np.float32]]:
    """Raw outputs of one window of uncropped frames [T,12,14,C]."""
    taken = frames[offset : offset + LENGTH, 2:10, 2:12]
    window = np.zeros((1, LENGTH, *taken.shape[1:]), np.uint8)
    window[0, : len(taken)] = taken
    return forward(window, np.array([len(taken)], np.int32))


def expected(frames: NDArray[np.uint8], flow: NDArray[np.uint8]) -> Rows:
    """(label, start, end, score) of the mean of both streams' raw outputs, decoded and suppressed one by one."""

    def mean(offset: int) -> dict[str, NDArray[np.float32]]:
        rgb, motion = windows(frames, offset), windows(flow, offset)
        return {name: (rgb[name].astype(float) + motion[name]) / 2 for name in rgb}

    return plain_detections(mean, len(frames), LEVELS, LENGTH, STRIDE, 2)


def rows_of(found: Detections) -> Rows:
    """(label, start, end, score) of all detections, sorted."""
    columns = np.column_stack([found.labels, found.segments, found.scores])
    return sorted(tuple(map(float, row)) for row in columns)


def computed(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """DIS flow of all frames."""
    estimator = FlowEstimator("dis")
    return np.stack([flow for frame in frames for flow in estimator.push(frame)] + estimator.finish())


@pytest.mark.parametrize("count", [1, 5, 16, 17, 31, 100])
def test_given_flow_is_fused_by_the_mean(count: int) -> None:
    frames, flow = video(count, count), video(count, count + 1, channels=2)
    want = expected(frames, flow)
    assert want or count == 1  # every segment of a single frame lies behind it
    np.testing.assert_allclose(rows_of(both().run(frames, flow=flow)), want, rtol=1e-4, atol=1e-5)
    assert want != expected(frames, 255 - flow) or count == 1


@pytest.mark.parametrize("count", [1, 2, 40])
def test_flow_is_computed_from_the_frames(count: int) -> None:
    frames = video(count, count)
    detector = both(options=DetectorOptions(flow_method="dis"))
    np.testing.assert_allclose(rows_of(detector.run(frames)), expected(frames, computed(frames)), rtol=1e-4, atol=1e-5)
    assert detector.timing.flow_method.startswith("DIS (OpenCV")
    assert 0 < detector.timing.flow_ms < detector.timing.wall_seconds * 1000
    assert "flow" in detector.timing.summary()


def test_flow_is_computed_before_the_crop_at_the_model_s_size_and_rate() -> None:
    large = np.random.default_rng(0).integers(0, 256, (60, 30, 40, 3), dtype=np.uint8)
    sampled = np.stack([resize_bicubic(frame, SIZE) for frame in large[2::3]])  # 30 fps to 10: frames 2, 5, 8, …
    detector = both(options=DetectorOptions(flow_method="dis"))
    np.testing.assert_allclose(
        rows_of(detector.run(large, fps=30)), expected(sampled, computed(sampled)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_stream_gives_what_soft_nms_over_all_windows_gives_however_chunked(given: bool, batch_size: int) -> None:
    frames, flow = video(150, 3), video(150, 4, channels=2)
    want = expected(frames, flow if given else computed(frames))
    assert len(want) > 100
    detector = both(options=DetectorOptions(batch_size=batch_size, flow_method="dis"))
    for seed in range(3):
        parts = list(detector.stream(cut(frames, seed), flow=cut(flow, seed + 9) if given else None))
        assert len(parts) > 1
        np.testing.assert_allclose(rows_of(Detections.concatenate(parts)), want, rtol=1e-4, atol=1e-5)


def test_memory_does_not_grow_with_the_stream() -> None:
    frames = video(64)

    def peak(repeats: int) -> int:
        detector = both(options=DetectorOptions(flow_method="dis"))
        return peak_memory(detector.stream(frames[t % 64] for t in range(64 * repeats)))

    peak(2)
    assert peak(20) < 1.5 * peak(4)


def test_flow_from_a_file_on_disk(tmp_path: Path) -> None:
    frames, flow = video(40), video(40, 1, channels=2)
    np.save(tmp_path / "flow.npy", flow)
    assert rows_of(both().run(frames, flow=tmp_path / "flow.npy")) == rows_of(both().run(frames, flow=flow))


def test_a_flow_model_alone_computes_its_flow() -> None:
    frames = video(40)
    detector = Detector(TinyEngine(tiny_spec("flow")), options=DetectorOptions(flow_method="dis"))
    want = rows_of(detector.run(computed(frames)))
    assert want
    assert detector.timing.flow_method == ""
    assert rows_of(detector.run(frames)) == want
    assert rows_of(detector.run(cut(frames, 1))) == want


def test_a_real_video() -> None:
    """Both models from a file, in the reading thread, as from its frames."""
    path = shared("data/videos") / "test.mp4"
    with open_frames(path, 10.0, prepare=lambda frame: resize_bicubic(frame, SIZE)) as source:
        frames = np.stack(list(source))
    options = DetectorOptions(flow_method="dis")
    found = both(options=options).run(path)
    assert found.video == "test"
    np.testing.assert_allclose(rows_of(found), expected(frames, computed(frames)), rtol=1e-4, atol=1e-5)
    alone = Detector(TinyEngine(tiny_spec("flow")), options=options)
    assert rows_of(alone.run(path)) == rows_of(alone.run(computed(frames)))


def test_one_engine_of_two_streams_is_driven_the_same_way() -> None:
    frames, flow = video(60), video(60, 1, channels=2)
    fused = TwoStreamEngine(TinyEngine(), TinyEngine(tiny_spec("flow")))
    assert [tensor.name for tensor in fused.spec.inputs] == ["frames", "flow", "lengths"]
    assert rows_of(Detector(fused).run(frames, flow=flow)) == rows_of(both().run(frames, flow=flow))
    with pytest.raises(InputError, match=r"got models on rgb\+flow and on flow, expected one on rgb, then one on flow"):
        Detector(fused, flow_engine=TinyEngine(tiny_spec("flow")))


def test_geometric_fusion_is_the_root_of_the_product_of_the_ends() -> None:
    decoding = Decoding(fusion="geometric", fused_threshold=0.0, fused_floor=1e-18)
    rgb_spec, flow_spec = tiny_spec(decoding=decoding), tiny_spec("flow", decoding=decoding)
    spec = fuse_specs(rgb_spec, flow_spec)
    assert (spec.decoding.score_threshold, spec.decoding.nms_floor) == (0.0, 1e-18)
    rgb, flow = windows(video(16), 0), windows(video(16, 1, channels=2), 0)
    fused = fuse_outputs(rgb, flow, spec)
    assert not fused["prop_loc"].any()
    ends = zip(plain_segments(rgb, LEVELS, LENGTH), plain_segments(flow, LEVELS, LENGTH), strict=True)
    want = [((a * c) ** 0.5, (b * d) ** 0.5, 0.0) for (a, b, _), (c, d, _) in ends]
    np.testing.assert_allclose(plain_segments(fused, LEVELS, LENGTH), want, atol=1e-5)
    for name in ("conf", "prop_conf", "center"):
        np.testing.assert_allclose(fused[name], (rgb[name].astype(float) + flow[name]) / 2, rtol=1e-6, atol=1e-7)


def test_fused_spec_keeps_the_books() -> None:
    rgb = tiny_spec(multiply_adds=5, checkpoint_sha256="aa", precision="fp16")
    spec = fuse_specs(rgb, tiny_spec("flow", multiply_adds=7, checkpoint_sha256="bb"))
    assert (spec.stream, spec.multiply_adds, spec.checkpoint_sha256) == ("rgb+flow", 12, "aa+bb")
    assert (spec.precision, spec.decoding) == ("fp16+fp32", Decoding())
    assert [tensor.shape[-1] for tensor in spec.inputs[:2]] == [3, 2]


@pytest.mark.parametrize(
    ("flow_spec", "message"),
    [
        (tiny_spec(), "got models on rgb and on rgb, expected one on rgb, then one on flow"),
        (tiny_spec("flow", sample_fps=25.0), "differ in sample_fps 10.0 and 25.0; expected the same"),
        (tiny_spec("flow", classes=("a", "b"), window_stride=4), "differ in classes .* and .*; window_stride 8 and 4"),
    ],
)
def test_models_that_do_not_belong_together(flow_spec: ModelSpec, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Detector(TinyEngine(), flow_engine=TinyEngine(flow_spec))


def test_fixed_batches_of_both_engines() -> None:
    rgb, flow = tiny_spec(batch=5), tiny_spec("flow", batch=2)
    with pytest.raises(InputError, match="batch_size: got 5, the engine was built for 2 and 5 windows"):
        Detector(TinyEngine(rgb), flow_engine=TinyEngine(flow), options=DetectorOptions(batch_size=5))
    flow = replace(flow, inputs=tiny_spec("flow").inputs)
    frames = video(100)
    detector = Detector(TinyEngine(rgb), flow_engine=TinyEngine(flow), options=DetectorOptions(batch_size=5))
    np.testing.assert_allclose(rows_of(detector.run(frames)), rows_of(both().run(frames)), rtol=1e-5)


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (video(39, channels=2), "flow: got 39 entries, the network sees more frames than that"),
        (video(41, channels=2), "flow: got more than 40 entries, the network sees 40 frames"),
        (np.zeros((0, *SIZE, 2), np.uint8), "flow: got 0 entries"),
        (np.zeros((40, 30, 40, 2), np.uint8), "flow: entry 0 is 30×40 pixels, expected 12×14 or 8×10"),
        (video(40), r"flow: got shape \[40, 12, 14, 3\], expected uint8 0–255 \[H,W,2\]"),
        (np.zeros((40, *SIZE, 2), np.float32), r"flow: got float32 \[40, 12, 14, 2\]"),
        (7, "flow: got int, expected a .npy file"),
        ("flow.mp4", "flow: flow.mp4: not a .npy file"),
        ("nowhere.npy", "flow: nowhere.npy: file not found"),
    ],
)
def test_flow_that_does_not_fit(flow: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        both().run(video(40), flow=flow)


def test_a_damaged_flow_file(tmp_path: Path) -> None:
    (tmp_path / "flow.npy").write_bytes(b"not numpy")
    with pytest.raises(InputError, match=r"not a readable \.npy file"):
        both().run(video(40), flow=tmp_path / "flow.npy")


def test_flow_for_a_model_of_one_stream() -> None:
    for stream in ("rgb", "flow"):
        with pytest.raises(InputError, match=f"flow: the model sees {stream} alone; leave flow out"):
            Detector(TinyEngine(tiny_spec(stream))).run(video(40), flow=video(40, channels=2))


def test_sources_of_which_no_flow_can_be_computed() -> None:
    with pytest.raises(InputError, match=r"frames: got shape \[40, 12, 14, 2\], expected uint8 0–255 \[H,W,3\]"):
        both().run(video(40, channels=2))
    with pytest.raises(InputError, match="at least 12×12 pixels for optical flow"):
        both().run(video(40)[:, :8, :10])  # in the tiny model's crop size
    assert len(both().run(video(40)[:, :8, :10], flow=video(40, channels=2)[:, :8, :10])) > 0
    assert CROP == (8, 10)


def test_nan_of_one_stream_is_told() -> None:
    class Broken(TinyEngine):
        def infer(self, inputs: Any) -> dict[str, NDArray[np.float32]]:
            outputs = super().infer(inputs)
            outputs["loc"][0, 3] = np.nan
            return outputs

    for fusion in ("mean", "geometric"):
        decoding = Decoding(fusion=fusion)  # type: ignore[arg-type]
        with pytest.raises(EngineError, match="NaN in the window at 0 s"):
            both(Broken, decoding=decoding).run(video(40))


def test_engine_files_and_who_closes_them(tmp_path: Path) -> None:
    rgb = write_tiny_onnx(tmp_path / "rgb.onnx", None)
    flow = write_tiny_onnx(tmp_path / "flow.onnx", tiny_spec("flow"))
    frames = video(60)
    with Detector(rgb, flow_engine=flow) as detector:
        np.testing.assert_allclose(rows_of(detector.run(frames)), rows_of(both().run(frames)), rtol=1e-3, atol=1e-4)
    with pytest.raises(EngineError, match="closed"):
        detector.run(frames)
    lent = TinyEngine()
    Detector(lent, flow_engine=flow).close()
    assert not lent.closed


def test_leaving_a_stream_early_ends_its_thread(tmp_path: Path) -> None:
    stream = both(options=DetectorOptions(flow_method="dis")).stream(write_video(tmp_path / "test.mp4"))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "afsd-frames"]


def test_an_error_of_the_given_flow_reaches_the_caller(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="flow: got 3 entries, the network sees more frames"):
        both().run(write_video(tmp_path / "test.mp4"), flow=video(3, channels=2))
