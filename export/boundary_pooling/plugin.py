"""Boundary pooling as a TensorRT plugin whose kernel is baked into the engine.

A quickly deployable plugin, compiled ahead of time (`tensorrt.plugin`, TensorRT ≥ 10.9): while an engine is built,
TensorRT asks the functions below for the output's shape, the types and formats, and the kernel's PTX with its launch
parameters. The engine then holds the PTX, so loading and running it needs no plugin library and no Python.
"""

from __future__ import annotations

import importlib
from typing import Any

from export.boundary_pooling.launch import launch_for
from export.boundary_pooling.nvrtc import compile_ptx, kernel_name
from runtime.errors import ExportError, MissingDependencyError
from training.models.boundary_pooling import ONNX_OPERATOR

PRECISION_OF_TYPE = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}
"""`trt.DataType` → ours."""

COMBINATIONS = ("FP32,FP32,FP32", "FP16,FP32,FP16", "BF16,FP32,BF16")
"""Types of features, regions and output, as `tensorrt.plugin` spells them; all in linear layout."""


def register(compute_capability: tuple[int, int]) -> None:
    """Make the plugin known to TensorRT's builder and parser, for a GPU; again for another GPU replaces the target.

    Args:
        compute_capability: of the GPU that will run the engine, as in (8, 6).

    Raises:
        MissingDependencyError: TensorRT is not installed.
        ExportError: this TensorRT has no plugins compiled ahead of time.
    """
    trtp = _plugin_module()
    known = bool(_TARGET)
    _TARGET[:] = [compute_capability]
    if not known:
        _define(trtp)


_TARGET: list[tuple[int, int]] = []
"""Compute capability of the engine being built; TensorRT's registry is one per process, so is this."""


def _plugin_module() -> Any:
    try:
        trtp = importlib.import_module("tensorrt.plugin")
    except ImportError:
        raise MissingDependencyError("TensorRT", "tensorrt", "the pooling plugin") from None
    if not hasattr(trtp, "aot_impl"):
        raise ExportError(
            "this TensorRT has no plugins compiled ahead of time; install TensorRT 10.9 or newer, or use "
            "--pooling function"
        )
    return trtp


def _define(trtp: Any) -> None:
    """Give TensorRT the three functions of the plugin. It reads their annotations, so these are set as objects."""

    def describe(features: Any, regions: Any) -> Any:
        pooled = features.like()
        pooled.shape_expr[2] = regions.shape_expr[1]
        return pooled

    def combinations(features: Any, regions: Any, outputs: Any) -> Any:
        return [trtp.AutoTuneCombination(types, "LINEAR") for types in COMBINATIONS]

    def kernel(features: Any, regions: Any, outputs: Any, tactic: int) -> Any:
        return _kernel(trtp, features, regions)

    tensor, several = trtp.TensorDesc, tuple[trtp.TensorDesc]
    inputs = {"features": tensor, "regions": tensor}
    describe.__annotations__ = {**inputs, "return": tensor}
    combinations.__annotations__ = {**inputs, "outputs": several, "return": list[trtp.AutoTuneCombination]}
    kernel.__annotations__ = {
        **inputs, "outputs": several, "tactic": int,
        "return": tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymExprs],
    }  # fmt: skip
    trtp.register(ONNX_OPERATOR)(describe)
    trtp.autotune(ONNX_OPERATOR)(combinations)
    trtp.aot_impl(ONNX_OPERATOR)(kernel)


def _kernel(trtp: Any, features: Any, regions: Any) -> tuple[str, bytes, Any, Any]:
    """(entry, PTX, launch parameters, extra arguments); the kernel takes inputs, extra arguments, outputs."""
    batch, channels, length = features.shape_expr
    count = regions.shape_expr[1]
    fixed = _fixed(channels, "C"), _fixed(length, "T"), _fixed(count, "N")
    precision = PRECISION_OF_TYPE.get(features.dtype.name, features.dtype.name)
    launch = launch_for(*fixed, precision)
    across, down = launch.block
    parameters = trtp.KernelLaunchParams(
        grid_x=launch.tiles, grid_y=2, grid_z=batch, block_x=across, block_y=down, shared_mem=launch.shared_bytes
    )
    scalars = trtp.SymIntExprs(4)
    for index, value in enumerate((*fixed, launch.rows)):
        scalars[index] = trtp.SymInt32(value)
    return kernel_name(precision), compile_ptx(precision, _TARGET[0]), parameters, scalars


def _fixed(expression: Any, name: str) -> int:
    """A size that must be known when the engine is built; only the batch may be dynamic."""
    if not expression.is_constant:
        raise ExportError(f"boundary pooling: {name} is dynamic, expected a fixed size; only the batch may change")
    return int(expression.constant_value())
