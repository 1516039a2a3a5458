"""Everything that only a GPU can show, in one run and one report: `make gpu-check`.

Engines of the full-size network in every precision, the pooling plugin against its definition, every engine against
PyTorch, and the speed measurement of the paper's Table 3. A step that fails is written into the report and the others
go on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal, Protocol

import onnx
import torch
from onnx import TensorProto, helper

from export.boundary_pooling.function import DOMAIN, NAME, OPSET, attach
from export.drift import drift_on_windows
from export.engine_table import typed_file
from export.full_size import full_size
from export.precision import BFLOAT16_OPSET, HALF, Precision
from export.to_trt import Pooling, TrtOptions, export_trt
from export.trt.build import BuildOptions, build_plan, without_plugin
from export.trt.library import Library, find_library, local_gpu
from runtime.atomic import atomic_path
from runtime.benchmark import format_report, run_benchmark
from runtime.console import told
from runtime.engines import Engine, open_engine
from runtime.engines.build import EngineBuild
from runtime.engines.cuda import DeviceFacts
from runtime.engines.sidecar import write_sidecar
from runtime.errors import AfsdError, ExportError, MissingDependencyError
from runtime.spec import ModelSpec, TensorSpec
from training.inference import open_torch_engine
from training.models.boundary_pooling import ONNX_ATTRIBUTES, boundary_max_pooling


@dataclass(frozen=True)
class Case:
    """One engine that is built, compared and timed."""

    precision: Precision
    pooling: Pooling
    batch: tuple[int, int, int] = (1, 1, 1)

    @property
    def name(self) -> str:
        """As in "fp16 plugin" or "fp16 plugin ×8"."""
        best = self.batch[1]
        return f"{self.precision} {self.pooling}" + (f" ×{best}" if best > 1 else "")


TABLE_3_CASES = (
    Case("fp32", "plugin"), Case("fp16", "plugin"), Case("bf16", "plugin"), Case("int8", "plugin"),
    Case("fp16", "function"),
)  # fmt: skip
"""Engines for batch 1, the paper's measure; the function beside the plugin in one precision."""

LARGE = (1, 8, 16)
"""Batch profile of the engines that are timed at several batch sizes."""

LARGE_CASES = (Case("fp16", "plugin", LARGE), Case("int8", "plugin", LARGE))

BOTH: tuple[Pooling, ...] = ("plugin", "function")

WARMUP, RUNS = 20, 100

POOLINGS = ((512, 256, 126), (1024, 64, 64), (1024, 32, 32), (1024, 2, 2))
"""(C, T, N) of the frame level and of three pyramid levels of the full-size network."""


class Workbench(Protocol):
    """What builds engines and opens them; the check itself knows no library."""

    title: str
    """GPU and library."""

    def network(self, typed: Path, case: Case, target: Path) -> str:
        """Build an engine of a typed ONNX file; one line about it."""
        ...

    def pooling(self, graph: onnx.ModelProto, spec: ModelSpec, case: Case, target: Path) -> None:
        """Build an engine of one pooling alone."""
        ...

    def open(self, target: Path, *, cuda_graph: bool) -> Engine:
        """Load what was built."""
        ...


def needed_gpu() -> DeviceFacts:
    """The first GPU of this machine, or an ExportError that says why there is none."""
    try:
        return local_gpu()
    except AfsdError as error:
        reason = str(error).partition(";")[0]
        raise ExportError(f"gpu-check needs a machine with an NVIDIA GPU and its driver: {reason}") from None


class TensorRtBench:
    """Full TensorRT on the first GPU of this machine."""

    def __init__(self) -> None:
        """Find both.

        Raises:
            ExportError: one of them is missing; says which.
        """
        self.gpu = needed_gpu()
        try:
            self.library: Library = find_library("tensorrt", (), gpu=True)
        except MissingDependencyError as error:
            raise ExportError(f"gpu-check needs TensorRT: {error}") from None
        self.title = f"{self.gpu.name} (compute capability {self.gpu.architecture}), {self.library.title}"

    def network(self, typed: Path, case: Case, target: Path) -> str:
        """See `Workbench`; `export_trt` compares the engine before it gives it its name."""
        build = BuildOptions(batch=case.batch, timing_cache=target.with_name("timing.cache"))
        export_trt(typed, target, options=TrtOptions(case.precision, "tensorrt", case.pooling, build), say=_progress)
        report = json.loads(target.with_name(f"{target.name}.report.json").read_text(encoding="utf-8"))
        found = report["convolutions"]
        asked = found["by_precision"].get(case.precision, 0)
        return f"{report['seconds']:.0f} s, {report['bytes'] / 1e6:.0f} MB, {asked} of {found['total']} convolutions"

    def pooling(self, graph: onnx.ModelProto, spec: ModelSpec, case: Case, target: Path) -> None:
        """See `Workbench`."""
        plugin = case.pooling == "plugin"
        plan = build_plan(
            graph if plugin else without_plugin(graph),
            spec,
            self.library,
            BuildOptions(batch=case.batch),
            target.with_name(f"{target.name}.log"),
            _progress,
            self.gpu.architecture if plugin else "",
        )
        target.write_bytes(plan.data)
        pooling: Literal["plugin", "function"] = "plugin" if plugin else "function"
        targets = (self.gpu.architecture,)
        made = EngineBuild("tensorrt", self.library.version, targets, case.precision, case.batch, pooling)
        write_sidecar(target, spec, [target], made)

    def open(self, target: Path, *, cuda_graph: bool) -> Engine:
        """See `Workbench`."""
        return open_engine(target, cuda_graph=cuda_graph)


@dataclass
class _Check:
    """One run: what it has built so far, and the report."""

    bench: Workbench
    out: Path
    checkpoint: Path
    lines: list[str]
    failures: int = 0

    def step(self, title: str, work: Callable[[], list[str]]) -> None:
        """Do a step and write what it found, or why it failed."""
        _progress(title)
        self.lines += ["", f"## {title}", ""]
        try:
            self.lines += work()
        except Exception as error:  # whatever a GPU's libraries raise: the other steps still count
            self.failures += 1
            self.lines.append(f"**FAILED**: {' '.join(str(error).split()) or type(error).__name__}")

    def target(self, case: Case) -> Path:
        return self.out / f"{case.name.replace(' ', '.').replace('×', 'x')}.engine"

    def built(self) -> list[Case]:
        return [case for case in (*TABLE_3_CASES, *LARGE_CASES) if self.target(case).is_file()]


def gpu_check(bench: Workbench, checkpoint: Path, out: Path, report: Path, *, runs: int = RUNS) -> Path:
    """Run every step and write the report.

    Args:
        bench: builds and opens engines.
        checkpoint: of the network, with its .onnx file beside it.
        out: folder of everything that is made.
        report: Markdown file.
        runs: counted passes of each timing.

    Raises:
        ExportError: at least one step failed; the report is written all the same.
    """
    out.mkdir(parents=True, exist_ok=True)
    check = _Check(bench, out, checkpoint, [f"# GPU check: {bench.title}", "", f"`make gpu-check`, {date.today()}."])
    check.step("Engines", lambda: _engines(check))
    check.step("Pooling: plugin and function against PyTorch", lambda: _poolings(check))
    check.step("Engines against PyTorch", lambda: _parity(check))
    check.step("Table 3: batch 1, network alone", lambda: _table_3(check, runs))
    check.step("Larger batches", lambda: _batches(check, runs))
    with atomic_path(report) as unfinished:
        unfinished.write_text("\n".join(check.lines) + "\n", encoding="utf-8")
    if check.failures:
        raise ExportError(f"{check.failures} of 5 steps failed; {report} says which and why")
    return report


def _engines(check: _Check) -> list[str]:
    """Every engine of the network; one that fails does not keep the others from being built."""
    source, lines, failed = check.checkpoint.with_suffix(".onnx"), [], []
    for case in (*TABLE_3_CASES, *LARGE_CASES):
        _progress(f"building {case.name}")
        try:
            typed = typed_file(source, case.precision, check.out)
            lines.append(f"- {case.name}: {check.bench.network(typed, case, check.target(case))}")
        except AfsdError as error:
            failed.append(case.name)
            lines.append(f"- {case.name}: **FAILED**: {error}")
    if failed:
        check.failures += 1
    return lines


def _poolings(check: _Check) -> list[str]:
    """Each pooling of the network alone, by plugin and by function, to the last bit."""
    lines = []
    for precision in ("fp32", "fp16", "bf16"):
        for channels, length, count in POOLINGS:
            graph, spec = pooling_network(precision, channels, length, count, open_engine(_onnx(check)).spec)
            found = [_pooled_wrong(check, graph, spec, Case(precision, way)) for way in BOTH]
            if any(found):
                check.failures += 1
            lines.append(
                f"- {precision}, C = {channels}, T = {length}, N = {count}: plugin {found[0]} and function {found[1]} "
                f"of {2 * channels * count} outputs wrong"
            )
    return lines


def _pooled_wrong(check: _Check, graph: onnx.ModelProto, spec: ModelSpec, case: Case) -> int:
    """Outputs that differ from PyTorch's, which the tests hold to the definition."""
    case = replace(case, batch=(2, 2, 2))
    target = check.out / "pooling.engine"
    check.bench.pooling(graph, spec, case, target)
    engine = check.bench.open(target, cuda_graph=False)
    try:
        sizes = [tuple(int(size) for size in tensor.shape[1:]) for tensor in spec.inputs]
        generator = torch.Generator().manual_seed(sizes[0][1])
        features = torch.randn(2, *sizes[0], generator=generator).mul(4).round()  # exact in every type, with ties
        regions = torch.randn(2, *sizes[1], generator=generator) * sizes[0][1]
        found = engine.infer({"features": features.numpy(), "regions": regions.numpy()})["pooled"]
        return int((found != boundary_max_pooling(features, regions).numpy()).sum())
    finally:
        engine.close()


def _parity(check: _Check) -> list[str]:
    reference = open_torch_engine(check.checkpoint)
    lines = []
    for case in check.built():
        if case.batch != (1, 1, 1):
            continue
        engine = check.bench.open(check.target(case), cuda_graph=False)
        try:
            report = drift_on_windows(reference, engine, largest=1)
        finally:
            engine.close()
        lines += ["```", f"{case.name}: {report.table()}", "```"]
    return lines


def _table_3(check: _Check, runs: int) -> list[str]:
    cases = [case for case in check.built() if case.batch == (1, 1, 1)]
    engines = [
        (f"{case.name}{' graph' if graph else ''}", check.bench.open(check.target(case), cuda_graph=graph))
        for case in cases
        for graph in (False, True)
    ]
    return _timed(engines, (1,), runs)


def _batches(check: _Check, runs: int) -> list[str]:
    """The engines of larger batches at every power of two of their range."""
    engines = [
        (case.name, check.bench.open(check.target(case), cuda_graph=True))
        for case in check.built()
        if case.batch != (1, 1, 1)
    ]
    sizes = tuple(2**k for k in range(LARGE[2].bit_length()) if LARGE[0] <= 2**k <= LARGE[2])
    return _timed(engines, sizes, runs)


def _timed(engines: list[tuple[str, Engine]], batches: tuple[int, ...], runs: int) -> list[str]:
    try:
        report = run_benchmark(engines, batches=batches, warmup=min(WARMUP, runs), runs=runs, say=_progress)
    finally:
        for _, engine in engines:
            engine.close()
    return ["```", format_report(report), "```"]


def pooling_network(
    precision: Precision, channels: int, length: int, count: int, like: ModelSpec
) -> tuple[onnx.ModelProto, ModelSpec]:
    """One pooling between casts, as a network with float32 inputs `features` and `regions` and the output `pooled`."""
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
    attach(model, length)
    for entry in (e for function in model.functions for e in function.opset_import if not e.domain):
        entry.version = opset
    tensors = {name: TensorSpec(name, ("batch", *shape), "float32") for name, shape in shapes.items()}
    return model, replace(like, inputs=(tensors["features"], tensors["regions"]), outputs=(tensors["pooled"],))


def _onnx(check: _Check) -> Path:
    return check.checkpoint.with_suffix(".onnx")


def _progress(text: str) -> None:
    print(text, file=sys.stderr)


def _run(out: Path, docs: Path) -> Path:
    bench = TensorRtBench()
    name = "".join(c if c.isalnum() else "_" for c in bench.gpu.name.lower())
    checkpoint = full_size(
        "thumos14", out, openvino=False
    )  # untrained: speed and parity do not depend on what it learnt
    return gpu_check(bench, checkpoint, out, docs / f"gpu_{name}.md")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"), help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the report (default: %(default)s)")
    parser.add_argument("--gpu", action="store_true", help="only say whether there is a GPU")
    given = parser.parse_args()
    sys.exit(told(needed_gpu if given.gpu else lambda: _run(given.out, given.docs)))
