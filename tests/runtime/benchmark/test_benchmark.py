"""The benchmark: what it counts, what it prints."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import pytest

from runtime.benchmark import speed
from runtime.benchmark.ceiling import CeilingMeter, matrix_ceiling
from runtime.benchmark.speed import TABLE_3, format_report, run_benchmark
from runtime.commands.benchmark import parse_engine
from runtime.errors import InputError
from runtime.two_streams import TwoStreamEngine
from tests.runtime.test_detector_on_features import LoudEngine
from tests.tiny import LENGTH, TinyEngine, tiny_spec
from tests.tiny_backbone import feature_model_spec


class Slow(TinyEngine):
    """The tiny engine, sleeping for a known time per window."""

    def __init__(self, seconds: float) -> None:
        super().__init__(tiny_spec(multiply_adds=1_000_000))
        self.seconds, self.calls = seconds, 0

    def infer(self, inputs: Any) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        self.calls += 1
        time.sleep(self.seconds * len(inputs["frames"]))
        return super().infer(inputs)


def test_figures_follow_from_the_median() -> None:
    slow, fast = Slow(0.06), Slow(0.03)
    report = run_benchmark([("slow", slow), ("fast", fast)], batches=(1, 2), warmup=1, runs=3)
    assert slow.calls == fast.calls == 2 * (1 + 3)
    assert [(m.name, m.batch) for m in report.measurements] == [("slow", 1), ("fast", 1), ("slow", 2), ("fast", 2)]
    for m in report.measurements:
        assert (m.warmup, m.runs, m.settled) == (1, 3, False)
        low, median, high = statistics.quantiles(m.passes_ms, n=4, method="inclusive")
        assert (m.low_ms, m.median_ms, m.high_ms) == pytest.approx((low, median, high))
        assert m.clip_fps == pytest.approx(LENGTH * m.batch / (m.median_ms / 1e3))
        assert m.windows_per_s == pytest.approx(m.batch / (m.median_ms / 1e3))
        assert m.gflops == pytest.approx(2e6 * m.batch / (m.median_ms / 1e3) / 1e9)
        assert m.ceiling_share == pytest.approx(m.gflops / report.ceilings["fp32"])
    assert [m.ratio for m in report.measurements][::2] == [1, 1]
    assert report.measurements[1].ratio > 1.2


class OnGpu(Slow):
    """An engine that says it runs on a GPU and takes inputs that are there already, copies saved."""

    device = "cuda:0 (Fake RTX)"

    def copy_to_device(self, inputs: Any) -> Any:
        return {**inputs, "held": True}

    def infer(self, inputs: Any) -> Any:
        time.sleep(0 if "held" in inputs else 0.03)
        return super().infer({name: value for name, value in inputs.items() if name != "held"})


@pytest.mark.thorough
def test_a_gpu_is_measured_with_and_without_copies_and_has_no_ceiling() -> None:
    report = run_benchmark([("gpu", OnGpu(0.02)), ("cpu", Slow(0.01))], batches=(1,), warmup=1, runs=3)
    gpu, cpu = report.measurements
    assert gpu.median_ms >= 50
    assert 20 <= gpu.resident_ms < gpu.median_ms - 15
    assert gpu.resident_clip_fps == pytest.approx(LENGTH / (gpu.resident_ms / 1e3))
    assert (cpu.resident_ms, cpu.resident_clip_fps, gpu.ceiling_share) == (0, 0, 0)
    assert cpu.ceiling_share > 0
    assert report.processor.endswith("; cuda:0 (Fake RTX)")
    assert f"{gpu.resident_clip_fps:,.0f}" in format_report(report)
    assert not run_benchmark([("gpu", OnGpu(0.0))], warmup=0, runs=1).ceilings


@pytest.mark.parametrize(
    ("text", "path", "options"),
    [
        ("a/m.onnx", "a/m.onnx", {}),
        ("m.xml@bf16", "m.xml", {"precision": "bf16"}),
        ("m.xml@throughput+bf16", "m.xml", {"mode": "throughput", "precision": "bf16"}),
        ("m.ckpt@compiled", "m.ckpt", {"compiled": True}),
        ("m.ckpt@compiled+bf16", "m.ckpt", {"compiled": True, "precision": "bf16"}),
        ("m.onnx@cpu", "m.onnx", {"device": "cpu"}),
        ("m.onnx@cuda", "m.onnx", {"device": "gpu:0"}),
        ("m.onnx@tensorrt:1", "m.onnx", {"device": "gpu:1", "provider": "tensorrt"}),
        ("m.engine@graph", "m.engine", {"cuda_graph": True}),
        ("m.engine@cuda:2+graph", "m.engine", {"device": "gpu:2", "cuda_graph": True}),
        ("me@home/m.onnx", "me@home/m.onnx", {}),
        ("me@home/m.onnx@cuda", "me@home/m.onnx", {"device": "gpu:0"}),
    ],
)
def test_how_an_engine_is_run(text: str, path: str, options: dict[str, Any]) -> None:
    assert parse_engine(text) == (path, options)


@pytest.mark.thorough
def test_two_streams_are_measured_together() -> None:
    rgb, flow = TinyEngine(tiny_spec(multiply_adds=1)), TinyEngine(tiny_spec("flow", multiply_adds=2))
    report = run_benchmark([("pair", TwoStreamEngine(rgb, flow)), ("rgb", rgb)], batches=(3,), warmup=0, runs=2)
    assert rgb.batches == [3] * 4
    assert flow.batches == [3] * 2
    pair, alone = report.measurements
    assert pair.gflops / pair.clip_fps == pytest.approx(3 * alone.gflops / alone.clip_fps)


def test_the_table_has_the_papers_beside_it() -> None:
    text = format_report(run_benchmark([("tiny", Slow(0.0))], warmup=0, runs=1))
    assert "tiny" in text
    for method, gpu, fps in TABLE_3:
        assert any(method in line and gpu in line and f"{fps:,}" in line for line in text.splitlines())


def test_a_warm_up_ends_when_the_engine_is_stable_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    settling, steady = TinyEngine(), TinyEngine()

    def told(run: Any) -> float:
        """Run a pass and return the seconds that the test gives it: the first four of `settling` take longer."""
        run()
        engine = run.func.__self__
        return 0.15 if engine is settling and len(engine.batches) <= 4 else 0.05

    monkeypatch.setattr(speed, "seconds_of", told)
    report = run_benchmark([("settling", settling), ("steady", steady)], warmup=12, runs=2)
    first, second = report.measurements
    assert (first.warmup, second.warmup) == (9, 6)  # of six passes at most one may be slow, and six are needed
    assert first.settled
    assert second.settled
    assert (len(settling.batches), len(steady.batches)) == (11, 8)
    assert (first.median_ms, first.ratio, second.ratio) == pytest.approx((50, 1, 1))


def test_ceilings_are_the_fastest_passes() -> None:
    pytest.importorskip("openvino", reason="the ceilings of bf16 and int8 need OpenVINO")
    meter = CeilingMeter(["bf16", "fp32", "int3", "int8"])
    assert meter.ceilings() == {}
    meter.measure()
    first = meter.ceilings()
    assert list(first) == ["bf16", "fp32", "int8"]
    assert all(value > 1 for value in first.values())
    meter.measure()
    assert all(value >= first[name] for name, value in meter.ceilings().items())


@pytest.mark.usefixtures("whole_kernels")
def test_ceiling_of_an_unknown_precision_is_not_invented() -> None:
    assert matrix_ceiling("int3") == 0
    assert matrix_ceiling("fp32", repeats=1) > 1


@pytest.mark.parametrize("wrong", [{"runs": 0}, {"batches": ()}, {"batches": (0,)}, {"warmup": -1}])
def test_misuse_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"at least one of each|^(runs|batch\[0\]|warmup): got -?\d, expected \d … "):
        run_benchmark([("tiny", Slow(0.0))], **wrong)
    with pytest.raises(InputError):
        run_benchmark([])


@pytest.mark.thorough
def test_models_on_features_are_measured_in_windows() -> None:
    seen: list[Any] = []

    class Features(LoudEngine):
        def infer(self, inputs: Any) -> Any:
            seen.append(inputs)
            time.sleep(0.01)
            return super().infer(inputs)

    report = run_benchmark([("a2net", Features(feature_model_spec("a2net")))], batches=(2,), warmup=0, runs=3)
    (measured,) = report.measurements
    assert {inputs["features"].shape for inputs in seen} == {(2, 3, 16)}
    assert 0.5 < seen[0]["features"].std() < 1.5
    assert measured.windows_per_s == pytest.approx(2 / (measured.median_ms / 1e3))
    assert measured.clip_fps == pytest.approx(16 * measured.windows_per_s)
    text = format_report(report)
    assert f"{measured.windows_per_s:,.1f}" in text
    assert "steps/s" in text
    assert "Table 3" not in text
