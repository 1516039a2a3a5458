"""Measure a processor's ceiling: the speed of a large matrix product, to compare networks with."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

CEILING_SIZE = 2048
"""Edge length of the square matrices of the ceiling."""


def matrix_ceiling(precision: str, repeats: int = 5) -> float:
    """Measure the GFLOP/s of a large square matrix product on the CPU, the ceiling of any network at that precision.

    At int8 these are integer operations on uint8 and int8 numbers.

    Runs in OpenVINO, which has kernels for fp32, bf16 and int8; without it in numpy, for fp32 alone (0 for others).
    """
    multiply = _openvino_product(precision) or (_numpy_product() if precision == "fp32" else None)
    if multiply is None:
        return 0.0
    multiply()
    best = min(seconds_of(multiply) for _ in range(repeats))
    return 2 * CEILING_SIZE**3 / best / 1e9


def seconds_of(function: Callable[[], object]) -> float:
    """Return the wall time of one call in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _numpy_product() -> Callable[[], object]:
    a = np.random.default_rng(0).random((CEILING_SIZE, CEILING_SIZE), np.float32)
    return lambda: a @ a


def _openvino_product(precision: str) -> Callable[[], object] | None:
    if precision not in ("fp32", "bf16", "int8"):
        return None
    try:
        import openvino
        from openvino import opset13 as opset
    except ImportError:
        return None
    weights = np.random.default_rng(0).random((CEILING_SIZE, CEILING_SIZE), np.float32)
    inputs, right = weights, opset.constant(weights)
    if precision == "int8":  # what the library takes for 8 bit: uint8 times a scale, weights on 255 steps around zero
        inputs = (255 * weights).astype(np.uint8)
        left = opset.parameter(inputs.shape, np.uint8)
        ends = (np.float32(-1), np.float32(1))
        scaled = opset.multiply(opset.convert(left, "f32"), np.float32(1 / 255))
        product = opset.matmul(scaled, opset.fake_quantize(right, *ends, *ends, 255), False, False)
    else:
        left = opset.parameter(inputs.shape, np.float32)
        product = opset.matmul(left, right, False, False)
    model = openvino.Model([product], [left], "ceiling")
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    request = openvino.Core().compile_model(model, "CPU", hint).create_infer_request()
    return lambda: request.infer([inputs])
