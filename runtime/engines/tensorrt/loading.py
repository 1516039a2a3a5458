"""Load TensorRT plans with their sidecar, or report in one line why they cannot run on this machine.

The engine file of a network on windows is one plan. That of a streaming network is the plans of its parts, one behind
the other; the sidecar has their sizes (`EngineBuild.parts`).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.engines.artifact import Artifact, read_artifact
from runtime.engines.checks import Shape, check_fit
from runtime.engines.options import EngineOptions
from runtime.engines.tensorrt.build_facts import MODULES, EngineBuild
from runtime.engines.tensorrt.cuda import CudaDevice, DeviceFacts, load_bindings
from runtime.errors import EngineError, InputError, SpecError, import_failure
from runtime.spec.model import ModelSpec

TYPES = {
    "uint8": "UINT8", "int8": "INT8", "int32": "INT32", "int64": "INT64", "float16": "HALF", "float32": "FLOAT",
}  # fmt: skip
"""TensorRT's name of each type of a tensor or state of a ModelSpec."""

WHOLE = ""
"""Name of the plan of a network that has no parts."""

PURPOSE = "running a TensorRT engine"


@dataclass(frozen=True)
class LoadedPlan:
    """Holds a plan on its device, ready for an execution context."""

    spec: ModelSpec
    build: EngineBuild
    device: CudaDevice
    engine: Any
    """ICudaEngine."""
    log: PlanLog
    keep: tuple[Any, ...]
    """Objects that must outlive the engine."""


class PlanLog:
    """Keeps the library's last error message, and lets nothing reach the terminal."""

    def __init__(self, library: Any) -> None:
        self.last = ""
        kept = self
        troubles = (library.ILogger.INTERNAL_ERROR, library.ILogger.ERROR)

        class Logger(library.ILogger):  # type: ignore[misc]  # the bindings call `log` of a subclass
            def log(self, severity: Any, message: str) -> None:
                if severity in troubles and message.strip():
                    kept.last = message.strip().splitlines()[0]

        self.logger = Logger()

    def reason(self) -> str:
        """Return the last error message of the library."""
        return self.last or "no reason given"


def check_options(path: Path, options: EngineOptions) -> None:
    """Check the options of a TensorRT engine (EngineError, InputError: one does not apply)."""
    if options.device_kind == "cpu":
        raise EngineError(
            f"{path}: a TensorRT engine runs on an NVIDIA GPU alone, got device 'cpu'; "
            "leave the device out, or use an .onnx or OpenVINO .xml file"
        )
    if options.threads is not None or options.precision is not None:
        raise InputError(f"{path}: a {path.suffix} file takes neither threads nor precision; leave them out")


def load_plan(path: Path, options: EngineOptions) -> LoadedPlan:
    """Load the plan of a network on windows.

    Raises:
        SpecError, MissingDependencyError, EngineError: see `load_plans`; SpecError also if its tensors do not fit.
    """
    plan = load_plans(path, options)[WHOLE]
    try:
        _check_tensors(path, plan.spec, plan.build, plan.engine, plan.keep[-1])
    except BaseException:
        plan.device.close()
        raise
    return plan


def load_plans(path: Path, options: EngineOptions) -> dict[str, LoadedPlan]:
    """Check files, library version and GPU, each with its own error, then deserialise the plans.

    Returns:
        Name of a part → its plan, or `WHOLE` → the only one; all on one device, which is the caller's to close.

    Raises:
        SpecError: the sidecar is missing or malformed, or a hash differs.
        MissingDependencyError: TensorRT or cuda-bindings is not installed.
        EngineError: another version or architecture, no driver, GPU not found, or the library refuses a plan.
    """
    artifact = read_artifact(path, verify=options.verify)
    spec, build = artifact.spec, artifact.build
    assert build is not None  # every plan has one
    if (spec.streaming is not None) != bool(build.parts):
        what = "a streaming network, but lists no parts" if spec.streaming is not None else "no streaming network"
        raise SpecError(f"{path}: its sidecar describes {what}; build the engine again")
    library = _import_library(path, build)
    api = load_bindings(build.library, PURPOSE)
    device = CudaDevice(api, options.device_index)
    try:
        _check_architecture(path, build, device.facts)
        log = PlanLog(library)
        plans = {}
        for name, data in _cut_plans(artifact, build):
            runtime, engine = _deserialise(path, data, build, library, log)
            plans[name] = LoadedPlan(spec, build, device, engine, log, (runtime, log.logger, library))
    except BaseException:
        device.close()
        raise
    return plans


def tensors_of(engine: Any, library: Any, *, inputs: bool) -> dict[str, Shape]:
    """Return the inputs or outputs of an ICudaEngine by name, with None for sizes that it leaves open."""
    wanted = library.TensorIOMode.INPUT if inputs else library.TensorIOMode.OUTPUT
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return {
        name: tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
        for name in names
        if engine.get_tensor_mode(name) == wanted
    }


def require_type(path: Path, engine: Any, library: Any, name: str, dtype: str) -> None:
    """Check the type of a tensor of an ICudaEngine (SpecError: it is not the one that the ModelSpec says)."""
    kind = engine.get_tensor_dtype(name)
    if kind != getattr(library.DataType, TYPES[dtype]):
        raise SpecError(f"{path}: {name!r} is {kind.name}, its ModelSpec says {dtype}; build the engine again")


def _cut_plans(artifact: Artifact, build: EngineBuild) -> Iterator[tuple[str, bytes]]:
    """Yield the plans of an engine file with their names, one at a time."""
    found = artifact.weights.stat().st_size
    sizes: dict[str, int] = {part.name: part.size for part in build.parts} or {WHOLE: found}
    if found != (expected := sum(sizes.values())):
        raise SpecError(f"{artifact.path}: has {found:,} bytes, its parts have {expected:,}; copy the model again")
    with artifact.weights.open("rb") as stream:
        for name, size in sizes.items():
            yield name, stream.read(size)


def make_context(plan: LoadedPlan, path: Path, graphs: bool) -> Any:
    """Make the execution context.

    TensorRT for RTX compiles its kernels at this point. With CUDA graphs it must not go on to compile better kernels
    in the background, since a captured graph keeps the first ones.
    """
    if plan.build.library == "tensorrt-rtx" and graphs:
        library = plan.keep[-1]
        config = plan.engine.create_runtime_config()
        eager = library.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = eager
        context = plan.engine.create_execution_context(config)
    else:
        context = plan.engine.create_execution_context()
    if context is None:
        raise EngineError(
            f"{path}: {plan.build.library} cannot start it on {plan.device.facts}: {plan.log.reason()}; "
            "free GPU memory, or build it for smaller batches"
        )
    return context


def _import_library(path: Path, build: EngineBuild) -> Any:
    """Import the library that built the plan, in the version that built it."""
    name = MODULES[build.library]
    try:
        library = importlib.import_module(name)
    except ImportError as error:
        raise import_failure(error, name, build.library, PURPOSE) from None
    except Exception as error:  # a shared library that is missing is an OSError or RuntimeError, by version
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(f"{path}: {name} is installed but does not load: {reason}; install it again") from error
    if library.__version__ != build.version:
        raise EngineError(
            f"{path}: built by {build.library} {build.version}, installed is {library.__version__}; "
            f"build the engine again, or pip install {build.library}=={build.version}"
        )
    return library


def _deserialise(path: Path, data: bytes, build: EngineBuild, library: Any, log: PlanLog) -> tuple[Any, Any]:
    """Return IRuntime and ICudaEngine; on failure the library returns None or raises, and logs the reason only."""
    runtime = engine = None
    try:
        runtime = library.Runtime(log.logger)
        engine = runtime.deserialize_cuda_engine(data)
    except (RuntimeError, TypeError) as error:  # raised by the bindings if the library returned a null pointer
        log.last = log.last or str(error).partition("\n")[0]
    if engine is None:
        raise EngineError(
            f"{path}: {build.library} {build.version} cannot load it: {log.reason()}; "
            "build the engine again on this machine"
        )
    return runtime, engine


def _check_architecture(path: Path, build: EngineBuild, gpu: DeviceFacts) -> None:
    if gpu.architecture not in build.architectures:
        raise EngineError(
            f"{path}: built for GPUs of architecture {', '.join(build.architectures)}, {gpu} has {gpu.architecture}; "
            "build the engine again for this GPU"
        )


def _check_tensors(path: Path, spec: ModelSpec, build: EngineBuild, engine: Any, library: Any) -> None:
    """Compare names, sizes, types and batch range of the plan with spec and build."""
    inputs, outputs = (tensors_of(engine, library, inputs=given) for given in (True, False))
    check_fit(spec, inputs, outputs, str(path))
    for tensor in (*spec.inputs, *spec.outputs):
        require_type(path, engine, library, tensor.name, tensor.dtype)
    for tensor in spec.inputs:
        fixed = inputs[tensor.name][0]
        shapes = engine.get_tensor_profile_shape(tensor.name, 0) if fixed is None else ()
        batch = tuple(int(shape[0]) for shape in shapes) or (fixed,) * 3
        if batch != build.batch:
            raise SpecError(
                f"{path}: {tensor.name!r} takes batches (min, opt, max) {batch}, its sidecar says {build.batch}; "
                "build the engine again"
            )
