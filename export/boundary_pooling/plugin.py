"""Register boundary max pooling as a quickly deployable TensorRT plugin, compiled ahead of time.

The engine contains the kernel's PTX: running the engine needs neither Python nor a plugin library. TensorRT's ONNX
parser finds the plugin by the node's attributes `training.afsd.boundary_pooling.ONNX_ATTRIBUTES`; the parser does not
pass them on, so the plugin declares none. Needs TensorRT 10.9 or newer.
"""

# No `from __future__ import annotations`: TensorRT reads the types of the decorated functions, which must not be text.

from typing import Any

from export.boundary_pooling.launch import THREADS, Dtype, choose_launch
from export.boundary_pooling.nvrtc import compile_ptx, kernel_name
from runtime.errors import ExportError, import_failure
from training.afsd.boundary_pooling import ONNX_OPERATOR

_target: list[tuple[int, int]] = []
"""Compute capability of the next build; TensorRT keeps the registered functions until the process ends."""


def register(compute_capability: tuple[int, int]) -> None:
    """Register the plugin with TensorRT for engines that are then built for GPUs of `compute_capability`.

    Call `register` before the ONNX file is parsed; a second call only changes the target.

    Raises:
        MissingDependencyError: TensorRT is not installed.
        ExportError: TensorRT is too old for plugins compiled ahead of time.
    """
    try:
        import tensorrt as trt
        import tensorrt.plugin as trtp
    except ImportError as error:
        raise import_failure(error, "tensorrt", "tensorrt", "the boundary pooling plugin") from None
    if not hasattr(trtp, "aot_impl"):
        raise ExportError(
            f"TensorRT {trt.__version__}: the pooling plugin needs 10.9 or newer; build without the plugin"
        )
    _target[:] = [compute_capability]
    if not is_registered():
        _define(trt, trtp)


def is_registered() -> bool:
    """Return whether the plugin is registered with TensorRT in this process."""
    try:
        import tensorrt as trt
    except ImportError:
        return False
    namespace, name = ONNX_OPERATOR.split("::")
    return trt.get_plugin_registry().get_creator(name, "1", namespace) is not None


def _define(trt: Any, trtp: Any) -> None:
    """Register shape, formats and kernel of the plugin."""
    names: dict[Any, Dtype] = {trt.float32: "fp32", trt.float16: "fp16", trt.bfloat16: "bf16"}

    def describe(features: trtp.TensorDesc, regions: trtp.TensorDesc) -> trtp.TensorDesc:
        pooled = features.like()
        pooled.shape_expr[2] = regions.shape_expr[1]
        return pooled

    def formats(
        features: trtp.TensorDesc, regions: trtp.TensorDesc, outputs: tuple[trtp.TensorDesc]
    ) -> list[trtp.AutoTuneCombination]:
        return [trtp.AutoTuneCombination("FP32|FP16|BF16, FP32, FP32|FP16|BF16", "LINEAR")]

    def kernel(
        features: trtp.TensorDesc, regions: trtp.TensorDesc, outputs: tuple[trtp.TensorDesc], tactic: int
    ) -> tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymIntExprs]:
        batch, channels, cells = features.shape_expr
        if not (channels.is_constant and cells.is_constant):
            raise ExportError("the pooling plugin needs a fixed number of channels and cells; build without the plugin")
        dtype = names[features.dtype]
        launch = choose_launch(channels.constant_value(), cells.constant_value(), dtype)
        params = trtp.KernelLaunchParams(
            grid_x=channels.constant_value() // launch.rows,
            grid_y=batch,
            block_x=THREADS,
            shared_mem=launch.shared_bytes,
        )
        scalars = (channels, cells, regions.shape_expr[1], launch.rows, launch.tables)
        arguments = trtp.SymIntExprs.from_tuple([trtp.SymInt32(value) for value in scalars])
        return kernel_name(dtype), compile_ptx(dtype, _target[0]), params, arguments

    trtp.register(ONNX_OPERATOR)(describe)
    trtp.autotune(ONNX_OPERATOR)(formats)
    trtp.aot_impl(ONNX_OPERATOR)(kernel)
