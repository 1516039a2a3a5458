"""Build a serialised plan from an ONNX graph in a separate process (`export.trt.worker` says why)."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import onnx

from export.boundary_pooling.function import DOMAIN, build_masked_function
from export.graph.convolutions import Layer
from export.graph.export_input import Say
from export.trt.library import Library
from export.trt.worker import GRAPH, LOG, PLAN, PROGRESS, REQUEST, RESULT, Request
from runtime.common.files import atomic_path, read_json, write_json
from runtime.common.mappings import from_mapping, to_mapping
from runtime.common.ranges import Count, Range, check_ranges
from runtime.common.temporaries import scratch_folder
from runtime.engines.tensorrt.build_facts import MODULES
from runtime.errors import ExportError
from runtime.spec.model import ModelSpec

Profile = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input → its smallest, optimal and largest shape."""

ROOT = Path(__file__).resolve().parents[2]
"""Folder of the four packages, where the worker finds them."""


@dataclass(frozen=True)
class BuildOptions:
    """Holds the options of a build."""

    batch: tuple[Count, Count, Count] = (1, 1, 8)
    """Smallest, optimal and largest batch of the optimisation profile."""
    architectures: tuple[str, ...] = ()
    """Compute capabilities to build for; required for TensorRT-RTX, empty for TensorRT."""
    workspace_gib: Annotated[float, Range(0, 1024, above=True, what="GiB")] = 4.0
    """Largest device memory that a layer may use, in GiB."""
    timing_cache: Path | None = None
    """File of measured kernel times, read if it exists and then updated. TensorRT only; RTX measures nothing."""

    def __post_init__(self) -> None:
        check_ranges(self)
        low, best, high = self.batch
        if not low <= best <= high:
            raise ExportError(f"--batch {low} {best} {high}: expected 1 ≤ min ≤ opt ≤ max")


@dataclass(frozen=True)
class Plan:
    """Holds a built engine in memory."""

    data: bytes
    """Serialised engine."""
    seconds: float
    """Wall time of parsing and building, in seconds."""
    peak_mib: float
    """Largest resident memory of the building process, in MiB; 0 where the system does not report it."""
    layers: tuple[Layer, ...]


def build_plan(
    graph: onnx.ModelProto,
    profile: Profile,
    library: Library,
    options: BuildOptions,
    log: Path,
    say: Say,
    plugin_for: str = "",
) -> Plan:
    """Build a plan from a strongly typed graph.

    Args:
        graph: graph whose tensors have the types that the engine computes in.
        profile: range of the shapes of the inputs that are not fixed (`batch_profile`).
        library: library that builds.
        options: see `BuildOptions`.
        log: file for the builder's messages; kept when the build fails.
        say: receives progress.
        plugin_for: compute capability for which boundary pooling's plugin is compiled; empty: no plugin.

    Raises:
        ExportError: the library refuses the graph, the target or the options; its reason is in the message.
    """
    with scratch_folder() as folder:
        onnx.save(graph, folder / GRAPH)
        request = _request(profile, library, options, plugin_for)
        write_json(folder / REQUEST, to_mapping(request))
        status, message = _run(folder, say)
        with atomic_path(log) as unfinished:
            unfinished.write_bytes((folder / LOG).read_bytes() if (folder / LOG).is_file() else b"")
        if status not in (0, 2) or not (folder / RESULT).is_file():
            raise ExportError(f"{library.title}: its builder ended with status {status}: {message}; the log is {log}")
        result = read_json(folder / RESULT, "result of a build", ExportError)
        if status:
            raise ExportError(f"{result['error']}; the log is {log}")
        layers = tuple(from_mapping(Layer, layer) for layer in result["layers"])
        return Plan((folder / PLAN).read_bytes(), result["seconds"], result["peak_mib"], layers)


def remove_plugin(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a graph whose poolings name no plugin, so that TensorRT expands their masked function."""
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    for function in model.functions:
        if function.domain == DOMAIN:
            opsets = [*function.opset_import]
            function.CopyFrom(build_masked_function())
            del function.opset_import[:]
            function.opset_import.extend(opsets)  # bfloat16 needs a newer one
    for node in model.graph.node:
        if node.domain == DOMAIN:
            kept = [a for a in node.attribute if a.name != "plugin_namespace"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return model


def batch_profile(spec: ModelSpec, batch: tuple[int, int, int]) -> Profile:
    """Return the profile of a network on windows for its smallest, optimal and largest batch."""
    shapes = {
        tensor.name: [tuple(size if isinstance(axis, str) else axis for axis in tensor.shape) for size in batch]
        for tensor in spec.inputs
    }
    return {name: (low, best, high) for name, (low, best, high) in shapes.items()}


def _request(profile: Profile, library: Library, options: BuildOptions, plugin_for: str) -> Request:
    cached = options.timing_cache is not None and library.name == "tensorrt"
    return Request(
        module=MODULES[library.name],
        title=library.title,
        profile=profile,
        architectures=options.architectures,
        workspace_gib=options.workspace_gib,
        timing_cache=str(Path(options.timing_cache).absolute()) if cached and options.timing_cache else "",
        plugin_for=plugin_for,
    )


def _run(folder: Path, say: Say) -> tuple[int, str]:
    """Run the worker and return its exit status and its last line on stderr."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    with (folder / "stderr").open("w+", encoding="utf-8") as errors:
        command = [sys.executable, "-m", "export.trt.worker", str(folder)]
        environment = {**os.environ, "PYTHONPATH": paths}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as worker:
            assert worker.stdout is not None
            try:
                for line in worker.stdout:
                    if line.startswith(PROGRESS):
                        say(f"  {line.removeprefix(PROGRESS).rstrip()}")
            except BaseException:  # usually an interrupt: do not leave the worker running
                worker.kill()
                raise
        errors.seek(0)
        lines = [line.strip() for line in errors if line.strip()]
    return worker.returncode, lines[-1] if lines else "no message"
