"""Real builds in TensorRT-RTX, which needs no GPU: every precision, int8, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.comparison.drift import measure_drift_on_windows
from export.graph.convolutions import report_convolutions
from export.graph.files import save_graph
from export.graph.precision import output_convolutions, precision_of, require_symmetric
from export.graph.trace import seeded_inputs
from export.to_trt import TrtOptions, export_trt
from export.trt.build import BuildOptions, Profile, build_plan
from export.trt.library import RTX_DEFAULT, find_library
from runtime.cli import main
from runtime.engines import open_engine
from runtime.engines.artifact import read_artifact
from runtime.errors import ExportError
from tests.conftest import Exported
from tests.quantise import quantised_graph


@pytest.fixture(scope="module")
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed here (it comes for x86-64 Linux)")


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("precision", "architectures", "recorded"),
    [
        pytest.param("fp16", ("8.6",), ("8.6",), marks=pytest.mark.thorough),
        pytest.param("fp32", ("8.6",), ("8.6",), marks=pytest.mark.slow),
        pytest.param("bf16", (), RTX_DEFAULT, marks=pytest.mark.slow),
    ],
)
def test_rtx_builds_every_precision(
    exported: Exported, tmp_path: Path, precision: Any, architectures: tuple[str, ...], recorded: tuple[str, ...]
) -> None:
    source = tmp_path / "small.onnx"
    source.write_bytes(exported.onnx.read_bytes())
    build = BuildOptions(batch=(1, 2, 4), architectures=architectures)
    said: list[str] = []
    out = tmp_path / "engines" / f"small.{precision}.engine"
    engine = export_trt(source, out, options=TrtOptions(precision, "tensorrt-rtx", build=build), say=said.append)
    assert engine == out
    assert (precision == "fp32") != (out.parent / f"small.{precision}.onnx").is_file()  # typed files go there too
    made = read_artifact(engine).build
    assert made is not None
    assert (made.library, made.precision, made.architectures) == ("tensorrt-rtx", precision, recorded)
    assert (made.batch, made.pooling, made.gpu) == ((1, 2, 4), "function", "")
    assert read_artifact(engine).spec.precision == precision
    report = json.loads(engine.with_name(f"{engine.name}.report.json").read_text())
    convolutions = report["convolutions"]
    heads = 0 if precision == "fp32" else 15
    total = sum(node.op_type == "Conv" for node in onnx.load(source).graph.node)
    assert convolutions["total"] == total
    assert convolutions["by_precision"].get(precision) == total - heads
    assert all("output head" in text for text in convolutions["others"])
    assert report["bytes"] == engine.stat().st_size
    assert "Layers:" in engine.with_name(f"{engine.name}.log").read_text()
    assert any("building with TensorRT-RTX" in line for line in said)
    assert not list(out.parent.glob(".afsd-*"))


@pytest.mark.thorough
@pytest.mark.usefixtures("rtx")
def test_a_precision_that_the_target_has_not(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Turing has no float32 3-D convolutions in TensorRT-RTX, and no bfloat16."""
    engine = tmp_path / "small.engine"
    command = ["export", str(exported.onnx), "--to", "tensorrt", "--precision", "fp32", "--sm", "75", "-o", str(engine)]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "building failed" in line
    assert "FP32 3D convolution is not supported" in line
    assert f"the log is {engine}.log" in line
    assert {path.name for path in tmp_path.iterdir()} == {"small.engine.log"}


@pytest.mark.usefixtures("rtx")
def test_rtx_takes_no_plugin(exported: Exported, tmp_path: Path) -> None:
    options = TrtOptions("fp32", "tensorrt-rtx", "plugin")
    with pytest.raises(ExportError, match="takes no plugins; use --pooling function"):
        export_trt(exported.onnx, tmp_path / "s.engine", options=options, say=lambda _: None)


@pytest.fixture(scope="module")
def int8_file(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network quantised in one step."""
    spec = open_engine(exported.onnx).spec
    out = tmp_path_factory.mktemp("int8") / "small.int8.onnx"
    save_graph(quantised_graph(exported.onnx, "int8", [seeded_inputs(spec, seed, 1) for seed in range(3)]), out)
    return out


def test_int8_keeps_the_network(exported: Exported, int8_file: Path) -> None:
    graph = onnx.load(int8_file)
    require_symmetric(graph, str(int8_file))
    assert precision_of(graph) == open_engine(int8_file).precision == "int8"
    heads = output_convolutions(onnx.load(exported.onnx))
    producers = {name: node.op_type for node in graph.graph.node for name in node.output}
    dequantised = {node.output[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.graph.node:
        if node.op_type == "Conv":
            assert (node.input[1] in dequantised) == (node.name not in heads)
            assert producers[node.input[0]] in ("DequantizeLinear", "Concat") or node.name in heads
    drift = measure_drift_on_windows(open_engine(exported.onnx), open_engine(int8_file))
    conf = next(output for output in drift.outputs if output.name == "conf")
    assert 0.001 < conf.relative < 0.3


@pytest.mark.thorough
@pytest.mark.usefixtures("rtx")
def test_int8_is_int8_also_after_a_refused_build(int8_file: Path) -> None:
    """In one process, TensorRT-RTX 1.7 compiled all convolutions in float32 after it had refused a build for Turing."""
    with pytest.raises(ExportError, match="building failed"):
        export_trt(int8_file, options=TrtOptions(build=BuildOptions(architectures=("7.5",))), say=lambda _: None)
    said: list[str] = []
    engine = export_trt(int8_file, options=TrtOptions(build=BuildOptions(architectures=("8.6",))), say=said.append)
    assert engine == int8_file.with_suffix(".engine")
    found = json.loads(engine.with_name(f"{engine.name}.report.json").read_text())["convolutions"]
    assert found["by_precision"] == {"int8": found["total"] - 15, "fp32": 15}
    assert "  fp32 on purpose: 15 convolutions of the output heads (docs/tensorrt.md)" in said


@pytest.mark.usefixtures("rtx")
def test_rtx_runs_a_quantised_convolution_in_int8(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array
    weights = np.random.default_rng(0).integers(-127, 128, (64, 64, 3, 3, 3)).astype(np.int8)
    constants = [
        tensor(np.float32(0.02), "scale"), tensor(np.int8(0), "zero"), tensor(weights, "stored"),
        tensor(np.full(64, 0.01, np.float32), "scales"), tensor(np.zeros(64, np.int8), "zeros"),
    ]  # fmt: skip
    node = onnx.helper.make_node
    nodes = [
        node("QuantizeLinear", ["frames", "scale", "zero"], ["q"], name="quantise"),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="dequantise"),
        node("DequantizeLinear", ["stored", "scales", "zeros"], ["w"], name="weights", axis=0),
        node("Conv", ["d", "w"], ["y"], name="conv", pads=[1] * 6),
    ]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 64, 8, 16, 16])
        for name in ("frames", "y")
    ]
    graph = onnx.helper.make_graph(nodes, "quantised", values[:1], values[1:], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    sizes = (64, 8, 16, 16)
    profile: Profile = {"frames": ((1, *sizes), (1, *sizes), (8, *sizes))}
    library = find_library("tensorrt-rtx", ("8.6",), gpu=False)
    plan = build_plan(model, profile, library, BuildOptions(architectures=("8.6",)), tmp_path / "log", lambda _: None)
    found = report_convolutions(plan.layers, model, "int8")
    assert (found.by_precision, found.others) == ({"int8": 1}, ())
