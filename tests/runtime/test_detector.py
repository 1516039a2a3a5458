"""The detector against a slow plain reference that has the whole video in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.detector import Detector, DetectorOptions
from runtime.errors import EngineError, InputError, VideoError
from runtime.results.detections import Detections
from runtime.video.resize import FramePreparation
from runtime.video.sampling import open_frames
from tests.shared import shared
from tests.slow import plain_detections, plain_segments
from tests.streaming import cut, peak_memory
from tests.tiny import CROP, LENGTH, LEVELS, STRIDE, TinyEngine, forward, tiny_spec, write_tiny_onnx

LENGTHS = [1, 5, 16, 17, 24, 31, 100]
REFERENCE = DetectorOptions(nms="reference")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
"""The detector decodes in float32, the plain reference in float64."""


def video(count: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Frames of network size whose brightness wanders, so that windows differ."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (count, 1, 1, 1))
    noise = rng.integers(-20, 20, (count, *CROP, channels))
    return np.clip(levels + noise, 0, 255).astype(np.uint8)


def plain_outputs(frames: np.ndarray) -> Callable[[int], dict[str, np.ndarray]]:
    """The tiny network on the window at an offset, cut and run on its own."""

    def at(offset: int) -> dict[str, np.ndarray]:
        taken = frames[offset : offset + LENGTH]
        window = np.zeros((1, LENGTH, *frames.shape[1:]), np.uint8)
        window[0, : len(taken)] = taken
        return forward(window, np.array([len(taken)], np.int32))

    return at


def expected(frames: np.ndarray, published: bool = False) -> list[tuple[float, ...]]:
    """(label, start, end, score) of all detections, sorted, one number at a time."""
    return plain_detections(plain_outputs(frames), len(frames), LEVELS, LENGTH, STRIDE, 2, published=published)


def rows_of(detections: Detections) -> list[tuple[float, ...]]:
    """(label, start, end, score) of all detections, sorted."""
    columns = np.column_stack([detections.labels, detections.segments, detections.scores])
    return sorted(tuple(map(float, row)) for row in columns)


def assert_same(left: Detections, right: Detections) -> None:
    np.testing.assert_array_equal(left.segments, right.segments)
    np.testing.assert_array_equal(left.labels, right.labels)
    np.testing.assert_array_equal(left.scores, right.scores)
    assert left.classes == right.classes


@pytest.mark.parametrize("frames", [[], np.zeros((0, *CROP, 3), np.uint8)])
@pytest.mark.parametrize("options", [DetectorOptions(), REFERENCE])
def test_no_frames(frames: object, options: DetectorOptions) -> None:
    with pytest.raises(InputError, match="expected at least one frame"):
        Detector(TinyEngine(), options=options).run(frames)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", LENGTHS)
def test_run_is_soft_nms_over_all_windows(count: int) -> None:
    frames = video(count, seed=count)
    want = expected(frames)
    assert want or count == 1  # every segment of a single frame lies behind it
    np.testing.assert_allclose(rows_of(Detector(TinyEngine()).run(frames)), want, **CLOSE)


@pytest.mark.parametrize("count", LENGTHS)
def test_nothing_is_found_behind_the_end(count: int) -> None:
    frames = video(count, seed=count)
    found = Detector(TinyEngine()).run(frames)
    duration = count / tiny_spec().sample_fps
    assert (found.segments[:, 1] <= duration + 1e-9).all()
    if count < LENGTH:
        uncut = plain_segments(plain_outputs(frames)(0), LEVELS, LENGTH)  # as the published code, into the padding
        assert any(end > count for _, end, _ in uncut)


@pytest.mark.parametrize("count", LENGTHS)
def test_reference_nms_is_the_published_one(count: int) -> None:
    frames = video(count, seed=count)
    parts = list(Detector(TinyEngine(), options=REFERENCE).stream(frames))
    assert len(parts) == 1
    np.testing.assert_allclose(rows_of(parts[0]), expected(frames, published=True), **CLOSE)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("nms", ["local", "reference"])
def test_stream_gives_what_soft_nms_over_all_windows_gives_however_chunked(batch_size: int, nms: str) -> None:
    frames = video(150, seed=3)
    want = expected(frames, published=nms == "reference")
    assert len(want) > 50
    detector = Detector(TinyEngine(), options=DetectorOptions(batch_size=batch_size, nms=nms))  # type: ignore[arg-type]
    np.testing.assert_allclose(rows_of(detector.run(frames)), want, **CLOSE)
    for seed in range(3):
        parts = list(detector.stream(cut(frames, seed)))
        np.testing.assert_allclose(rows_of(Detections.concatenate(parts)), want, **CLOSE)


def test_batches_go_by_window_index() -> None:
    frames = video(100)
    for batch_size, batches in [(1, [1] * 12), (4, [4, 4, 4]), (5, [5, 5, 2]), (64, [12])]:
        engine = TinyEngine()
        one = Detector(engine, options=DetectorOptions(batch_size=batch_size)).run(cut(frames, batch_size))
        assert engine.batches == batches
        np.testing.assert_allclose(rows_of(one), rows_of(Detector(TinyEngine()).run(frames)), rtol=1e-5)


def test_an_engine_of_fixed_batch_is_filled_up() -> None:
    frames = video(100)
    engine = TinyEngine(tiny_spec(batch=5))
    found = Detector(engine, options=DetectorOptions(batch_size=5)).run(frames)
    assert engine.batches == [5, 5, 5]
    np.testing.assert_allclose(rows_of(found), rows_of(Detector(TinyEngine()).run(frames)), rtol=1e-5)
    with pytest.raises(InputError, match="batch_size: got 1, the engine was built for 5 windows"):
        Detector(engine)


def test_stream_gives_detections_before_the_input_ends() -> None:
    given = 0

    def live() -> Iterator[np.ndarray]:
        nonlocal given
        for frame in video(400, seed=5):
            given += 1
            yield frame

    for first in Detector(TinyEngine()).stream(live()):
        assert given < 200
        assert len(first) > 0
        assert first.segments[:, 1].max() <= given / 10
        break


def test_memory_does_not_grow_with_the_stream() -> None:
    base = video(64, seed=1)

    def peak(repeats: int) -> int:
        return peak_memory(Detector(TinyEngine()).stream(base[t % 64] for t in range(64 * repeats)))

    peak(2)
    assert peak(30) < 1.5 * peak(5)


def test_times_are_absolute_however_long_the_stream() -> None:
    """A video that repeats with the stride: each inner window gives the same candidates, one stride later."""
    period = video(STRIDE, seed=2)
    found = Detector(TinyEngine()).run(np.concatenate([period] * 40))
    inner = found.segments[(found.segments[:, 0] > 8) & (found.segments[:, 1] < 16)]
    starts = np.sort(np.unique(np.round(inner[:, 0] % (STRIDE / 10), 6)))
    assert len(inner) >= 9 * len(starts)


def test_preparation_of_large_frames() -> None:
    large = np.random.default_rng(0).integers(0, 256, (20, 30, 40, 3), dtype=np.uint8)
    prepare = FramePreparation((12, 14), CROP)
    small = np.stack([prepare(frame) for frame in large])
    assert_same(Detector(TinyEngine()).run(large), Detector(TinyEngine()).run(small))


def test_scores_and_thresholds() -> None:
    frames = video(60, seed=4)
    everything = rows_of(Detector(TinyEngine()).run(frames))
    best = Detector(TinyEngine(), options=DetectorOptions(min_score=0.3)).run(frames)
    assert rows_of(best) == [row for row in everything if row[3] >= 0.3]
    assert 0 < len(best) < len(everything)
    strict = Detector(TinyEngine(), options=DetectorOptions(score_threshold=0.5)).run(frames)
    assert 0 < len(strict) < len(everything)
    nothing = Detector(TinyEngine(), options=DetectorOptions(score_threshold=1.0)).run(frames)
    assert len(nothing) == 0
    assert nothing.classes == ("jump", "throw")


def test_a_video_without_detections_keeps_its_name() -> None:
    path = shared("data/videos") / "test.avi"
    found = Detector(TinyEngine(), options=DetectorOptions(score_threshold=1.0)).run(path)
    assert (len(found), found.video) == (0, "test")


def test_timing_counts_each_frame_once() -> None:
    detector = Detector(TinyEngine())
    seen: list[int] = []
    detector.run(video(100), on_progress=lambda timing: seen.append(timing.frames))
    timing = detector.timing
    assert (timing.frames, timing.windows, timing.expected_frames) == (100, 12, 100)
    assert seen[0] == 16
    assert len(seen) == 12
    assert timing.video_seconds == 10.0
    assert 0 < timing.engine_ms + timing.wait_ms + timing.post_ms <= timing.wall_seconds * 1000
    assert "10.0 s of video" in timing.summary()


def test_flow_model_takes_flow_arrays() -> None:
    detector = Detector(TinyEngine(tiny_spec("flow")))
    frames = video(40, channels=2)
    want = rows_of(detector.run(frames))
    assert want
    assert rows_of(detector.run(cut(frames, 0))) == want
    for wrong in (video(40).astype(np.float32), video(40, channels=4)):
        with pytest.raises(InputError, match=r"expected uint8 0–255 \[H,W,3\]"):
            detector.run(wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"score_threshold": 1.5}, "score_threshold: got 1.5"),
        ({"min_score": float("nan")}, "min_score: got nan"),
        ({"nms": "hard"}, "nms: got 'hard'"),
        ({"flow_method": "farneback"}, "flow_method: got 'farneback', expected one of auto, tvl1, dis"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DetectorOptions(**options)  # type: ignore[arg-type]


def test_a_network_that_gives_nan() -> None:
    class Broken(TinyEngine):
        def infer(self, inputs: object) -> dict[str, np.ndarray]:
            outputs = super().infer(inputs)  # type: ignore[arg-type]
            outputs["conf"][0, 3, 1] = np.nan
            return outputs

    with pytest.raises(EngineError, match="NaN in the window at 0 s"):
        Detector(Broken()).run(video(40))


def test_engine_files_and_who_closes_them(tmp_path: Path) -> None:
    frames = video(60)
    with Detector(write_tiny_onnx(tmp_path / "tiny.onnx", None)) as detector:
        np.testing.assert_allclose(
            rows_of(detector.run(frames)), rows_of(Detector(TinyEngine()).run(frames)), rtol=1e-3, atol=1e-4
        )
    with pytest.raises(EngineError, match="closed"):
        detector.run(frames)
    engine = TinyEngine()
    Detector(engine).close()
    assert not engine.closed


@pytest.mark.parametrize("name", ["carving_ice.mp4", "demo.mp4", "drink.avi", "street.mp4", "test.avi", "test.mp4"])
def test_real_videos(name: str) -> None:
    path = shared("data/videos") / name
    found = Detector(TinyEngine()).run(path)
    with open_frames(path, 10.0, prepare=FramePreparation((12, 14), CROP)) as source:
        frames = np.stack(list(source))
    assert found.video == path.stem
    np.testing.assert_allclose(rows_of(found), expected(frames), **CLOSE)


def test_leaving_a_stream_early_ends_its_thread() -> None:
    stream = Detector(TinyEngine()).stream(shared("data/videos") / "test.mp4")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "afsd-frames"]


def test_a_missing_video_fails_at_the_call() -> None:
    with pytest.raises(VideoError, match="file or folder not found"):
        Detector(TinyEngine()).stream("nowhere.mp4")
