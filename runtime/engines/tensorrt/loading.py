"""Load a TensorRT plan with its sidecar, or report in one line why it cannot run on this machine."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.engines.artifact import Artifact, read_artifact
from runtime.engines.checks import Shape, check_fit
from runtime.engines.options import EngineOptions
from runtime.engines.tensorrt.build_facts import MODULES, EngineBuild
from runtime.engines.tensorrt.cuda import CudaDevice, DeviceFacts, load_bindings
from runtime.errors import EngineError, SpecError, import_failure
from runtime.spec.model import ModelSpec

TYPES = {"uint8": "UINT8", "int32": "INT32", "float32": "FLOAT"}
"""TensorRT's name of each tensor type of a ModelSpec."""

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


def load_plan(path: Path, options: EngineOptions) -> LoadedPlan:
    """Check files, library version and GPU, each with its own error, then deserialise the plan.

    Raises:
        SpecError: the sidecar is missing or malformed, a hash differs, or the tensors do not fit.
        MissingDependencyError: TensorRT or cuda-bindings is not installed.
        EngineError: another version or architecture, no driver, GPU not found, or the library refuses the plan.
    """
    artifact = read_artifact(path, verify=options.verify)
    spec, build = artifact.spec, artifact.build
    assert build is not None  # every plan has one
    library = _import_library(path, build)
    api = load_bindings(build.library, PURPOSE)
    device = CudaDevice(api, options.device_index)
    try:
        _check_architecture(path, build, device.facts)
        log = PlanLog(library)
        runtime, engine = _deserialise(artifact, build, library, log)
        _check_tensors(path, spec, build, engine, library)
    except BaseException:
        device.close()
        raise
    return LoadedPlan(spec, build, device, engine, log, (runtime, log.logger, library))


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


def _deserialise(artifact: Artifact, build: EngineBuild, library: Any, log: PlanLog) -> tuple[Any, Any]:
    """Return IRuntime and ICudaEngine; on failure the library returns None or raises, and logs the reason only."""
    runtime = engine = None
    try:
        runtime = library.Runtime(log.logger)
        engine = runtime.deserialize_cuda_engine(artifact.weights.read_bytes())
    except (RuntimeError, TypeError) as error:  # raised by the bindings if the library returned a null pointer
        log.last = log.last or str(error).partition("\n")[0]
    if engine is None:
        raise EngineError(
            f"{artifact.path}: {build.library} {build.version} cannot load it: {log.reason()}; "
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
    found: dict[Any, dict[str, Shape]] = {library.TensorIOMode.INPUT: {}, library.TensorIOMode.OUTPUT: {}}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        sizes = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
        found[engine.get_tensor_mode(name)][name] = sizes
    check_fit(spec, found[library.TensorIOMode.INPUT], found[library.TensorIOMode.OUTPUT], str(path))
    for tensor in (*spec.inputs, *spec.outputs):
        kind = engine.get_tensor_dtype(tensor.name)
        if kind != getattr(library.DataType, TYPES[tensor.dtype]):
            raise SpecError(
                f"{path}: {tensor.name!r} is {kind.name}, its ModelSpec says {tensor.dtype}; build the engine again"
            )
    for tensor in spec.inputs:
        fixed = found[library.TensorIOMode.INPUT][tensor.name][0]
        shapes = engine.get_tensor_profile_shape(tensor.name, 0) if fixed is None else ()
        batch = tuple(int(shape[0]) for shape in shapes) or (fixed,) * 3
        if batch != build.batch:
            raise SpecError(
                f"{path}: {tensor.name!r} takes batches (min, opt, max) {batch}, its sidecar says {build.batch}; "
                "build the engine again"
            )
