"""The GPU check without a GPU: every step and the whole report, on a workbench that runs everything on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

import export.studies.gpu_check
import export.studies.gpu_streaming
from export.boundary_pooling.launch import choose_launch
from export.graph.export_input import open_cpu_engine
from export.graph.files import load_graph, save_graph
from export.streaming.graph import to_streaming
from export.studies.gpu_bench import Case, TensorRtBench, make_pooling_network
from export.studies.gpu_check import POOLINGS, gpu_check
from export.studies.gpu_streaming import STREAM_CASES
from runtime.engines import Engine, open_engine
from runtime.engines.tensorrt.cuda import DeviceFacts
from runtime.errors import EngineError, ExportError
from runtime.spec.model import ModelSpec
from tests.conftest import Exported
from tests.tiny import tiny_spec


class PoolingEngine:
    """One pooling in ONNX Runtime; `wrong` outputs are spoilt."""

    library, device, precision = "onnxruntime", "cpu", "fp32"

    def __init__(self, graph: onnx.ModelProto, spec: ModelSpec, wrong: int) -> None:
        for node in graph.graph.node:  # ONNX Runtime's CPU has no bfloat16; the numbers are exact in float32
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.i == onnx.TensorProto.BFLOAT16:
                    attribute.i = onnx.TensorProto.FLOAT
        self.spec, self.wrong = spec, wrong
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        (pooled,) = self._session.run(None, dict(inputs))
        pooled.reshape(-1)[: self.wrong] += 1
        return {"pooled": pooled}

    def close(self) -> None:
        pass


class CpuBench:
    """Builds nothing: a typed graph runs in ONNX Runtime, rounded as its types round."""

    title = "a CPU"

    def __init__(self, *, without: str = "", wrong: int = 0, forgetful: str = "") -> None:
        self.without, self.wrong, self.forgetful = without, wrong, forgetful
        self.streams: dict[Path, Path] = {}
        self.engines: dict[Path, Engine] = {}
        self.graphs: list[bool] = []

    def network(self, typed: Path, case: Case, target: Path) -> str:
        if case.precision == self.without:
            raise ExportError("the builder refused")
        target.write_bytes(b"plan")
        if case.stream:
            graph = to_streaming(load_graph(typed), str(typed))
            if case.precision == self.forgetful:
                forget_states(graph)
            self.streams[target] = target.with_suffix(".stream.onnx")
            save_graph(graph, self.streams[target])
            return "built"
        self.engines[target] = open_cpu_engine(load_graph(typed), typed)
        return "built"

    def pooling(self, graph: onnx.ModelProto, spec: ModelSpec, case: Case, target: Path) -> None:
        wrong = self.wrong if case.pooling == "plugin" else 0
        self.engines[target] = PoolingEngine(graph, spec, wrong)

    def open(self, target: Path, *, cuda_graph: bool) -> Engine:
        self.graphs.append(cuda_graph)
        if target in self.streams:
            return open_engine(self.streams[target])
        engine = self.engines[target]
        return engine if isinstance(engine, PoolingEngine) else _Kept(engine)


def forget_states(graph: onnx.ModelProto) -> None:
    """Make the step forget what its layers saw of the chunk before: it gives out zeros as their states."""
    kept = [value.name for value in graph.graph.output if value.name.startswith("edge/next_state_")]
    for node in graph.graph.node:
        node.output[:] = [f"{name}_forgotten" if name in kept else name for name in node.output]
    zeros = (onnx.helper.make_node("Sub", [f"{n}_forgotten"] * 2, [n], name=f"{n}_zero") for n in kept)
    graph.graph.node.extend(zeros)


class _Kept:
    """An engine that several steps open; closing it does nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.spec, self.library, self.device = engine.spec, engine.library, engine.device
        self.precision = engine.precision

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        return self._engine.infer(inputs)

    def close(self) -> None:
        pass


SMALL_POOLINGS = ((64, 32, 16), POOLINGS[-1])
"""Poolings of which a processor computes the function in no time."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps the typed files after the first check."""
    return tmp_path_factory.mktemp("gpu-check")


@pytest.mark.slow
def test_the_whole_check(exported: Exported, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.studies.gpu_check, "LARGE", (1, 2, 2))
    monkeypatch.setattr(export.studies.gpu_check, "POOLINGS", SMALL_POOLINGS)
    for module in (export.studies.gpu_check, export.studies.gpu_streaming):
        monkeypatch.setattr(module, "STREAM_CASES", STREAM_CASES[-1:])
    bench = CpuBench()
    text = gpu_check(bench, exported.checkpoint, made, made / "report.md", runs=1).read_text()
    assert text.startswith("# GPU check: a CPU\n")
    assert "FAILED" not in text
    streams = ("int8 plugin stream",)  # those of other types, too, in the slow test of failures
    names = ("fp32 plugin", "fp16 plugin", "bf16 plugin", "int8 plugin", "fp16 function", "int8 plugin ×8")
    for name in (*names, *streams):
        assert f"- {name}: built" in text
    for name in streams:
        assert f"- {name} against ONNX Runtime in float32: drift of features in chunks of 128 " in text
        assert text.count(f"\n{name} ") == 2  # in the table of its parts, and from a file to detections
    assert "frames/s, chunks of 16" in text
    for channels, length, count in SMALL_POOLINGS:
        for way in ("plugin", "function"):
            assert f"- bf16, C = {channels}, T = {length}, N = {count}, {way}: 0 of" in text
    assert text.count(": drift of ") == 5 + 2
    assert "fp16 plugin graph" in text
    assert "AFSD    V100" in text
    assert True in bench.graphs


@pytest.mark.slow
def test_a_failure_is_in_the_report_and_stops_nothing(
    exported: Exported, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.studies.gpu_check, "LARGE_CASES", ())
    for engine in made.glob("*.engine"):
        engine.unlink()
    with pytest.raises(
        ExportError, match=r"failed: Engines; Larger batches.*; Streaming: .*; Pooling: .*; .*report.md says why"
    ):
        gpu_check(
            CpuBench(without="int8", wrong=3, forgetful="fp32"), exported.checkpoint, made, made / "report.md", runs=1
        )
    text = (made / "report.md").read_text()
    assert "- int8 plugin: **FAILED**: the builder refused" in text
    assert "N = 2, plugin: **FAILED**: 3 of" in text
    assert "N = 2, function: 0 of" in text
    assert text.count(": drift of ") == 4 + 2 + 1
    assert "- fp32 plugin stream: **FAILED**: drift of features in chunks of 128 " in text
    assert "AFSD    V100" in text


def test_the_poolings_of_the_check_fit_the_kernel() -> None:
    for channels, length, _ in POOLINGS:
        choose_launch(channels, length, "fp32")


def test_a_pooling_network_carries_its_function() -> None:
    graph, spec = make_pooling_network("bf16", 4, 8, 3, tiny_spec())
    onnx.checker.check_model(graph, full_check=True)
    assert [tensor.shape for tensor in (*spec.inputs, *spec.outputs)] == [
        ("batch", 4, 8), ("batch", 3, 4), ("batch", 4, 3),
    ]  # fmt: skip


def test_without_a_gpu_it_stops_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_gpu() -> None:
        raise EngineError("the driver finds no GPU; check nvidia-smi")

    monkeypatch.setattr("export.studies.gpu_bench.local_gpu", no_gpu)
    with pytest.raises(ExportError) as told:
        TensorRtBench()
    assert str(told.value) == (
        "gpu-check needs a machine with an NVIDIA GPU and its driver: the driver finds no GPU"
    )  # fmt: skip


def test_without_tensorrt_it_stops_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.studies.gpu_bench.local_gpu", lambda: DeviceFacts(0, "NVIDIA Some", "8.9"))
    monkeypatch.setattr("export.trt.library._try_import", lambda name: None)
    with pytest.raises(ExportError, match=r"gpu-check needs TensorRT: .*pip install '\.\[tensorrt\]'"):
        TensorRtBench()
