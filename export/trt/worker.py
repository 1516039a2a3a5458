"""Build one plan in a process of its own: `python -m export.trt.worker FOLDER`, started by `export.trt.build`.

The process is separate because a failed build leaves TensorRT-RTX in a state that changes later builds (after a refused
build for Turing it compiles int8 convolutions for other GPUs in float32 without a warning), and because TensorRT ends
the process on some graphs. The worker reads FOLDER/request.json and graph.onnx, prints its progress, and writes log,
plan and result.json.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from export.trt.layers import parse_layers
from runtime.common.children import end_with_parent
from runtime.common.files import atomic_path, read_json, write_json
from runtime.common.mappings import from_mapping
from runtime.common.text import one_line
from runtime.errors import AfsdError, ExportError

GRAPH, REQUEST, LOG, PLAN, RESULT = "graph.onnx", "request.json", "log", "plan", "result.json"
"""Names of the files in the worker's folder."""

PROGRESS = "progress: "
"""Prefix of the progress lines on the standard output; the libraries print other lines there."""

ADVICE = "try another --precision or --sm"
"""Advice at the end of a message when the library refuses a build."""

GIB = 2**30


@dataclass(frozen=True)
class Request:
    """Holds what the worker needs to know for a build, beside the graph."""

    module: str
    """Python module of the library."""
    title: str
    """Name and version of the library, for messages."""
    profile: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
    """Input → its smallest, optimal and largest shape."""
    architectures: tuple[str, ...]
    """Targets of TensorRT-RTX, as in "8.6"; empty: the GPU in this machine."""
    workspace_gib: float
    """Largest device memory that a layer may use, in GiB."""
    timing_cache: str
    """Path of the timing cache; empty: none."""
    plugin_for: str
    """Compute capability that the pooling plugin is compiled for; empty: no plugin."""


def main(folder: Path) -> int:
    """Build the plan that FOLDER/request.json asks for; return 0, or 2 with the reason in result.json."""
    request = from_mapping(Request, read_json(folder / REQUEST, "request of a build", ExportError))
    start = time.perf_counter()
    try:
        with (folder / LOG).open("w", encoding="utf-8") as log:
            trt = importlib.import_module(request.module)
            messages = _logger(trt, log)
            plan = _build(request, trt, messages, str(folder / GRAPH))
            (folder / PLAN).write_bytes(plan)
            seconds, peak = time.perf_counter() - start, _peak_mib()
            layers = [asdict(layer) for layer in parse_layers(messages.layers or _inspect_layers(trt, plan, messages))]
    except (AfsdError, OSError) as error:
        _answer(folder, {"error": str(error)})
        return 2
    _answer(folder, {"seconds": seconds, "peak_mib": peak, "layers": layers})
    return 0


def _answer(folder: Path, content: dict[str, Any]) -> None:
    write_json(folder / RESULT, content)


def _peak_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB; 0 where the system does not report it.

    `getrusage` is not used: on Linux a process inherits the maximum of its parent.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0.0)


def _build(request: Request, trt: Any, messages: Any, graph: str) -> bytes:
    """Parse the graph and return the serialised plan."""
    if request.plugin_for:
        from export.boundary_pooling.plugin import register

        major, _, minor = request.plugin_for.partition(".")
        register((int(major), int(minor)))
    builder = _call(lambda: trt.Builder(messages), request, messages, "starting its builder")
    network = _network(trt, builder)
    parser = trt.OnnxParser(network, messages)
    if not parser.parse_from_file(graph):
        raise ExportError(f"{request.title} cannot read the graph: {_parser_error(parser)}")
    config = _config(trt, builder, request)
    config.progress_monitor = _progress(trt)
    data = _call(lambda: builder.build_serialized_network(network, config), request, messages, "building")
    _store_timing_cache(config, request)
    return bytes(memoryview(data))


def _network(trt: Any, builder: Any) -> Any:
    """Create a strongly typed network; TensorRT 10 needs a flag for that, later versions know no other kind."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return builder.create_network(0 if flag is None else 1 << int(flag))


def _config(trt: Any, builder: Any, request: Request) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(request.workspace_gib * GIB))
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if hasattr(trt.BuilderFlag, "TF32"):  # float32 in the graph means float32: half is asked for by its type
        config.clear_flag(trt.BuilderFlag.TF32)
    for index, name in enumerate(request.architectures):
        config.num_compute_capabilities = len(request.architectures)
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{name.replace('.', '')}"), index)
    profile = builder.create_optimization_profile()
    for name, shapes in request.profile.items():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    if request.timing_cache:
        stored = Path(request.timing_cache)
        data = stored.read_bytes() if stored.is_file() else b""
        if not config.set_timing_cache(config.create_timing_cache(data), False):
            raise ExportError(f"--timing-cache {stored}: of another TensorRT or GPU; name another file or delete it")
    return config


def _store_timing_cache(config: Any, request: Request) -> None:
    if not request.timing_cache or (cache := config.get_timing_cache()) is None:
        return
    with atomic_path(request.timing_cache) as unfinished:
        unfinished.write_bytes(bytes(memoryview(cache.serialize())))


def _call(make: Callable[[], Any], request: Request, messages: Any, doing: str) -> Any:
    """Call the library and raise ExportError with its reason where it returns None or raises an error of its own."""
    try:
        made = make()
    except AfsdError:
        raise
    except Exception as error:  # pybind11 turns C++ exceptions into several types
        raise ExportError(
            f"{request.title}: {doing} failed: {messages.reason() or one_line(error)}; {ADVICE}"
        ) from None
    if made is None:
        raise ExportError(f"{request.title}: {doing} failed: {messages.reason() or 'it gave no reason'}; {ADVICE}")
    return made


def _parser_error(parser: Any) -> str:
    return one_line(parser.get_error(0).desc()) if parser.num_errors else "it gave no reason"


def _inspect_layers(trt: Any, plan: bytes, messages: Any) -> str:
    """Return the layer report of an engine; empty if it cannot be loaded here (no GPU, not enough memory)."""
    try:
        engine = trt.Runtime(messages).deserialize_cuda_engine(plan)
        return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.ONELINE))
    except Exception:  # keep the plan even without its layer report
        return ""


def _logger(trt: Any, log: TextIO) -> Any:
    """Make a logger that writes every message to the file; its class needs the loaded library as base."""

    class Messages(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.layers = ""

        def log(self, severity: Any, message: str) -> None:
            print(f"{str(severity).rpartition('.')[2]}: {message}", file=log, flush=severity == trt.ILogger.ERROR)
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            if message.startswith("Layers:"):
                self.layers = message

        def reason(self) -> str:
            """Return the first error that says more than that CUDA is missing, in one line."""
            useful = [text for text in self.errors if "catchCudaError" not in text] or self.errors
            return one_line(useful[0]) if useful else ""

    return Messages()


def _progress(trt: Any) -> Any:
    """Make a monitor that prints each outermost phase of the builder when it starts."""

    class Progress(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            if parent is None or parent == "Building engine":
                print(f"{PROGRESS}{name[0].lower()}{name[1:]}", flush=True)

        def phase_finish(self, name: str) -> None:
            pass

        def step_complete(self, name: str, step: int) -> bool:
            return True  # continue the build

    return Progress()


if __name__ == "__main__":
    end_with_parent()  # nobody else would read the plan
    sys.exit(main(Path(sys.argv[1])))
