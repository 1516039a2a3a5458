"""TensorRT engines without a GPU: real builds in TensorRT-RTX, the layer report, which library, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import export.trt.library
from calibration.quick import quantize_min_max
from export.drift import drift_on_windows
from export.precision import output_convolutions, precision_of, require_symmetric
from export.to_trt import TrtOptions, _say_built, export_trt
from export.trace import seeded_inputs
from export.trt.build import BuildOptions, Plan, build_plan, without_plugin
from export.trt.layers import ConvolutionReport, convolution_report, parse_layers
from export.trt.library import MODULES, RTX_DEFAULT, Library, find_library, parse_architectures
from runtime.cli import main
from runtime.engines import open_engine
from runtime.engines.sidecar import read_build, read_sidecar
from runtime.errors import EngineError, ExportError, MissingDependencyError
from runtime.spec import TensorSpec
from tests.export.conftest import Exported
from tests.tiny import tiny_spec

RTX_REPORT = """Layers:
Name: kgen_0, LayerType: kgen, Inputs: [ { Name: x, Dimensions: [-1,3,8], Datatype: Float, Format: (Linear) }], Constants: [], Outputs: [ { Name: y, Datatype: Half, Format: (NHWC) }], TacticName: a, StreamId: 0, Metadata: [ONNX Layer: conv_a][ONNX Layer: cast]
Name: conv_a_1, LayerType: correlation, Inputs: [ { Name: y, Datatype: Half, Format: (NHWC) }], Constants: [ { Name: w, Datatype: Half, Format: (NHWC) }], Outputs: [ { Name: z, Datatype: Half, Format: (NHWC) }], TacticName: b, StreamId: 0, Metadata: [ONNX Layer: conv_a][ONNX Layer: relu_a]
Name: gemm_2, LayerType: gemm, Inputs: [ { Name: z, Datatype: Float, Format: (NHWC) }], Constants: [], Outputs: [ { Name: v, Datatype: Float, Format: (Linear) }], TacticName: c, StreamId: 0, Metadata: [ONNX Layer: head]

I/O Tensors:
 Name: x, IOMode: Input, DataType: Float
"""  # noqa: E501
"""As TensorRT-RTX logs it, shortened."""

INSPECTED = """Layers:
Name: conv_a + relu_a, LayerType: CaskConvolution, Inputs: [ { Name: x, Location: Device, Dimensions: [1,3,8,8], Format/Datatype: Channel major FP16 format where channel % 8 == 0 }], Outputs: [ { Name: y, Location: Device, Dimensions: [1,4,8,8], Format/Datatype: Channel major FP16 format where channel % 8 == 0 }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: conv_a][ONNX Layer: relu_a]
Name: Reformat 3, LayerType: Reformat, Inputs: [ { Name: y, Location: Device, Dimensions: [1,4], Format/Datatype: Row major linear FP16 }], Outputs: [], Metadata: [ONNX Layer: head]
Name: head, LayerType: CaskConvolution, Inputs: [ { Name: z, Location: Device, Dimensions: [1,4], Format/Datatype: Row major linear FP32 }], Outputs: [ { Name: v, Location: Device, Format/Datatype: Row major linear FP32 }], Metadata: [ONNX Layer: head]
"""  # noqa: E501
"""As the engine inspector of full TensorRT gives it, after its documentation."""


def two_convolutions() -> onnx.ModelProto:
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], [f"{name}_out"], name=name) for name in ("conv_a", "head")]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "two", [], []))


@pytest.mark.parametrize("report", [RTX_REPORT, INSPECTED], ids=["rtx log", "inspector"])
def test_the_layer_that_computes_a_convolution_is_found(report: str) -> None:
    layers = parse_layers(report)
    assert len(layers) == 3
    found = convolution_report(layers, two_convolutions(), "fp16", {"head"})
    assert (found.total, found.by_precision, found.share) == (2, {"fp16": 1, "fp32": 1}, 0.5)
    assert found.others == ("head (fp32, output head)",)
    assert found.unseen == ()
    assert found.summary() == "convolutions: 1 of 2 in fp16 (1 fp16, 1 fp32)"


def test_a_convolution_left_behind_is_named() -> None:
    found = convolution_report(parse_layers(RTX_REPORT)[1:2], two_convolutions(), "int8", set())
    assert found.others == ("conv_a (fp16, not on purpose)",)
    assert found.unseen == ("head",)
    assert "1 not named in the report" in found.summary()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("86", ("8.6",)), ("8.6, 8.9", ("8.6", "8.9")), ("sm86,SM120,86", ("8.6", "12.0")), ("12_1", ("12.1",))],
)
def test_architectures(text: str, expected: tuple[str, ...]) -> None:
    assert parse_architectures(text) == expected


@pytest.mark.parametrize("text", ["90", "", "ampere", "8"])
def test_unknown_architectures(text: str) -> None:
    with pytest.raises(ExportError, match="TensorRT-RTX builds for 75, 80, 86, 89, 120, 121; for other GPUs"):
        parse_architectures(text)


class _Module:
    __version__ = "1.2.3"


@pytest.mark.parametrize(
    ("installed", "asked", "architectures", "gpu", "expected"),
    [
        ({"tensorrt", "tensorrt_rtx"}, "auto", (), True, "tensorrt"),
        ({"tensorrt", "tensorrt_rtx"}, "auto", (), False, "tensorrt-rtx"),
        ({"tensorrt", "tensorrt_rtx"}, "auto", ("8.6",), True, "tensorrt-rtx"),
        ({"tensorrt_rtx"}, "auto", (), True, "tensorrt-rtx"),
        ({"tensorrt", "tensorrt_rtx"}, "tensorrt-rtx", (), True, "tensorrt-rtx"),
    ],
)
def test_which_library_builds(
    monkeypatch: pytest.MonkeyPatch,
    installed: set[str],
    asked: Any,
    architectures: tuple[str, ...],
    gpu: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(export.trt.library, "_imported", lambda name: _Module if name in installed else None)
    assert find_library(asked, architectures, gpu=gpu).name == expected


def test_libraries_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.trt.library, "_imported", lambda name: None)
    for asked, extra in (("auto", "tensorrt"), ("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt-rtx")):
        with pytest.raises(MissingDependencyError, match=rf"not installed: pip install 'afsd\[{extra}\]'"):
            find_library(asked, (), gpu=True)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=r"--sm 8\.6: TensorRT builds for the GPU in this machine; leave --sm out"):
        find_library("tensorrt", ("8.6",), gpu=True)


def test_without_any_tensorrt_the_onnx_file_is_left_ready(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.trt.library, "_imported", lambda name: None)
    source = tmp_path / "small.onnx"
    source.write_bytes(exported.onnx.read_bytes())
    ready = tmp_path / "small.fp16.onnx"
    with pytest.raises(ExportError, match=f"{ready} is ready: on the machine with the GPU run python export/to_trt.py"):
        export_trt(source, say=lambda _: None)
    assert {path.name for path in tmp_path.iterdir()} == {"small.onnx", ready.name, f"{ready.name}.drift.json"}


def test_full_tensorrt_needs_a_gpu(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.trt.library, "_imported", lambda name: _Module)
    reason = EngineError("the NVIDIA driver finds no GPU")

    def no_gpu() -> None:
        raise reason

    monkeypatch.setattr("export.to_trt.local_gpu", no_gpu)
    with pytest.raises(
        ExportError, match=r"TensorRT 1\.2\.3 builds on the GPU it is for: the NVIDIA driver finds no GPU"
    ):
        export_trt(exported.onnx, tmp_path / "small.engine", options=TrtOptions("fp32", "tensorrt"), say=lambda _: None)
    assert not list(tmp_path.iterdir())


def test_poolings_that_name_no_plugin(exported: Exported) -> None:
    graph = onnx.load(exported.onnx)
    poolings = [node for node in without_plugin(graph).graph.node if node.op_type == "boundary_max_pooling"]
    assert poolings
    assert not any(attribute.name == "plugin_namespace" for node in poolings for attribute in node.attribute)
    assert len(without_plugin(graph).functions) == len(graph.functions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": (0, 1, 2)}, "--batch 0 1 2: expected 1 ≤ min ≤ opt ≤ max"),
        ({"batch": (1, 4, 2)}, "--batch 1 4 2: expected 1 ≤ min ≤ opt ≤ max"),
        ({"workspace_gib": 0.0}, "--workspace 0: expected a positive number of GiB"),
    ],
)
def test_build_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        BuildOptions(**options)


@pytest.fixture(scope="module")
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed here (it comes for x86-64 Linux)")


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("precision", "architectures", "recorded"),
    [("fp32", ("8.6",), ("8.6",)), ("fp16", (), RTX_DEFAULT), ("bf16", ("8.9", "12.0"), ("8.9", "12.0"))],
)
def test_rtx_builds_every_precision(
    exported: Exported, tmp_path: Path, precision: Any, architectures: tuple[str, ...], recorded: tuple[str, ...]
) -> None:
    source = tmp_path / "small.onnx"
    source.write_bytes(exported.onnx.read_bytes())
    build = BuildOptions(batch=(1, 2, 4), architectures=architectures)
    said: list[str] = []
    engine = export_trt(source, options=TrtOptions(precision, "tensorrt-rtx", build=build), say=said.append)
    assert engine == tmp_path / f"small.{precision}.engine"
    made = read_build(engine)
    assert (made.library, made.precision, made.architectures) == ("tensorrt-rtx", precision, recorded)
    assert (made.batch, made.pooling, made.gpu) == ((1, 2, 4), "function", "")
    assert read_sidecar(engine, [engine]).precision == precision
    report = json.loads((tmp_path / f"{engine.name}.report.json").read_text())
    convolutions = report["convolutions"]
    heads = 0 if precision == "fp32" else 15
    total = sum(node.op_type == "Conv" for node in onnx.load(source).graph.node)
    assert convolutions["total"] == total
    assert convolutions["by_precision"].get(precision) == total - heads
    assert all("output head" in text for text in convolutions["others"])
    assert report["bytes"] == engine.stat().st_size
    assert "Layers:" in (tmp_path / f"{engine.name}.log").read_text()
    assert any("building with TensorRT-RTX" in line for line in said)
    assert not list(tmp_path.glob(".export-*"))


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


def test_int8_needs_a_calibrated_file(exported: Exported) -> None:
    with pytest.raises(ExportError, match="int8 needs measured ranges: calibrate its float32 ONNX file first"):
        export_trt(exported.onnx, options=TrtOptions("int8"), say=lambda _: None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "openvino", "--precision", "bf16"], "--precision: an OpenVINO file is float32"),
        (["--to", "tensorrt", "--flow", "x.ckpt"], "--flow: write the fused ONNX file first"),
        (["--to", "tensorrt", "-o", "x.onnx"], "x.onnx: expected a file name ending in .engine"),
        (["--to", "tensorrt", "--sm", "90"], "--sm '90': TensorRT-RTX builds for"),
        (["--flow", "x.ckpt", "--precision", "fp16"], "--precision: --flow writes float32"),
    ],
)
def test_flags_that_do_not_go_together(
    exported: Exported, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(exported.onnx), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.fixture(scope="module")
def int8_file(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network quantised in one step."""
    spec = open_engine(exported.onnx).spec
    out = tmp_path_factory.mktemp("int8") / "small.int8.onnx"
    return quantize_min_max(exported.onnx, [seeded_inputs(spec, seed, 1) for seed in range(3)], out)


def test_int8_in_one_step_keeps_the_network(exported: Exported, int8_file: Path) -> None:
    graph = onnx.load(int8_file)
    require_symmetric(graph, str(int8_file))
    assert precision_of(graph) == open_engine(int8_file).precision == "int8"
    heads = output_convolutions(onnx.load(exported.onnx))
    dequantised = {node.output[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.graph.node:
        if node.op_type == "Conv":
            assert (node.input[1] in dequantised) == (node.name not in heads)
            assert node.input[0] in dequantised or node.name in heads
    drift = drift_on_windows(open_engine(exported.onnx), open_engine(int8_file))
    conf = next(output for output in drift.outputs if output.name == "conf")
    assert 0.001 < conf.relative < 0.3


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
    assert "  fp32 on purpose: 15 output heads (docs/tensorrt.md)" in said


def test_convolutions_that_do_not_run_as_asked_are_named(tmp_path: Path) -> None:
    left = tuple(f"conv_{k} (fp32, not on purpose)" for k in range(7))
    found = ConvolutionReport("int8", 20, {"int8": 12, "fp32": 8}, ("head (fp32, output head)", *left), ())
    said: list[str] = []
    _say_built(tmp_path / "x.engine", Plan(b"", 1.0, 2.0, ()), found, said.append)
    assert said[:8] == [
        "convolutions: 12 of 20 in int8 (8 fp32, 12 int8)",
        *(f"  not as asked: {text}" for text in left[:5]),
        "  not as asked: 2 more, see x.engine.report.json",
        "  fp32 on purpose: 1 output heads (docs/tensorrt.md)",
    ]


def test_a_builder_that_ends_its_process_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "import os, sys",
        "class ILogger: pass",
        "print('assertion failed', file=sys.stderr, flush=True)",
        "os.abort()",
    )
    (tmp_path / "crashing_trt.py").write_text("\n".join(lines))
    monkeypatch.setitem(MODULES, "tensorrt-rtx", "crashing_trt")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    library, log = Library("tensorrt-rtx", None, "0"), tmp_path / "log"
    with pytest.raises(
        ExportError, match=r"TensorRT-RTX 0: its builder ended with status -6: assertion failed; the log"
    ):
        build_plan(two_convolutions(), tiny_spec(), library, BuildOptions(), log, lambda _: None)
    assert log.is_file()


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
    spec = tiny_spec(inputs=(TensorSpec("frames", ("batch", 64, 8, 16, 16), "float32"),))
    library = find_library("tensorrt-rtx", ("8.6",), gpu=False)
    plan = build_plan(model, spec, library, BuildOptions(architectures=("8.6",)), tmp_path / "log", lambda _: None)
    found = convolution_report(plan.layers, model, "int8", set())
    assert (found.by_precision, found.others) == ({"int8": 1}, ())


def test_what_the_quick_int8_refuses(exported: Exported, int8_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is int8, expected a float32 ONNX file"):
        quantize_min_max(int8_file, [{}], tmp_path / "x.onnx")
    with pytest.raises(ExportError, match="got no windows to measure ranges on"):
        quantize_min_max(exported.onnx, [], tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
