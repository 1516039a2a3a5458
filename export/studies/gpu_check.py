"""Everything that only a GPU can show, in one run and one report: `make gpu-check`.

Engines of the full-size network in every precision, the pooling plugin against its definition, every engine against
PyTorch, and the speed measurement of the paper's Table 3. A step that fails is written into the report and the others
go on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import onnx
import torch

from export.comparison.drift import drift_on_windows
from export.graph.trace import seeded_inputs
from export.studies.engine_table import typed_file
from export.studies.full_size import full_size
from export.studies.gpu_bench import Case, TensorRtBench, Workbench, needed_gpu, pooling_network, progress
from export.to_trt import Pooling
from runtime.benchmark.speed import format_report, run_benchmark
from runtime.common.console import run_script
from runtime.common.files import atomic_path
from runtime.engines import Engine, open_engine
from runtime.errors import AfsdError, ExportError
from runtime.spec.model import ModelSpec
from training.afsd.boundary_pooling import boundary_max_pooling
from training.deployment.views import open_torch_engine
from training.synthetic.videos import make_synthetic

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


@dataclass
class _Check:
    """One run: its tools, and the report as it grows."""

    bench: Workbench
    out: Path
    checkpoint: Path
    runs: int
    report: Path
    lines: list[str]
    step_title: str = ""
    failed: list[str] = field(default_factory=list)
    """Titles of the steps in which something failed."""

    def step(self, title: str, work: Callable[[_Check], Iterator[str]]) -> None:
        """Do a step and write what it finds; what it found before a failure stays."""
        progress(title)
        self.step_title = title
        self.lines += ["", f"## {title}", ""]
        try:
            for line in work(self):
                self.lines.append(line)
        except Exception as error:  # whatever a GPU's libraries raise: the other steps still count
            self.lines.append(self.failure("the step", error))
        with atomic_path(self.report) as unfinished:  # after each step: a GPU's fault may end the process in the next
            unfinished.write_text("\n".join(self.lines) + "\n", encoding="utf-8")

    def failure(self, what: str, error: Exception | str) -> str:
        """Note that the present step failed; its line for the report."""
        if self.step_title not in self.failed:
            self.failed.append(self.step_title)
        return f"- {what}: **FAILED**: {' '.join(str(error).split()) or type(error).__name__}"

    def target(self, case: Case) -> Path:
        return self.out / f"{case.name.replace(' ', '.').replace('×', 'x')}.engine"

    def opened(self, cases: Sequence[Case], graphs: Sequence[bool]) -> tuple[list[tuple[str, Engine]], list[str]]:
        """Engines of the cases that were built, each without and with CUDA graph as asked; and what would not run."""
        engines, lines = [], []
        for case in cases:
            for graph in graphs:
                name = f"{case.name} graph" if graph else case.name
                if not self.target(case).is_file():
                    continue
                try:
                    engine = self.bench.open(self.target(case), cuda_graph=graph)
                except AfsdError as error:
                    lines.append(self.failure(name, error))
                    continue
                try:
                    for _ in range(2):  # a graph is captured in the second run
                        engine.infer(seeded_inputs(engine.spec, 0, case.batch[0]))
                    engines.append((name, engine))
                except AfsdError as error:
                    engine.close()
                    lines.append(self.failure(name, error))
        return engines, lines


def gpu_check(
    bench: Workbench, checkpoint: Path, out: Path, report: Path, *, runs: int = RUNS, tests: Path | None = None
) -> Path:
    """Run every step and write the report.

    Args:
        bench: builds and opens engines.
        checkpoint: of the network, with its .onnx file beside it.
        out: folder of everything that is made.
        report: Markdown file.
        runs: counted passes of each timing.
        tests: folder of the tests that need a GPU; None leaves them out.

    Raises:
        ExportError: at least one step failed; the report is written all the same.
    """
    out.mkdir(parents=True, exist_ok=True)
    first = [f"# GPU check: {bench.title}", "", f"`make gpu-check`, {date.today()}."]
    check = _Check(bench, out, checkpoint, runs, report, first)
    check.step("Engines", _engines)
    check.step("Engines against PyTorch", _parity)
    check.step("Table 3: batch 1, network alone", _table_3)
    check.step("Larger batches, and from a video file to detections", _batches)
    check.step("Pooling: plugin and function against PyTorch", _poolings)
    if tests is not None:
        check.step("Tests that need a GPU", lambda _: _tests(check, tests))
    if check.failed:
        raise ExportError(f"failed: {'; '.join(check.failed)}; {report} says why")
    return report


def _engines(check: _Check) -> Iterator[str]:
    """Every engine of the network; one that fails does not keep the others from being built."""
    source = check.checkpoint.with_suffix(".onnx")
    for case in (*TABLE_3_CASES, *LARGE_CASES):
        progress(f"building {case.name}")
        check.target(case).unlink(missing_ok=True)  # of an earlier run
        try:
            typed = typed_file(source, case.precision, check.out)
            yield f"- {case.name}: {check.bench.network(typed, case, check.target(case))}"
        except AfsdError as error:
            yield check.failure(case.name, error)


def _poolings(check: _Check) -> Iterator[str]:
    """Each pooling of the network alone, by plugin and by function, to the last bit."""
    like = open_engine(check.checkpoint.with_suffix(".onnx")).spec
    for precision in ("fp32", "fp16", "bf16"):
        for channels, length, count in POOLINGS:
            graph, spec = pooling_network(precision, channels, length, count, like)
            for way in BOTH:
                what = f"{precision}, C = {channels}, T = {length}, N = {count}, {way}"
                try:
                    wrong = _pooled_wrong(check, graph, spec, Case(precision, way, (2, 2, 2)))
                except AfsdError as error:
                    yield check.failure(what, error)
                    continue
                found = f"{wrong} of {2 * channels * count} outputs wrong"
                yield check.failure(what, found) if wrong else f"- {what}: {found}"


def _pooled_wrong(check: _Check, graph: onnx.ModelProto, spec: ModelSpec, case: Case) -> int:
    """Outputs that differ from PyTorch's, which the tests hold to the definition."""
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


def _parity(check: _Check) -> Iterator[str]:
    """One engine at a time; one that fails does not keep the others from being compared."""
    reference = open_torch_engine(check.checkpoint)
    for case in TABLE_3_CASES:
        engines, failures = check.opened((case,), (False,))
        yield from failures
        for name, engine in engines:
            try:
                yield from ("```", f"{name}: {drift_on_windows(reference, engine, largest=1).table()}", "```")
            except AfsdError as error:
                yield check.failure(name, error)
            finally:
                engine.close()


def _table_3(check: _Check) -> Iterator[str]:
    engines, failures = check.opened(TABLE_3_CASES, (False, True))
    yield from failures
    yield from _timed(check, engines, (1,))


def _batches(check: _Check) -> Iterator[str]:
    """The engines of larger batches at every power of two of their range."""
    sizes = tuple(2**k for k in range(LARGE[2].bit_length()) if LARGE[0] <= 2**k <= LARGE[2])
    annotations = make_synthetic(check.out / "video", videos=1, seed=1, subset="test")
    video = next(iter(sorted((annotations.parent / "videos").iterdir())))
    engines, failures = check.opened(LARGE_CASES, (True,))
    yield from failures
    yield from _timed(check, engines, sizes, str(video))


def _timed(
    check: _Check, engines: list[tuple[str, Engine]], batches: tuple[int, ...], video: str | None = None
) -> Iterator[str]:
    if not engines:
        yield check.failure("timing", "no engine runs")
        return
    try:
        warmup = min(WARMUP, check.runs)
        report = run_benchmark(engines, batches=batches, warmup=warmup, runs=check.runs, video=video, say=progress)
    finally:
        for _, engine in engines:
            engine.close()
    yield from ("```", format_report(report), "```")


def _tests(check: _Check, folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode:
        yield check.failure("pytest -m gpu", lines[-1] if lines else f"exit status {done.returncode}")
    yield from ("```", *lines[-20:], "```")


def _run(out: Path, docs: Path) -> Path:
    """The check of the full-size network, untrained: speed and parity do not depend on what it has learnt."""
    bench = TensorRtBench()
    name = "".join(c if c.isalnum() else "_" for c in bench.gpu.name.lower())
    checkpoint = full_size("thumos14", out, openvino=False)
    tests = Path(__file__).resolve().parents[2] / "tests"
    return gpu_check(bench, checkpoint, out, docs / f"gpu_{name}.md", tests=tests if tests.is_dir() else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"), help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the report (default: %(default)s)")
    parser.add_argument("--gpu", action="store_true", help="only say whether there is a GPU")
    given = parser.parse_args()
    sys.exit(run_script(needed_gpu if given.gpu else lambda: _run(given.out, given.docs)))
