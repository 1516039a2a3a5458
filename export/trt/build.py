"""ONNX graph → serialised plan, by a process of its own (`export.trt.worker` says why)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from export.boundary_pooling.function import DOMAIN, build_masked_function
from export.graph.convolutions import Layer
from export.graph.export_input import Say
from export.trt.library import Library
from export.trt.worker import GRAPH, LOG, PLAN, PROGRESS, REQUEST, RESULT, Request
from runtime.common.files import atomic_path, read_json, write_json
from runtime.common.mappings import from_mapping, to_mapping
from runtime.engines.tensorrt.build_facts import MODULES
from runtime.errors import ExportError
from runtime.spec.model import ModelSpec

ROOT = Path(__file__).resolve().parents[2]
"""Folder of the four packages, where the worker finds them."""


@dataclass(frozen=True)
class BuildOptions:
    """How a plan is built."""

    batch: tuple[int, int, int] = (1, 1, 8)
    """Smallest, optimal and largest batch of the optimisation profile."""
    architectures: tuple[str, ...] = ()
    """Compute capabilities, TensorRT-RTX only; must be given with it."""
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
    """Largest resident memory of the building process, MiB; 0 where the system does not tell."""
    layers: tuple[Layer, ...]


def build_plan(
    graph: onnx.ModelProto,
    spec: ModelSpec,
    library: Library,
    options: BuildOptions,
    log: Path,
    say: Say,
    plugin_for: str = "",
) -> Plan:
    """Parse a strongly typed graph and build it.

    Args:
        graph: with its precision written in its tensors.
        spec: of the model; its inputs give the profile.
        library: that builds.
        options: see `BuildOptions`.
        log: file of the builder's messages; it stays when the build fails.
        say: receives progress.
        plugin_for: compute capability for which boundary pooling's plugin is compiled; empty: no plugin.

    Raises:
        ExportError: the library refuses the graph, the target or the options; its reason is in the message.
    """
    with tempfile.TemporaryDirectory(prefix="afsd-") as name:
        folder = Path(name)
        onnx.save(graph, folder / GRAPH)
        request = _request(spec, library, options, plugin_for)
        write_json(folder / REQUEST, to_mapping(request))
        status, complaint = _run(folder, say)
        with atomic_path(log) as unfinished:
            unfinished.write_bytes((folder / LOG).read_bytes() if (folder / LOG).is_file() else b"")
        if status not in (0, 2) or not (folder / RESULT).is_file():
            raise ExportError(f"{library.title}: its builder ended with status {status}: {complaint}; the log is {log}")
        result = read_json(folder / RESULT, "result of a build", ExportError)
        if status:
            raise ExportError(f"{result['error']}; the log is {log}")
        layers = tuple(from_mapping(Layer, layer) for layer in result["layers"])
        return Plan((folder / PLAN).read_bytes(), result["seconds"], result["peak_mib"], layers)


def remove_plugin(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph whose poolings name no plugin, so that every TensorRT expands their function, whose body is the masked
    one."""
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


def _request(spec: ModelSpec, library: Library, options: BuildOptions, plugin_for: str) -> Request:
    shapes = {
        tensor.name: [tuple(size if isinstance(axis, str) else axis for axis in tensor.shape) for size in options.batch]
        for tensor in spec.inputs
    }
    cached = options.timing_cache is not None and library.name == "tensorrt"
    return Request(
        module=MODULES[library.name],
        title=library.title,
        profile={name: (low, best, high) for name, (low, best, high) in shapes.items()},
        architectures=options.architectures,
        workspace_gib=options.workspace_gib,
        timing_cache=str(Path(options.timing_cache).absolute()) if cached and options.timing_cache else "",
        plugin_for=plugin_for,
    )


def _run(folder: Path, say: Say) -> tuple[int, str]:
    """Run the worker; its exit status and the last line it complained with."""
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
            except BaseException:  # an interrupt, as a rule: nothing goes on behind the user's back
                worker.kill()
                raise
        errors.seek(0)
        lines = [line.strip() for line in errors if line.strip()]
    return worker.returncode, lines[-1] if lines else "it said nothing"
