"""Build and open the engines of the GPU check, and make the small network of one pooling."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import onnx
from onnx import TensorProto, helper

from export.boundary_pooling.function import DOMAIN, NAME, OPSET, attach_pooling_function
from export.graph.precision import BFLOAT16_OPSET, HALF, Precision
from export.to_trt import Pooling, TrtOptions, export_trt
from export.trt.build import BuildOptions, batch_profile, build_plan, remove_plugin
from export.trt.library import Library, find_library, local_gpu
from runtime.common.files import read_json
from runtime.common.sizes import file_size
from runtime.engines import Engine, open_engine
from runtime.engines.sidecar import write_sidecar
from runtime.engines.tensorrt.build_facts import EngineBuild
from runtime.engines.tensorrt.cuda import DeviceFacts
from runtime.errors import AfsdError, ExportError, MissingDependencyError
from runtime.spec.model import ModelSpec
from runtime.spec.tensors import TensorSpec
from training.afsd.boundary_pooling import ONNX_ATTRIBUTES


@dataclass(frozen=True)
class Case:
    """Describes one engine that is built, compared and timed."""

    precision: Precision
    pooling: Pooling
    batch: tuple[int, int, int] = (1, 1, 1)
    stream: bool = False
    """Whether the engine is a streaming network."""

    @property
    def name(self) -> str:
        """Name of the case, as in "fp16 plugin", "fp16 plugin ×8" or "fp16 plugin stream"."""
        best = self.batch[1]
        return f"{self.precision} {self.pooling}{f' ×{best}' if best > 1 else ''}{' stream' if self.stream else ''}"


class Workbench(Protocol):
    """Builds and opens engines for the check, which itself knows no library."""

    title: str
    """GPU and library."""

    def network(self, typed: Path, case: Case, target: Path) -> str:
        """Build an engine of a typed ONNX file and return one line about it."""
        ...

    def pooling(self, graph: onnx.ModelProto, spec: ModelSpec, case: Case, target: Path) -> None:
        """Build an engine of one pooling alone."""
        ...

    def open(self, target: Path, *, cuda_graph: bool) -> Engine:
        """Open an engine that was built."""
        ...


def require_gpu() -> DeviceFacts:
    """Return the facts of this machine's first GPU (ExportError: there is none; the message says why)."""
    try:
        return local_gpu()
    except AfsdError as error:
        reason = str(error).partition(";")[0]
        raise ExportError(f"gpu-check needs a machine with an NVIDIA GPU and its driver: {reason}") from None


class TensorRtBench:
    """Builds and opens engines with full TensorRT on the first GPU of this machine."""

    def __init__(self) -> None:
        """Find the GPU and TensorRT (ExportError: one of them is missing)."""
        self.gpu = require_gpu()
        try:
            self.library: Library = find_library("tensorrt", (), gpu=True)
        except MissingDependencyError as error:
            raise ExportError(f"gpu-check needs TensorRT: {error}") from None
        self.title = f"{self.gpu.name} (compute capability {self.gpu.architecture}), {self.library.title}"

    def network(self, typed: Path, case: Case, target: Path) -> str:
        """See `Workbench`; `export_trt` compares the engine before it writes the file."""
        build = BuildOptions(batch=case.batch, timing_cache=target.with_name("timing.cache"))
        options = TrtOptions(case.precision, "tensorrt", case.pooling, build, stream=case.stream)
        export_trt(typed, target, options=options, say=progress)
        report = read_json(target.with_name(f"{target.name}.report.json"), "report of a build", ExportError)
        found = report["convolutions"]
        asked = found["by_precision"].get(case.precision, 0)
        return f"{report['seconds']:.0f} s, {file_size(report['bytes'])}, {asked} of {found['total']} convolutions"

    def pooling(self, graph: onnx.ModelProto, spec: ModelSpec, case: Case, target: Path) -> None:
        """See `Workbench`."""
        plugin = case.pooling == "plugin"
        plan = build_plan(
            graph if plugin else remove_plugin(graph),
            batch_profile(spec, case.batch),
            self.library,
            BuildOptions(batch=case.batch),
            target.with_name(f"{target.name}.log"),
            progress,
            self.gpu.architecture if plugin else "",
        )
        target.write_bytes(plan.data)
        pooling: Literal["plugin", "function"] = "plugin" if plugin else "function"
        targets = (self.gpu.architecture,)
        made = EngineBuild("tensorrt", self.library.version, targets, case.precision, case.batch, pooling)
        write_sidecar(target, spec, made)

    def open(self, target: Path, *, cuda_graph: bool) -> Engine:
        """See `Workbench`."""
        return open_engine(target, cuda_graph=cuda_graph)


def make_pooling_network(
    precision: Precision, channels: int, length: int, count: int, like: ModelSpec
) -> tuple[onnx.ModelProto, ModelSpec]:
    """Return one pooling between casts as a network of float32 `features` [B,channels,length], `regions` [B,count,4]
    and output `pooled` [B,channels,count], and its ModelSpec, a variant of `like`."""
    kind = HALF.get(precision, TensorProto.FLOAT)
    nodes = [
        helper.make_node("Cast", ["features"], ["narrow"], to=kind),
        helper.make_node(NAME, ["narrow", "regions"], ["found"], domain=DOMAIN, **ONNX_ATTRIBUTES),
        helper.make_node("Cast", ["found"], ["pooled"], to=TensorProto.FLOAT),
    ]
    shapes = {"features": (channels, length), "regions": (count, 4), "pooled": (channels, count)}
    values = {k: helper.make_tensor_value_info(k, TensorProto.FLOAT, ["batch", *v]) for k, v in shapes.items()}
    graph = helper.make_graph(nodes, "pooling", [values["features"], values["regions"]], [values["pooled"]])
    opset = BFLOAT16_OPSET if precision == "bf16" else OPSET
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    attach_pooling_function(model, length)
    for entry in (e for function in model.functions for e in function.opset_import if not e.domain):
        entry.version = opset
    tensors = {name: TensorSpec(name, ("batch", *shape), "float32") for name, shape in shapes.items()}
    inputs, outputs = (tensors["features"], tensors["regions"]), (tensors["pooled"],)
    return model, replace(like, family="part", inputs=inputs, outputs=outputs)


def progress(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr)
