"""ActivityNet's way: one window per video, at a rate of its own, against a slow restatement of the published code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.detector import Detector, DetectorOptions
from runtime.errors import InputError, VideoError
from runtime.results.detections import Detections
from runtime.spec.model import ModelSpec
from runtime.video.readers.choice import ReaderName
from runtime.video.readers.opencv import OpenCVReader
from runtime.video.readers.pyav import PyAVReader
from runtime.video.sampling import FRAME_TIMINGS, FrameTiming
from tests.slow import plain_scores, plain_segments, plain_soft_nms
from tests.tiny import CROP, LENGTH, LEVELS, ProposalEngine, forward, one_class

Rows = list[tuple[float, float, float]]


def video(count: int, seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    """Frames of network size whose brightness wanders."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (count, 1, 1, channels)) + rng.integers(-40, 40, (count, *CROP, channels))
    return np.clip(frames, 0, 255).astype(np.uint8)


def kept(count: int) -> list[int]:
    """Frames of a video that the counter keeps: those at which another share of the window is full."""
    share = min(Fraction(LENGTH, count), Fraction(1))
    return [i for i in range(count) if math.floor((i + 1) * share) > math.floor(i * share)]


def window(frames: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Raw outputs of the only window."""
    padded = np.zeros((1, LENGTH, *frames.shape[1:]), np.uint8)
    padded[0, : len(frames)] = frames
    return one_class(forward(padded, np.array([len(frames)], np.int32)))


def published(
    outputs: Mapping[str, NDArray[np.float32]],
    segments: Rows,
    fps: float,
    duration: float,
    threshold: float,
    floor: float,
) -> Rows:
    """F5: threshold, seconds, soft-NMS, then cut at the video's ends; by start, end, score."""
    scores = plain_scores(outputs, 1)
    rows = [(start / fps, end / fps, s) for (start, end, _), s in zip(segments, scores, strict=True) if s > threshold]
    found = []
    for start, end, score in plain_soft_nms(np.array(rows), 0.85, floor, False, np.float32):
        start, end = max(0.0, start), min(duration, end)
        if end > start:
            found.append((start, end, score))
    return sorted(found)


def rows_of(found: Detections) -> Rows:
    """(start, end, score), sorted."""
    return sorted((one.start_s, one.end_s, one.score) for one in found)


@pytest.mark.parametrize("count", [3, 9, 16, 17, 23, 32, 100])
@pytest.mark.parametrize("fps", [10.0, 24.0])
def test_one_window_of_the_whole_video(count: int, fps: float) -> None:
    frames = video(count, count)
    sampled = frames[kept(count)]
    assert len(sampled) == min(count, LENGTH)
    outputs = window(sampled)
    rate = fps * min(LENGTH / count, 1)
    want = published(outputs, plain_segments(outputs, LEVELS, LENGTH), rate, count / fps, 1e-9, 1e-9)
    assert want
    engine = ProposalEngine()
    found = Detector(engine, options=DetectorOptions(nms="reference")).run(frames, fps=fps)
    np.testing.assert_allclose(rows_of(found), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(engine.seen[0][0, : len(sampled)], sampled)
    assert engine.seen[1].tolist() == [len(sampled)]
    assert found.segments.max() <= count / fps
    assert found.classes == ("action",)


def test_padding_of_a_short_video_holds_no_actions() -> None:
    found = Detector(ProposalEngine()).run(video(9, 9))
    uncut = plain_segments(window(video(9, 9)), LEVELS, LENGTH)
    assert any(end > 9 for _, end, _ in uncut)
    assert any(start >= 9 for start, _, _ in uncut)
    assert 0 < found.segments.max() <= 0.9
    assert (found.segments[:, 1] > found.segments[:, 0]).all()


@pytest.mark.parametrize("count", [9, 50])
def test_two_streams_by_the_geometric_mean(count: int) -> None:
    frames = video(count, 1)
    flow = video(min(count, LENGTH), 2, channels=2)
    rgb, motion = window(frames[kept(count)]), window(flow)
    ends = zip(plain_segments(rgb, LEVELS, LENGTH), plain_segments(motion, LEVELS, LENGTH), strict=True)
    segments = [((a * c) ** 0.5, (b * d) ** 0.5, 0.0) for (a, b, _), (c, d, _) in ends]
    mean = {name: (rgb[name].astype(float) + motion[name]) / 2 for name in rgb}
    rate = 10 * min(LENGTH / count, 1)
    want = published(mean, segments, rate, count / 10, 0.0, 1e-18)
    detector = Detector(ProposalEngine(), flow_engine=ProposalEngine("flow"), options=DetectorOptions(nms="reference"))
    found = detector.run(frames, flow=flow)
    np.testing.assert_allclose(rows_of(found), want, rtol=1e-4, atol=1e-4)


def test_stream_and_local_suppression() -> None:
    frames = video(50, 5)
    detector = Detector(ProposalEngine())
    whole = detector.run(frames)
    assert len(whole) == len({(r[0], r[1]) for r in rows_of(whole)})
    (part,) = detector.stream(frames)
    assert rows_of(part) == rows_of(whole)
    published_rows = rows_of(Detector(ProposalEngine(), options=DetectorOptions(nms="reference")).run(frames))
    matched = [row for row in published_rows if any(np.allclose(row, ours, atol=1e-5) for ours in rows_of(whole))]
    assert len(matched) == len(published_rows) >= len(whole) - 1  # the published one leaves out the last


def write_video(path: Path, count: int, fps: float) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), fps, (32, 24))
    for level in np.linspace(0, 255, count):
        writer.write(np.full((24, 32, 3), round(level), np.uint8))
    writer.release()
    return path


def test_a_file_by_its_own_rate_and_count(tmp_path: Path) -> None:
    engine = ProposalEngine()
    detector = Detector(engine)
    found = detector.run(write_video(tmp_path / "v_abc.avi", 80, 25.0))
    levels = np.rint(np.linspace(0, 255, 80))[kept(80)]
    np.testing.assert_allclose(engine.seen[0][0].mean(axis=(1, 2, 3)), levels, atol=1)
    assert (found.video, detector.timing.sample_fps, detector.timing.frames) == ("v_abc", 5.0, 16)
    assert found.segments.max() <= 80 / 25


@pytest.mark.parametrize("timing", FRAME_TIMINGS)
@pytest.mark.parametrize("reader", ["pyav", "opencv"])
def test_frames_are_counted_when_the_file_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: ReaderName, timing: FrameTiming
) -> None:
    path = write_video(tmp_path / "v_abc.avi", 80, 25.0)
    want = rows_of(Detector(ProposalEngine()).run(path))
    kind: type[PyAVReader] | type[OpenCVReader] = PyAVReader if reader == "pyav" else OpenCVReader
    original = kind.__init__

    def silent(self: PyAVReader | OpenCVReader, source: str) -> None:
        original(self, source)  # type: ignore[arg-type]
        self.count = self.duration = None

    monkeypatch.setattr(kind, "__init__", silent)
    options = DetectorOptions(reader=reader, timing=timing)
    assert rows_of(Detector(ProposalEngine(), options=options).run(path)) == want


@pytest.mark.parametrize("kind", ["iterable", "iterator"])
def test_a_source_of_unknown_length(kind: str) -> None:
    frames = video(20)
    source = list(frames) if kind == "iterable" else iter(frames)
    with pytest.raises(InputError, match="must know its length; expected a file, a folder, or an array"):
        Detector(ProposalEngine()).run(source)


def test_nothing_to_see() -> None:
    with pytest.raises(InputError, match="expected at least one frame"):
        Detector(ProposalEngine()).run(video(0))
    with pytest.raises(VideoError, match="file or folder not found"):
        Detector(ProposalEngine()).run("nowhere.mp4")


def test_given_flow_counts_what_the_network_sees() -> None:
    detector = Detector(ProposalEngine(), flow_engine=ProposalEngine("flow"))
    with pytest.raises(InputError, match="flow: got more than 16 entries, the network sees 16 frames"):
        detector.run(video(50), flow=video(50, channels=2))


def test_the_spec_survives_the_artifact() -> None:
    from runtime.spec.model import spec_from_json

    spec: ModelSpec = ProposalEngine().spec
    assert spec_from_json(spec.to_json(), "x") == spec
