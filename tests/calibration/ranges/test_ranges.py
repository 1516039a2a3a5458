"""Histograms and the ranges chosen from them, beside numpy, brute force and ONNX Runtime."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.quantise.qdq import ZERO
from calibration.ranges.choose import METHODS, Numbers, Quantiser, choose_range, clip_ranges, make_quantiser
from calibration.ranges.histogram import BINS, Histogram

NUMBERS: tuple[Numbers, ...] = ("uint8", "int8", "fp8")


def counted(values: NDArray[np.float32], pieces: int = 1) -> Histogram:
    histogram = Histogram()
    for piece in np.array_split(values, pieces):
        assert histogram.add(piece)
    return histogram


def long_tailed(seed: int = 0, count: int = 200_000) -> NDArray[np.float32]:
    """Activations behind a ReLU: half zeros, a bell, a few far out."""
    rng = np.random.default_rng(seed)
    values = np.maximum(rng.normal(size=count), 0)
    values[:20] = rng.uniform(8, 20, 20)
    return values.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32, allow_subnormal=False), min_size=1, max_size=60),
    st.integers(1, 5),
    st.randoms(),
)
def test_counts_depend_on_neither_order_nor_pieces(values: list[float], pieces: int, random: object) -> None:
    array = np.array(values, np.float32)
    whole, shuffled = counted(array), counted(np.random.default_rng(len(values)).permutation(array), pieces)
    assert whole.width == shuffled.width
    np.testing.assert_array_equal(whole.counts, shuffled.counts)
    assert (whole.low, whole.high) == (min(array.min(), 0), max(array.max(), 0))
    if whole.width:  # and they are numpy's
        edges = (np.arange(2 * BINS + 1) - BINS) * whole.width
        np.testing.assert_array_equal(whole.counts, np.histogram(array.astype(np.float64), edges)[0])
        largest = max(-array.min(), array.max())
        assert largest >= whole.width * BINS / 2 or largest < 1e-20  # half of the bins are used at least


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_broken_number_is_told_and_not_counted(bad: float) -> None:
    histogram = counted(np.ones(3, np.float32))
    assert not histogram.add(np.array([1, bad, 2], np.float32))
    assert histogram.total == 3


def through_onnx(rounding: Quantiser, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """QuantizeLinear and DequantizeLinear of ONNX Runtime."""
    import onnxruntime

    constants = [
        numpy_helper.from_array(np.asarray(rounding.scale, np.float32), "s"),
        numpy_helper.from_array(np.asarray(rounding.zero_point, ZERO[rounding.numbers]), "z"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "rounding", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": values})
    return np.asarray(result)


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("zero_point", [0, 77])
def test_rounding_is_that_of_onnx(numbers: Numbers, zero_point: int) -> None:
    """Beyond the range, and on the edge between two steps, which a scale that is a power of two gives exactly."""
    rounding = Quantiser(numbers, 2**-4, zero_point if numbers == "uint8" else 0)
    values = np.concatenate([np.arange(-600, 600) / 32, np.random.default_rng(0).uniform(-20, 20, 5000)])
    values = values.astype(np.float32)
    np.testing.assert_array_equal(rounding(values), through_onnx(rounding, values))


@pytest.mark.parametrize("numbers", NUMBERS)
def test_rounding_by_any_scale(numbers: Numbers) -> None:
    rounding = make_quantiser(-3.1, 5.7, numbers)
    values = np.random.default_rng(0).uniform(-5.6, 8, 5000).astype(np.float32)
    off = np.abs(rounding(values) - through_onnx(rounding, values)) > 1e-6
    assert off.mean() < 0.001  # a quotient on an edge in float32 and beside it in float64


def test_the_ends_of_a_range_are_reached() -> None:
    assert make_quantiser(0, 10, "uint8")(np.array([0, 10.0, 12, -1])).tolist() == pytest.approx([0, 10, 10, 0])
    assert make_quantiser(-4, 10, "int8")(np.array([-10.0, 10, -4])).tolist() == pytest.approx([-10, 10, -4], abs=0.04)
    assert make_quantiser(-1, 1, "uint8").zero_point in (127, 128)  # 127.5 by a scale in float32
    for numbers in NUMBERS:  # a tensor that is zero throughout
        assert make_quantiser(0, 0, numbers)(np.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99])
def test_percentile_is_numpys(percent: float) -> None:
    values = long_tailed()
    low, high = choose_range(counted(values), "percentile", "uint8", percent)
    assert low == 0
    assert high == pytest.approx(np.percentile(values, percent), abs=2 * counted(values).width)
    signed = np.concatenate([values[::2], -values[1::2]])
    low, high = choose_range(counted(signed), "percentile", "int8", percent)
    left = (100 - percent) / 2
    assert (low, high) == pytest.approx(np.percentile(signed, [left, 100 - left]), abs=2 * counted(signed).width)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_mse_is_the_best_of_all_clippings_on_the_values_themselves(numbers: Numbers) -> None:
    values = long_tailed()
    histogram = counted(values)

    def error(low: float, high: float) -> float:
        return float(((make_quantiser(low, high, numbers)(values) - values) ** 2).mean())

    found = choose_range(histogram, "mse", numbers)
    tried = [error(*r) for r in clip_ranges(histogram, np.linspace(0.05, 1, 200))]
    assert error(*found) <= 1.1 * min(tried)


@pytest.mark.thorough
def test_entropy_is_near_onnx_runtimes() -> None:
    """Their search, over a histogram of 8,001 bins, for 128 steps on each side of zero."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    signed = np.float32(np.random.default_rng(0).laplace(size=400_000))
    collector = HistogramCollector("entropy", False, 8001, 128, 99.99, "same")
    collector.collect({"x": [signed]})
    theirs = collector.compute_collection_result()["x"][1]
    _, ours = choose_range(counted(signed), "entropy", "int8")
    assert ours == pytest.approx(float(theirs), rel=0.25)
    assert ours < 0.9 * signed.max()


def plain_divergence(histogram: Histogram, rounding: Quantiser) -> float:
    """The docstring's criterion, one bin at a time: exact zeros left out, values outside counted at the ends."""
    bins = [
        (float(c), int(n))
        for k, (c, n) in enumerate(zip(histogram.centres, histogram.counts, strict=True))
        if n and k != BINS
    ]
    low, high = ((end - rounding.zero_point) * rounding.scale for end in (rounding.lowest, rounding.highest))
    half = max(rounding.scale, histogram.width) / 2
    inside = [(c, n) for c, n in bins if low - half <= c <= high + half]
    if not inside:
        return math.inf
    p = [float(n) for _, n in inside]
    p[0] += sum(n for c, n in bins if c < inside[0][0])
    p[-1] += sum(n for c, n in bins if c > inside[-1][0])
    levels: dict[float, list[int]] = {}
    for c, n in inside:
        levels.setdefault(float(rounding(np.array([c]))[0]), []).append(n)
    q = [sum(mates := levels[float(rounding(np.array([c]))[0])]) / len(mates) for c, _ in inside]
    return sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("numbers", ["uint8", "int8"])
@pytest.mark.parametrize("seed", range(4))
def test_entropy_takes_the_widest_range_of_the_smallest_divergence(numbers: Numbers, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(size=300), rng.normal(size=20) * 8, np.zeros(50)]).astype(np.float32)
    histogram = counted(np.abs(values) if seed % 2 else values)
    tried = clip_ranges(histogram, np.linspace(0.1, 1, 91))
    errors = [plain_divergence(histogram, make_quantiser(*ends, numbers)) for ends in tried]
    best = max(k for k, error in enumerate(errors) if error <= min(errors) + 1e-12)
    assert 0 < best < 90
    assert choose_range(histogram, "entropy", numbers) == pytest.approx(tried[best], rel=1e-12)


@pytest.mark.parametrize("percent", [50.55, 90.35, 99.25])
@pytest.mark.parametrize("sign", [1, -1, 0])
def test_percentile_ends_at_the_edges_of_bins(percent: float, sign: int) -> None:
    """Values in the middle of 100 bins, ten in each: the ends of what is kept, counted by hand."""
    width = 2.0**-10
    middles = (np.arange(100) + 0.5) * width * 16
    values = np.repeat(middles if sign else np.concatenate([-middles[:50], middles[:50]]), 10).astype(np.float32)
    histogram = counted(values * sign if sign else values)
    low, high = choose_range(histogram, "percentile", "uint8", percent)
    ordered = np.sort(values * sign if sign else values)
    outside = (1 - percent / 100) * 1000
    below, above = (0, outside) if sign > 0 else (outside, 0) if sign < 0 else (outside / 2, outside / 2)
    kept = ordered[int(below) : 1000 - int(above)]
    step = histogram.width
    assert low == (0 if sign > 0 else max(math.floor(kept[0] / step) * step, ordered[0]))
    assert high == (0 if sign < 0 else min((math.floor(kept[-1] / step) + 1) * step, ordered[-1]))


def test_entropy_keeps_values_that_are_evenly_spread() -> None:
    for numbers in NUMBERS:
        low, high = choose_range(counted(np.linspace(-1, 1, 4001, dtype=np.float32)), "entropy", numbers)
        assert (low, high) == pytest.approx((-1, 1), abs=0.08)
    for values in (long_tailed(), np.float32(np.random.default_rng(0).normal(size=9999))):  # FP8 has fine steps near 0
        assert choose_range(counted(values), "entropy", "fp8")[1] > 0.5 * values.max()


@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_range_too_small_for_float32_is_zero(numbers: Numbers) -> None:
    assert make_quantiser(0, 1e-44, numbers).scale == 1


@pytest.mark.parametrize("method", [method for method in METHODS if method != "output"])
def test_nothing_but_zeros(method: str) -> None:
    assert choose_range(counted(np.zeros(9, np.float32)), method, "uint8") == (0, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [method for method in METHODS if method != "output"])
def test_a_single_value(method: str) -> None:
    low, high = choose_range(counted(np.full(9, 2.5, np.float32)), method, "uint8")  # type: ignore[arg-type]
    assert low == 0
    assert high == pytest.approx(2.5, abs=0.01)
