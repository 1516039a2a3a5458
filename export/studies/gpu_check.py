"""Check everything that needs a GPU in one run and write one report: `make gpu-check`.

The check builds engines of the full-size network in every precision, compares the pooling plugin with its definition
and every engine with PyTorch, and measures speed as in the paper's Table 3. Streaming engines are compared with ONNX
Runtime. A failed part is written into the report and the other parts still run.
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

from export.comparison.drift import measure_drift_on_windows
from export.graph.trace import seeded_inputs
from export.streaming.clip_view import as_clip_engine
from export.studies.engine_table import write_typed_file
from export.studies.full_size import export_full_size
from export.studies.gpu_bench import Case, TensorRtBench, Workbench, make_pooling_network, progress, require_gpu
from export.studies.gpu_streaming import (
    CHUNKS,
    STREAM_CASES,
    compare_streams,
    open_stream,
    time_stream,
    write_reference,
)
from export.to_trt import Pooling
from runtime.benchmark.speed import format_report, run_benchmark
from runtime.common.console import run_script
from runtime.common.files import atomic_path
from runtime.common.tables import align
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
"""Engines for batch 1, as in the paper's Table 3; in one precision also with the function in place of the plugin."""

LARGE = (1, 8, 16)
"""Smallest, optimal and largest batch of the engines that are timed at several batch sizes."""

LARGE_CASES = (Case("fp16", "plugin", LARGE), Case("int8", "plugin", LARGE))

BOTH: tuple[Pooling, ...] = ("plugin", "function")

WARMUP, RUNS = 20, 100

POOLINGS = ((512, 256, 126), (1024, 64, 64), (1024, 32, 32), (1024, 2, 2))
"""(C, T, N) of the frame level and of three pyramid levels of the full-size network."""


@dataclass
class _Check:
    """Holds the tools of one run and the lines of its report so far."""

    bench: Workbench
    out: Path
    checkpoint: Path
    runs: int
    report: Path
    lines: list[str]
    part_title: str = ""
    failed: list[str] = field(default_factory=list)
    """Titles of the parts in which something failed."""

    def run_part(self, title: str, work: Callable[[_Check], Iterator[str]]) -> None:
        """Run one part of the check and write its lines to the report; lines from before a failure are kept."""
        progress(title)
        self.part_title = title
        self.lines += ["", f"## {title}", ""]
        try:
            for line in work(self):
                self.lines.append(line)
        except Exception as error:  # a GPU's libraries raise errors of any type; the other parts still run
            self.lines.append(self.failure("this part", error))
        with atomic_path(self.report) as unfinished:  # after each part: a GPU fault may end the process in the next
            unfinished.write_text("\n".join(self.lines) + "\n", encoding="utf-8")

    def failure(self, what: str, error: Exception | str) -> str:
        """Record that the current part failed and return the failure's line for the report."""
        if self.part_title not in self.failed:
            self.failed.append(self.part_title)
        return f"- {what}: **FAILED**: {' '.join(str(error).split()) or type(error).__name__}"

    def target(self, case: Case) -> Path:
        return self.out / f"{case.name.replace(' ', '.').replace('×', 'x')}.engine"

    def open_engines(self, cases: Sequence[Case], graphs: Sequence[bool]) -> tuple[list[tuple[str, Engine]], list[str]]:
        """Open the engines of the cases that were built, with or without CUDA graph, and run each twice.

        Returns:
            (name, engine) of those that run, and a line for the report for each that does not.
        """
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
    """Run every part of the check and write the report.

    Args:
        bench: builds and opens engines.
        checkpoint: checkpoint of the network, with its .onnx file beside it.
        out: folder of engines, videos and logs.
        report: Markdown file to write.
        runs: number of counted passes of each timing.
        tests: folder of the tests that need a GPU; None: no tests are run.

    Raises:
        ExportError: at least one part failed; the report is written nevertheless.
    """
    out.mkdir(parents=True, exist_ok=True)
    first = [f"# GPU check: {bench.title}", "", f"`make gpu-check`, {date.today()}."]
    check = _Check(bench, out, checkpoint, runs, report, first)
    check.run_part("Engines", _build_engines)
    check.run_part("Engines against PyTorch", _compare_engines)
    check.run_part("Table 3: batch 1, network alone", _time_table_3)
    check.run_part("Larger batches, and from a video file to detections", _time_batches)
    check.run_part("Streaming: each frame once", _check_streams)
    check.run_part("Pooling: plugin and function against PyTorch", _compare_poolings)
    if tests is not None:
        check.run_part("Tests that need a GPU", lambda _: _run_tests(check, tests))
    if check.failed:
        raise ExportError(f"failed: {'; '.join(check.failed)}; {report} says why")
    return report


def _build_engines(check: _Check) -> Iterator[str]:
    """Build every engine of the network; if one fails, the others are still built."""
    network = check.checkpoint.with_suffix(".onnx")
    for case in (*TABLE_3_CASES, *LARGE_CASES, *STREAM_CASES):
        progress(f"building {case.name}")
        check.target(case).unlink(missing_ok=True)  # an engine of an earlier run
        try:
            typed = write_typed_file(network, case.precision, check.out)
            yield f"- {case.name}: {check.bench.network(typed, case, check.target(case))}"
        except AfsdError as error:
            yield check.failure(case.name, error)


def _compare_poolings(check: _Check) -> Iterator[str]:
    """Run each pooling of the network alone, with plugin and with function, and compare every bit with PyTorch."""
    like = open_engine(check.checkpoint.with_suffix(".onnx")).spec
    for precision in ("fp32", "fp16", "bf16"):
        for channels, length, count in POOLINGS:
            graph, spec = make_pooling_network(precision, channels, length, count, like)
            for way in BOTH:
                what = f"{precision}, C = {channels}, T = {length}, N = {count}, {way}"
                try:
                    wrong = _count_wrong(check, graph, spec, Case(precision, way, (2, 2, 2)))
                except AfsdError as error:
                    yield check.failure(what, error)
                    continue
                found = f"{wrong} of {2 * channels * count} outputs wrong"
                yield check.failure(what, found) if wrong else f"- {what}: {found}"


def _count_wrong(check: _Check, graph: onnx.ModelProto, spec: ModelSpec, case: Case) -> int:
    """Count the outputs of a pooling that differ from PyTorch's, which the tests compare with the definition."""
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


def _compare_engines(check: _Check) -> Iterator[str]:
    """Compare one engine at a time with PyTorch; if one fails, the others are still compared."""
    reference = open_torch_engine(check.checkpoint)
    for case in TABLE_3_CASES:
        engines, failures = check.open_engines((case,), (False,))
        yield from failures
        for name, engine in engines:
            try:
                yield from ("```", f"{name}: {measure_drift_on_windows(reference, engine, largest=1).table()}", "```")
            except AfsdError as error:
                yield check.failure(name, error)
            finally:
                engine.close()


def _time_table_3(check: _Check) -> Iterator[str]:
    engines, failures = check.open_engines(TABLE_3_CASES, (False, True))
    yield from failures
    yield from _time_engines(check, engines, (1,))


def _time_batches(check: _Check) -> Iterator[str]:
    """Time the engines for larger batches at every power of two in their range."""
    sizes = tuple(2**k for k in range(LARGE[2].bit_length()) if LARGE[0] <= 2**k <= LARGE[2])
    engines, failures = check.open_engines(LARGE_CASES, (True,))
    yield from failures
    yield from _time_engines(check, engines, sizes, _make_video(check))


def _make_video(check: _Check) -> str:
    """Return the path of a synthetic video; made once."""
    folder = check.out / "video" / "videos"
    if not folder.is_dir():
        make_synthetic(folder.parent, videos=1, seed=1, subset="test")
    return str(min(folder.iterdir()))


def _check_streams(check: _Check) -> Iterator[str]:
    """Compare each streaming engine with ONNX Runtime and PyTorch, and time its parts and whole videos.

    If one fails, the others are still compared and timed.
    """
    reference = open_stream(open_engine(write_reference(check.checkpoint, check.out)))
    network = open_torch_engine(check.checkpoint)
    warmup, video = min(WARMUP, check.runs), _make_video(check)
    batches = (1, STREAM_CASES[0].batch[2])
    header = [*(f"frames/s, chunks of {chunk}" for chunk in CHUNKS), *(f"ms of the head, batch {n}" for n in batches)]
    rows = [["engine", *header]]
    for case in STREAM_CASES:
        if not check.target(case).is_file():
            continue
        progress(case.name)
        try:
            engine = open_stream(check.bench.open(check.target(case), cuda_graph=False))
        except AfsdError as error:
            yield check.failure(case.name, error)
            continue
        try:
            yield f"- {case.name} against ONNX Runtime in float32: {compare_streams(reference, engine)}"
            drift = measure_drift_on_windows(network, as_clip_engine(engine), largest=1)
            yield from ("```", f"{case.name}: {drift.table()}", "```")
            rows.append([case.name, *time_stream(engine, warmup, check.runs, batches)])
            report = run_benchmark([(case.name, engine)], video=video, clips=False, say=progress)
            yield from ("```", format_report(report), "```")
        except AfsdError as error:
            yield check.failure(case.name, error)
        finally:
            engine.close()
    if len(rows) == 1:
        yield check.failure("timing", "no streaming engine runs")
        return
    yield from ("```", align(rows), "```")


def _time_engines(
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


def _run_tests(check: _Check, folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode:
        yield check.failure("pytest -m gpu", lines[-1] if lines else f"exit status {done.returncode}")
    yield from ("```", *lines[-20:], "```")


def _run(out: Path, docs: Path) -> Path:
    """Check the untrained full-size network; speed and parity do not depend on what a network has learnt."""
    bench = TensorRtBench()
    name = "".join(c if c.isalnum() else "_" for c in bench.gpu.name.lower())
    checkpoint = export_full_size("thumos14", out, openvino=False)
    tests = Path(__file__).resolve().parents[2] / "tests"
    return gpu_check(bench, checkpoint, out, docs / f"gpu_{name}.md", tests=tests if tests.is_dir() else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"), help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the report (default: %(default)s)")
    parser.add_argument("--gpu", action="store_true", help="only say whether there is a GPU")
    given = parser.parse_args()
    sys.exit(run_script(require_gpu if given.gpu else lambda: _run(given.out, given.docs)))
