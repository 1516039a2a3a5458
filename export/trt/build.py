"""ONNX graph → serialised plan, with the builder's log kept, its progress shown and its layers reported."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from export.boundary_pooling.function import DOMAIN
from export.trt.layers import Layer, parse_layers
from export.trt.library import Library
from runtime.atomic import atomic_path
from runtime.errors import ExportError
from runtime.spec import ModelSpec

Say = Callable[[str], None]

GIB = 2**30


@dataclass(frozen=True)
class BuildOptions:
    """How a plan is built."""

    batch: tuple[int, int, int] = (1, 1, 8)
    """Smallest, optimal and largest batch of the optimisation profile."""
    architectures: tuple[str, ...] = ()
    """Compute capabilities, TensorRT-RTX only; empty: the GPU in this machine, or without one all there are."""
    workspace_gib: float = 4.0
    """Device memory that a layer may use at most, GiB."""
    timing_cache: Path | None = None
    """File of measured kernel times, read when it is there and written again. TensorRT only; RTX measures nothing."""

    def __post_init__(self) -> None:
        low, best, high = self.batch
        if not 0 < low <= best <= high:
            raise ExportError(f"--batch {low} {best} {high}: expected 1 ≤ min ≤ opt ≤ max")
        if not self.workspace_gib > 0:
            raise ExportError(f"--workspace {self.workspace_gib:g}: expected a positive number of GiB")


@dataclass(frozen=True)
class Plan:
    """A built engine, in memory."""

    data: bytes
    seconds: float
    """Wall time of parsing and building."""
    peak_mib: float
    """Largest resident memory of the process while it was built, MiB; 0 where the system does not tell."""
    layers: tuple[Layer, ...]


def build_plan(graph: onnx.ModelProto, spec: ModelSpec, library: Library, options: BuildOptions, log: Path, say: Say) -> Plan:  # fmt: skip  # noqa: E501
    """Parse a strongly typed graph and build it.

    Args:
        graph: with its precision written in its tensors.
        spec: of the model; its inputs give the profile.
        library: that builds; boundary pooling's plugin must be registered with it already if it is to be used.
        options: see `BuildOptions`.
        log: file of the builder's messages; written also when the build fails.
        say: receives progress.

    Raises:
        ExportError: the library refuses the graph, the target or the options; its reason is in the message.
    """
    trt = library.module
    messages = _logger(trt)
    _reset_peak()
    start = time.perf_counter()
    try:
        builder = _built(lambda: trt.Builder(messages), library, messages, "starting its builder")
        network = _network(trt, builder)
        parser = trt.OnnxParser(network, messages)
        if not parser.parse(graph.SerializeToString()):
            raise ExportError(f"{library.title} cannot read the graph: {_parser_errors(parser)}; the log is {log}")
        config = _config(trt, builder, network, spec, options, library)
        config.progress_monitor = _progress(trt, say)
        data = _built(lambda: builder.build_serialized_network(network, config), library, messages, "building")
        _store_timing_cache(config, options)
        seconds = time.perf_counter() - start
        plan = bytes(memoryview(data))
        layers = parse_layers(messages.layers) or parse_layers(_inspected(trt, plan, messages))
        return Plan(plan, seconds, _peak_mib(), layers)
    except ExportError as error:
        raise ExportError(f"{str(error).removesuffix(f'; the log is {log}')}; the log is {log}") from None
    finally:
        with atomic_path(log) as unfinished:
            unfinished.write_text("\n".join(messages.lines) + "\n", encoding="utf-8")


def without_plugin(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph whose poolings name no plugin, so that every TensorRT expands the function of standard operators."""
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    for node in model.graph.node:
        if node.domain == DOMAIN:
            kept = [a for a in node.attribute if a.name != "plugin_namespace"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return model


def _network(trt: Any, builder: Any) -> Any:
    """Strongly typed: TensorRT 10 needs to be told, later ones know no other."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return builder.create_network(0 if flag is None else 1 << int(flag))


def _config(trt: Any, builder: Any, network: Any, spec: ModelSpec, options: BuildOptions, library: Library) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace_gib * GIB))
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 in the graph means float32: half is asked for by its type
    for index, name in enumerate(options.architectures):
        config.num_compute_capabilities = len(options.architectures)
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{name.replace('.', '')}"), index)
    profile = builder.create_optimization_profile()
    for tensor in spec.inputs:
        shapes = [tuple(size if axis == "batch" else axis for axis in tensor.shape) for size in options.batch]
        profile.set_shape(tensor.name, *shapes)
    config.add_optimization_profile(profile)
    if options.timing_cache is not None and library.name == "tensorrt":
        stored = options.timing_cache.read_bytes() if options.timing_cache.is_file() else b""
        if not config.set_timing_cache(config.create_timing_cache(stored), False):
            raise ExportError(
                f"--timing-cache {options.timing_cache}: of another TensorRT or GPU; name another file or delete it"
            )
    return config


def _store_timing_cache(config: Any, options: BuildOptions) -> None:
    if options.timing_cache is None or (cache := config.get_timing_cache()) is None:
        return
    with atomic_path(options.timing_cache) as unfinished:
        unfinished.write_bytes(bytes(memoryview(cache.serialize())))


def _built(make: Callable[[], Any], library: Library, messages: Any, doing: str) -> Any:
    """What a call gives, or an error with the library's own reason; it returns None or raises its own types."""
    try:
        made = make()
    except Exception as error:  # pybind11 turns C++ exceptions into several types
        raise ExportError(f"{library.title}: {doing} failed: {messages.reason() or error}") from None
    if made is None:
        raise ExportError(f"{library.title}: {doing} failed: {messages.reason() or 'it gave no reason'}")
    return made


def _parser_errors(parser: Any) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return _one_line(errors[0].desc()) if errors else "it gave no reason"


def _inspected(trt: Any, plan: bytes, messages: Any) -> str:
    """The layer report of an engine that can be loaded here; empty where it cannot (no GPU)."""
    engine = trt.Runtime(messages).deserialize_cuda_engine(plan)
    if engine is None:
        return ""
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.ONELINE))


def _logger(trt: Any) -> Any:
    """A logger that keeps every message; its class needs the loaded library as base."""

    class Messages(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self.errors: list[str] = []
            self.layers = ""

        def log(self, severity: Any, message: str) -> None:
            self.lines.append(f"{str(severity).rpartition('.')[2]}: {message}")
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            if message.startswith("Layers:"):
                self.layers = message

        def reason(self) -> str:
            """The first error that tells more than that CUDA is missing, in one line."""
            telling = [text for text in self.errors if "catchCudaError" not in text] or self.errors
            return _one_line(telling[0]) if telling else ""

    return Messages()


def _progress(trt: Any, say: Say) -> Any:
    """Tells each outermost phase of the builder as it starts."""

    class Progress(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            if parent is None or parent == "Building engine":
                say(f"  {name[0].lower()}{name[1:]}")

        def phase_finish(self, name: str) -> None:
            pass

        def step_complete(self, name: str, step: int) -> bool:
            return True  # go on

    return Progress()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _reset_peak() -> None:
    """Let Linux count the process's peak memory anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> float:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)
