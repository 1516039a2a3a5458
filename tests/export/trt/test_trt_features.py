"""Networks on features in half precision and in TensorRT-RTX, which builds without a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export.comparison.drift import measure_drift_on_windows
from export.graph.files import save_graph
from export.graph.precision import output_convolutions, precision_of
from export.graph.trace import seeded_inputs
from export.to_precision import write_typed_onnx
from export.to_trt import TrtOptions, export_trt
from export.trt.build import BuildOptions
from runtime.engines import open_engine
from runtime.engines.artifact import read_artifact
from runtime.errors import ExportError
from runtime.families import class_output
from tests.conftest import FeatureModel
from tests.training.feature_data import NETWORKS, SAMPLING

SLOW = {"gtea": pytest.mark.slow, "two_stage_gtea": pytest.mark.slow}  # up to half a minute for each build


@pytest.fixture(scope="module", params=[pytest.param(n, marks=SLOW.get(n, ())) for n in NETWORKS])
def float_file(request: pytest.FixtureRequest, feature_model: Callable[[str], FeatureModel]) -> Path:
    """A float32 ONNX file of each family."""
    return feature_model(request.param).onnx


@pytest.mark.parametrize(("precision", "step"), [("fp16", 2.0**-11), ("bf16", 2.0**-8)])
def test_half_precision_drifts_by_its_own_steps(float_file: Path, tmp_path: Path, precision: Any, step: float) -> None:
    typed = write_typed_onnx(float_file, precision, folder=tmp_path, say=lambda _: None)
    assert precision_of(typed.graph) == precision
    report = json.loads((tmp_path / f"{typed.path.name}.drift.json").read_text())
    assert [output["name"] for output in report["outputs"]] == [t.name for t in typed.spec.outputs]
    logits = next(output for output in report["outputs"] if output["name"] == class_output(typed.spec))
    roundings = 30 if typed.spec.family == "two_stage" else 10  # one after another, in two networks or in one
    assert step / 20 < logits["relative"] < roundings * step
    assert logits["unpaired"] < 0.1


def test_another_network_is_not_taken_for_half_precision(float_file: Path, tmp_path: Path) -> None:
    typed = write_typed_onnx(float_file, "fp16", folder=tmp_path, say=lambda _: None)
    broken = onnx.load(typed.path)
    for weight in broken.graph.initializer:
        if weight.name in {node.input[1] for node in broken.graph.node if node.op_type == "Conv"}:
            values = onnx.numpy_helper.to_array(weight)
            weight.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values[..., ::-1]), weight.name))
    save_graph(broken, tmp_path / "broken.onnx")
    with pytest.raises(ExportError, match=r"in its output|proposes other segments"):
        typed.check(open_engine(tmp_path / "broken.onnx"), (), lambda _: None)


@pytest.mark.parametrize(
    "precision", ["fp16", *(pytest.param(other, marks=pytest.mark.thorough) for other in ("fp32", "bf16"))]
)
def test_rtx_builds_it_as_asked(float_file: Path, tmp_path: Path, precision: Any) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed here (it comes for x86-64 Linux)")
    options = TrtOptions(precision, "tensorrt-rtx", build=BuildOptions(batch=(1, 2, 4), architectures=("8.6",)))
    engine = export_trt(float_file, tmp_path / "model.engine", options=options, say=lambda _: None)
    plain = onnx.load(float_file)
    pooled = any(node.op_type == "boundary_max_pooling" for node in plain.graph.node)
    made = read_artifact(engine)
    assert made.build is not None
    assert (made.build.precision, made.build.pooling) == (precision, "function" if pooled else "none")
    assert made.spec.features == SAMPLING
    found = json.loads(engine.with_name(f"{engine.name}.report.json").read_text())["convolutions"]
    heads = len(output_convolutions(plain)) if precision != "fp32" else 0
    assert found["total"] == sum(node.op_type == "Conv" for node in plain.graph.node)
    assert found["by_precision"].get(precision, 0) == found["total"] - heads
    assert not found["unseen"]
    assert all("output head" in text for text in found["others"])


def test_drift_counts_its_windows_and_has_none_from_itself(float_file: Path) -> None:
    engine = open_engine(float_file)
    report = measure_drift_on_windows(engine, engine)
    assert report.windows == 4
    assert {output.name: output.relative for output in report.outputs} == {t.name: 0.0 for t in engine.spec.outputs}
    name = report.outputs[0].name
    batches = [seeded_inputs(engine.spec, seed, size) for seed, size in ((1, 1), (2, 2), (3, 1))]
    values = np.concatenate([np.float64(engine.infer(inputs)[name]).ravel() for inputs in batches])
    assert report.outputs[0].rms == pytest.approx(np.sqrt(np.mean(values**2)))
