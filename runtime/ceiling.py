"""What a processor could reach at most: the speed of a large matrix product, the yardstick of any network on it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

CEILING_SIZE = 2048
"""Edge of the square matrices of the ceiling."""


def matrix_ceiling(precision: str, repeats: int = 5) -> float:
    """GFLOP/s of a large square matrix product on the CPU: the most any network could reach at that precision.

    Runs in OpenVINO, which has kernels for fp32 and bf16; without it in numpy, for fp32 alone (0 for others).
    """
    multiply = _openvino_product(precision) or (_numpy_product() if precision == "fp32" else None)
    if multiply is None:
        return 0.0
    multiply()
    best = min(seconds_of(multiply) for _ in range(repeats))
    return 2 * CEILING_SIZE**3 / best / 1e9


def seconds_of(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _numpy_product() -> Callable[[], object]:
    a = np.random.default_rng(0).random((CEILING_SIZE, CEILING_SIZE), np.float32)
    return lambda: a @ a


def _openvino_product(precision: str) -> Callable[[], object] | None:
    if precision not in ("fp32", "bf16"):
        return None
    try:
        import openvino
        from openvino import opset13 as opset
    except ImportError:
        return None
    weights = np.random.default_rng(0).random((CEILING_SIZE, CEILING_SIZE), np.float32)
    left = opset.parameter([CEILING_SIZE, CEILING_SIZE], np.float32)
    model = openvino.Model([opset.matmul(left, opset.constant(weights), False, False)], [left], "ceiling")
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    request = openvino.Core().compile_model(model, "CPU", hint).create_infer_request()
    return lambda: request.infer([weights])
