"""Measure a processor's ceiling: the largest number of operations per second that any network can reach on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.engines.openvino.core import process_core

PRODUCT = (4096, 1024, 1024)
"""Sizes M, K and N of the matrix product [M,K]·[K,N] of a ceiling."""
CONVOLUTION = (128, 8, 24)
"""Channels, depth and side of the input of the 3-D convolutions of a ceiling, 3×3×3, as many channels out as in."""
CONVOLUTIONS = 3
"""Number of convolutions one after the other, so that what is around them weighs little."""

PRECISIONS = ("fp32", "bf16", "int8")
"""Number types whose ceilings can be measured."""


class Kernel(NamedTuple):
    """One pass of arithmetic whose number of operations is known."""

    operations: int
    """Operations of a pass, 2 per multiply-add."""
    run: Callable[[], object]


class CeilingMeter:
    """Measures ceilings pass by pass, so that they are taken all through a session, as the engines' passes are.

    The ceiling of a number type is the fastest pass of the faster of two kernels, a matrix product and 3-D
    convolutions, both in OpenVINO, which has kernels of its own for fp32, bf16 and int8; without OpenVINO it is numpy's
    matrix product, for fp32 alone. The fastest pass is taken, not the median: other processes only slow a pass down,
    and a ceiling is what nothing exceeds.
    """

    def __init__(self, precisions: Iterable[str]) -> None:
        """Compile the kernels of number types and run each once; those of `PRECISIONS` alone have any."""
        self._kernels = {precision: _kernels(precision) for precision in precisions}
        self._fastest: dict[str, float] = {}
        for kernel in (kernel for kernels in self._kernels.values() for kernel in kernels):
            kernel.run()

    def measure(self) -> None:
        """Run each kernel once and keep the fastest passes."""
        for precision, kernels in self._kernels.items():
            for kernel in kernels:
                gflops = kernel.operations / seconds_of(kernel.run) / 1e9
                self._fastest[precision] = max(gflops, self._fastest.get(precision, 0.0))

    def ceilings(self) -> dict[str, float]:
        """Return number type → GFLOP/s so far, sorted; at int8 these are integer operations. Types without a kernel
        are left out."""
        return dict(sorted(self._fastest.items()))


def matrix_ceiling(precision: str, repeats: int = 5) -> float:
    """Measure one ceiling alone, in GFLOP/s; 0 if it cannot be measured. See `CeilingMeter`."""
    meter = CeilingMeter([precision])
    for _ in range(repeats):
        meter.measure()
    return meter.ceilings().get(precision, 0.0)


def seconds_of(function: Callable[[], object]) -> float:
    """Return the wall time of one call in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _kernels(precision: str) -> list[Kernel]:
    if precision not in PRECISIONS:
        return []
    try:
        import openvino  # noqa: F401
    except ImportError:
        return [_numpy_product()] if precision == "fp32" else []
    return [_openvino_product(precision), _openvino_convolutions(precision)]


def _numpy_product() -> Kernel:
    m, k, n = PRODUCT
    rng = np.random.default_rng(0)
    left, right = rng.random((m, k), np.float32), rng.random((k, n), np.float32)
    return Kernel(2 * m * k * n, lambda: left @ right)


def _openvino_product(precision: str) -> Kernel:
    from openvino import opset13 as opset

    m, k, n = PRODUCT
    parameter, values, left = _input(precision, (m, k))
    right = _rounded(opset.constant(_random((k, n))), precision, 1.0)
    return _compile(precision, opset.matmul(left, right, False, False), parameter, values, 2 * m * k * n)


def _openvino_convolutions(precision: str) -> Kernel:
    from openvino import opset13 as opset

    channels, depth, side = CONVOLUTION
    parameter, values, node = _input(precision, (1, channels, depth, side, side))
    weights = _random((channels, channels, 3, 3, 3)) / (27 * channels)  # keeps sums of positive inputs below 1
    for _ in range(CONVOLUTIONS):
        rounded = _rounded(opset.constant(weights), precision, float(weights.max()))
        node = opset.relu(opset.convolution(node, rounded, [1] * 3, [1] * 3, [1] * 3, [1] * 3))
        if precision == "int8":  # activations of 8 bit: 256 steps from zero on
            node = opset.fake_quantize(node, *map(np.float32, (0, 1, 0, 1)), 256)
    mean = opset.reduce_mean(node, np.array([2, 3, 4]), True)  # leaves little to write
    operations = CONVOLUTIONS * 2 * channels**2 * 27 * depth * side**2
    return _compile(precision, mean, parameter, values, operations)


def _random(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, np.float32)


def _input(precision: str, shape: tuple[int, ...]) -> tuple[Any, NDArray[Any], Any]:
    """Return a graph's parameter, its values in 0 … 1, and the node that reads it: at int8 uint8 times a scale."""
    from openvino import opset13 as opset

    if precision != "int8":
        parameter = opset.parameter(shape, np.float32)
        return parameter, _random(shape), parameter
    parameter = opset.parameter(shape, np.uint8)
    scaled = opset.multiply(opset.convert(parameter, "f32"), np.float32(1 / 255))
    return parameter, (255 * _random(shape)).astype(np.uint8), scaled


def _rounded(weights: Any, precision: str, largest: float) -> Any:
    """Return the node of weights, at int8 on 255 steps around zero, which is what the library takes for 8 bit."""
    from openvino import opset13 as opset

    if precision != "int8":
        return weights
    return opset.fake_quantize(weights, *map(np.float32, (-largest, largest, -largest, largest)), 255)


def _compile(precision: str, result: Any, parameter: Any, values: NDArray[Any], operations: int) -> Kernel:
    import openvino

    model = openvino.Model([result], [parameter], "ceiling")
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = process_core().compile_model(model, "CPU", hint).create_infer_request()
    return Kernel(operations, lambda: request.infer([values], share_inputs=True))
