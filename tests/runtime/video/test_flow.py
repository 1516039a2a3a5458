"""Optical flow: rounding against a loop, known motion, order, count, and what it refuses."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.errors import InputError, MissingDependencyError
from runtime.video.flow import FlowEstimator, FlowMethod, quantise

HAS_TVL1 = hasattr(cv2, "optflow")
METHODS = [
    "dis",
    pytest.param("tvl1", marks=pytest.mark.skipif(not HAS_TVL1, reason="OpenCV has no contrib modules here")),
]


def moving_texture(steps: list[tuple[int, int]], size: int = 64) -> list[NDArray[np.uint8]]:
    """Frames [size,size,3] of a smooth random texture that moves by (x, y) pixels before each further frame."""
    rng = np.random.default_rng(3)
    canvas = cv2.GaussianBlur(rng.uniform(0, 255, (3 * size, 3 * size, 3)), (0, 0), 2)
    canvas = cv2.normalize(canvas, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    left = top = size
    frames = [canvas[top : top + size, left : left + size].copy()]
    for x, y in steps:
        left, top = left - x, top - y
        frames.append(canvas[top : top + size, left : left + size].copy())
    return frames


def estimate(frames: list[NDArray[np.uint8]], method: FlowMethod = "dis", jpeg: bool = False) -> NDArray[np.uint8]:
    estimator = FlowEstimator(method, jpeg=jpeg)
    flows = [flow for frame in frames for flow in estimator.push(frame)]
    return np.stack(flows + estimator.finish())


def test_quantise_is_the_slow_loop() -> None:
    halves = [(level + 0.5) * 40 / 255 - 20 for level in range(255)]  # near ties of the rounding
    values = np.array([-1e9, -20.5, -20, -19.99, -0.0, 0, 0.1, 19.99, 20, 21, math.inf, -math.inf, *halves])
    expected = [
        255 if v >= 20 else 0 if v <= -20 else round(255 * (v + 20) / 40)  # Python rounds half to even, as cvRound
        for v in values.tolist()
    ]
    assert quantise(values).tolist() == expected
    assert quantise(values.astype(np.float32)).dtype == np.uint8
    assert quantise(np.float32([2.5]))[0] == 143  # 143.4375
    assert quantise(np.zeros((2, 2))).tolist() == [[128, 128], [128, 128]]  # 127.5 goes to the even side


@pytest.mark.parametrize("method", METHODS)
def test_flow_of_a_moving_texture(method: FlowMethod) -> None:
    """Flow i is from frame i to i + 1, x first; the last is a copy."""
    steps = [(3, 1), (-2, 4), (0, -5)]
    flows = estimate(moving_texture(steps), method)
    assert flows.shape == (4, 64, 64, 2)
    for flow, step in zip(flows, steps, strict=False):
        middle = np.median(flow[16:48, 16:48].reshape(-1, 2), axis=0)
        assert np.abs(middle - quantise(np.array(step, float))).max() <= 1, (step, middle)
    np.testing.assert_array_equal(flows[3], flows[2])


def test_flow_is_opencv_dis_on_grey_frames() -> None:
    frames = moving_texture([(1, 2)])
    grey = [np.rint(frame @ np.array([0.299, 0.587, 0.114])).astype(np.uint8) for frame in frames]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey[0], grey[1], None)
    assert np.abs(estimate(frames)[0].astype(int) - quantise(flow)).max() <= 1  # grey may round one level elsewhere


def test_counts_of_short_videos() -> None:
    assert FlowEstimator("dis").finish() == []
    frames = moving_texture([(1, 0)])
    assert (estimate(frames[:1]) == 128).all()
    assert len(estimate(frames[:1])) == 1
    assert len(estimate(frames)) == 2


def test_jpeg_changes_a_little() -> None:
    frames = moving_texture([(3, 1)])
    plain, through = estimate(frames), estimate(frames, jpeg=True)
    assert (plain != through).any()
    assert np.abs(plain[:, 8:-8, 8:-8].astype(int) - through[:, 8:-8, 8:-8]).mean() < 2


def test_auto_takes_tvl1_where_it_is() -> None:
    expected = "TV-L1 (OpenCV" if HAS_TVL1 else "DIS (OpenCV"
    assert FlowEstimator().name.startswith(expected)
    assert FlowEstimator("dis").name.startswith("DIS (OpenCV")


def test_tvl1_without_contrib_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow", raising=False)
    with pytest.raises(MissingDependencyError, match="TV-L1 optical flow needs opencv-contrib-python-headless") as told:
        FlowEstimator("tvl1")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((32, 32, 3)), r"got float64 \[32, 32, 3\], expected uint8 \[H,W,3\] RGB"),
        (np.zeros((32, 32, 2), np.uint8), r"got uint8 \[32, 32, 2\]"),
        (np.zeros((8, 32, 3), np.uint8), "at least 12×12 pixels"),
        (np.zeros((32, 40, 3), np.uint8), r"got size \(32, 40\), expected \(32, 32\)"),
    ],
)
def test_frames_it_refuses(frame: NDArray[np.uint8], message: str) -> None:
    estimator = FlowEstimator("dis")
    estimator.push(np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(InputError, match=message):
        estimator.push(frame)


def test_refuses_a_method_and_a_late_frame() -> None:
    with pytest.raises(InputError, match="got 'farneback', expected one of auto, tvl1, dis"):
        FlowEstimator("farneback")  # type: ignore[arg-type]
    estimator = FlowEstimator("dis")
    estimator.finish()
    with pytest.raises(InputError, match="after finish"):
        estimator.push(np.zeros((32, 32, 3), np.uint8))
