"""Run .onnx files with ONNX Runtime, the portable default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.processors import limited_cores
from runtime.engines.artifact import read_artifact
from runtime.engines.checks import Shape, check_fit, check_inputs
from runtime.engines.options import EngineOptions
from runtime.errors import EngineError, InputError, import_failure, install_hint

LOG_ERRORS_ONLY = 3
"""Lowest severity of the messages that ONNX Runtime prints to the terminal."""


PROVIDERS = {
    None: ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
"""ONNX Runtime's provider names, in order of preference: nodes that TensorRT does not support run in CUDA on the same
GPU."""

RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
"""Session setting that records which provider runs which node."""

DISABLE_QDQ_FUSION = "session.disable_quant_qdq"
"""Session setting that leaves QuantizeLinear and DequantizeLinear as they are in the graph."""

FORBID_CPU = "session.disable_cpu_ep_fallback"
"""Session setting that makes any node on the CPU an error."""

SHAPE_OPERATORS = frozenset(
    ("Shape", "Size", "Gather", "Slice", "Concat", "Unsqueeze", "Squeeze", "Cast", "Range", "Constant", "Identity",
     "ConstantOfShape", "Add", "Sub", "Mul", "Div", "Reshape", "Expand", "Equal", "Where", "ReduceProd")
)  # fmt: skip
"""Operators that ONNX Runtime computes on the CPU on purpose even with a GPU: arithmetic on a few sizes."""


class OnnxRuntimeEngine:
    """Runs an .onnx file on the CPU, or on one NVIDIA GPU by ONNX Runtime's CUDA or TensorRT provider."""

    def __init__(self, path: Path, options: EngineOptions) -> None:
        """Load the file.

        Raises:
            EngineError: the file is not a loadable model, or the device is not available.
            SpecError: the metadata hold no ModelSpec, or one that does not fit, or the file is damaged.
            MissingDependencyError: onnxruntime is not installed.
        """
        onnxruntime = import_onnxruntime(options)
        on_gpu, names = options.device_kind == "gpu", list_providers(onnxruntime, options)
        self._path = path
        self.spec = read_artifact(path, verify=options.verify).spec
        fp8 = self.spec.precision == "fp8"  # ONNX Runtime 1.31 fuses it into what it cannot run, or computes wrong
        self._session: Any = open_session(onnxruntime, path, names, options, fuse_qdq=not fp8)
        check_fit(self.spec, shapes_of(self._session.get_inputs()), shapes_of(self._session.get_outputs()), str(path))
        self.library = f"onnxruntime {onnxruntime.__version__}"
        self.device = f"cuda:{options.device_index} ({options.provider or 'cuda'})" if on_gpu else "cpu"
        self.precision = self.spec.precision
        self._output_names = [tensor.name for tensor in self.spec.outputs]

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run one batch; see `runtime.engines.base.Engine.infer`.

        Raises:
            InputError: arrays that do not fit the ModelSpec.
            EngineError: the engine is closed, or the run failed.
        """
        check_inputs(self.spec, inputs)
        if self._session is None:
            raise EngineError(f"{self._path}: the engine is closed; open it again")
        try:
            values = self._session.run(self._output_names, dict(inputs))
        except Exception as error:  # ONNX Runtime's own exceptions derive from Exception directly
            raise EngineError(f"{self._path}: the run failed: {first_line(error)}") from error
        return dict(zip(self._output_names, values, strict=True))

    def close(self) -> None:
        """Release the network."""
        self._session = None


def import_onnxruntime(options: EngineOptions) -> Any:
    """Import ONNX Runtime, and refuse options that it has not.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        InputError: a precision other than the file's.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise import_failure(error, "onnxruntime", "", "running an .onnx file") from None
    if options.precision is not None:
        raise InputError(
            f"precision {options.precision}: an .onnx file runs in the precision it was exported in; "
            "choose it at export, or use an OpenVINO file"
        )
    return onnxruntime


def list_providers(onnxruntime: Any, options: EngineOptions) -> tuple[str, ...]:
    """Return the providers that the options ask for, in order of preference (EngineError: one is not there)."""
    names = PROVIDERS[(options.provider or "cuda") if options.device_kind == "gpu" else None]
    missing = [name for name in names if name not in onnxruntime.get_available_providers()]
    if missing:
        raise EngineError(
            f"device {options.device!r}: this onnxruntime {onnxruntime.__version__} has no {missing[0]}; "
            f"{install_hint('onnxruntime-gpu', 'gpu', instead_of='onnxruntime')}; or use device 'cpu'"
        )
    return names


def open_session(
    onnxruntime: Any,
    path: Path,
    names: tuple[str, ...],
    options: EngineOptions,
    content: bytes | None = None,
    *,
    fuse_qdq: bool = True,
) -> Any:
    """Open a session on exactly the given providers, with a file or with `content` in its place.

    By default ONNX Runtime falls back to the CPU silently in three cases: a provider that does not start, nodes that
    the provider does not support, and a run that fails.
    """
    on_gpu = options.device_kind == "gpu"
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = LOG_ERRORS_ONLY
    threads = options.threads if on_gpu else options.threads or limited_cores()
    if threads is not None:
        settings.intra_op_num_threads = threads
    recorded = hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info")
    if on_gpu:
        settings.add_session_config_entry(RECORD_ASSIGNMENT if recorded else FORBID_CPU, "1")
    arguments = {"device_id": str(options.device_index)} if on_gpu else {}
    if not fuse_qdq:
        settings.add_session_config_entry(DISABLE_QDQ_FUSION, "1")
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        given, providers = str(path) if content is None else content, [(name, arguments) for name in names]
        session = onnxruntime.InferenceSession(given, settings, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's own exceptions derive from Exception directly
        reason = first_line(error)
        if "NOT_IMPLEMENTED" in reason:  # bfloat16 on the CPU, as a rule
            reason += (
                f"; device {options.device!r} has no kernels of the file's precision: use the float32 file, or a GPU"
            )
        raise EngineError(f"{path}: ONNX Runtime cannot load it: {reason}") from error
    missing = [name for name in names if name not in session.get_providers()]
    if missing:
        raise EngineError(
            f"device {options.device!r}: ONNX Runtime could not start {missing[0]} and would run elsewhere; "
            "check the driver and the CUDA and TensorRT libraries, or use device 'cpu'"
        )
    if on_gpu and recorded:
        _check_assignment(session, path, names)
    return session


def _check_assignment(session: Any, path: Path, names: tuple[str, ...]) -> None:
    """Raise unless all nodes but arithmetic on shapes run on the given providers, and the first of them runs some."""
    parts = session.get_provider_graph_assignment_info()
    strays = {
        node.op_type for part in parts if part.ep_name not in names for node in part.get_nodes()
    } - SHAPE_OPERATORS  # fmt: skip
    if strays:
        raise EngineError(
            f"{path}: ONNX Runtime would run {', '.join(sorted(strays))} on the CPU, {names[0]} does not support them; "
            "use device 'cpu', or a TensorRT engine"
        )
    if not any(part.ep_name == names[0] for part in parts):
        raise EngineError(f"{path}: {names[0]} supports none of its nodes; use the other provider or device 'cpu'")


def shapes_of(tensors: Any) -> dict[str, Shape]:
    """Return the shapes of a session's tensors by name."""
    return {t.name: tuple(size if isinstance(size, int) else None for size in t.shape) for t in tensors}


def first_line(error: Exception) -> str:
    """Return the first line of a message of ONNX Runtime."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
