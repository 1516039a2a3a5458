"""TensorRT engines without a GPU: real builds in TensorRT-RTX, the layer report, which library, what is refused."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import export.trt.library
from export.graph.convolutions import ConvolutionReport, report_convolutions
from export.to_trt import TrtOptions, _say_built, export_trt
from export.trt.build import ROOT, BuildOptions, Plan, batch_profile, build_plan, remove_plugin
from export.trt.layers import parse_layers
from export.trt.library import MODULES, Library, find_library, parse_architectures
from runtime.cli import main
from runtime.errors import EngineError, ExportError, InputError, MissingDependencyError
from tests.conftest import Exported
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


PROFILE = batch_profile(tiny_spec(), (1, 1, 8))

HEAD = onnx.helper.make_tensor_value_info("head_out", onnx.TensorProto.FLOAT, None)


def two_convolutions() -> onnx.ModelProto:
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], [f"{name}_out"], name=name) for name in ("conv_a", "head")]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "two", [], [HEAD]))


@pytest.mark.parametrize("report", [RTX_REPORT, INSPECTED], ids=["rtx log", "inspector"])
def test_the_layer_that_computes_a_convolution_is_found(report: str) -> None:
    layers = parse_layers(report)
    assert len(layers) == 3
    found = report_convolutions(layers, two_convolutions(), "fp16")
    assert (found.total, found.by_precision, found.share) == (2, {"fp16": 1, "fp32": 1}, 0.5)
    assert found.others == ("head (fp32, output head)",)
    assert found.unseen == ()
    assert found.summary() == "convolutions: 1 of 2 in fp16 (1 fp16, 1 fp32)"


def test_a_convolution_left_behind_is_named() -> None:
    found = report_convolutions(parse_layers(RTX_REPORT)[1:2], two_convolutions(), "int8")
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
    monkeypatch.setattr(export.trt.library, "_try_import", lambda name: _Module if name in installed else None)
    assert find_library(asked, architectures, gpu=gpu).name == expected


def test_libraries_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.trt.library, "_try_import", lambda name: None)
    for asked, extra in (("auto", "tensorrt"), ("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt-rtx")):
        with pytest.raises(MissingDependencyError, match=rf"not installed: pip install '\.\[{extra}\]'"):
            find_library(asked, (), gpu=True)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=r"--sm 86: TensorRT builds for the GPU in this machine; leave it out"):
        find_library("tensorrt", ("8.6",), gpu=True)


def test_without_any_tensorrt_the_onnx_file_is_left_ready(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.trt.library, "_try_import", lambda name: None)
    source = tmp_path / "small.onnx"
    source.write_bytes(exported.onnx.read_bytes())
    ready = tmp_path / "small.fp16.onnx"
    with pytest.raises(ExportError, match=f"{ready} is ready: on the machine with the GPU run python export/to_trt.py"):
        export_trt(source, say=lambda _: None)
    assert {path.name for path in tmp_path.iterdir()} == {"small.onnx", ready.name, f"{ready.name}.drift.json"}


def test_full_tensorrt_needs_a_gpu(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.trt.library, "_try_import", lambda name: _Module)
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
    poolings = [node for node in remove_plugin(graph).graph.node if node.op_type == "boundary_max_pooling"]
    assert poolings
    assert not any(attribute.name == "plugin_namespace" for node in poolings for attribute in node.attribute)
    tables, masked = graph.functions, remove_plugin(graph).functions
    assert [function.opset_import for function in masked] == [function.opset_import for function in tables]
    assert len(masked[0].node) < len(tables[0].node) / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": (0, 1, 2)}, r"batch\[0\]: got 0, expected 1 … "),
        ({"batch": (1, 4, 2)}, "--batch 1 4 2: expected 1 ≤ min ≤ opt ≤ max"),
        ({"workspace_gib": 0.0}, "workspace_gib: got 0.0, expected above 0, up to 1024 GiB"),
    ],
)
def test_build_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ExportError, InputError), match=message):
        BuildOptions(**options)


def test_int8_needs_a_calibrated_file(exported: Exported) -> None:
    with pytest.raises(ExportError, match=r"it needs measured ranges: `afsd calibrate MODEL\.onnx"):
        export_trt(exported.onnx, options=TrtOptions("int8"), say=lambda _: None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "openvino", "--precision", "bf16"], "--precision: an OpenVINO file is float32"),
        (["--to", "tensorrt", "--flow", "x.ckpt"], "--flow: write the fused ONNX file first"),
        (["--to", "tensorrt", "-o", "x.onnx"], "x.onnx: expected a file name ending in .engine"),
        (["--to", "tensorrt", "--sm", "90"], "--sm '90': TensorRT-RTX builds for"),
        (["--sm", "86"], "--sm is for TensorRT engines; add --to tensorrt, or leave it out"),
        (["--to", "openvino", "--timing-cache", "x"], "--timing-cache is for TensorRT engines; add --to tensorrt"),
        (["--to", "tensorrt", "--batch", "1", "2"], "--batch: got 2 numbers, expected one, or smallest, best and"),
        (["--flow", "x.ckpt", "--precision", "fp16"], "--precision: --flow writes float32"),
        (["--precision", "fp16", "-o", "x.bin"], "x.bin: expected a file name ending in .onnx"),
    ],
)
def test_flags_that_do_not_go_together(
    exported: Exported, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(exported.onnx), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_convolutions_that_do_not_run_as_asked_are_named(tmp_path: Path) -> None:
    left = tuple(f"conv_{k} (fp32, not on purpose)" for k in range(7))
    found = ConvolutionReport("int8", 20, {"int8": 12, "fp32": 8}, ("head (fp32, output head)", *left), ())
    said: list[str] = []
    _say_built(tmp_path / "x.engine", Plan(b"", 1.0, 2.0, ()), found, said.append)
    assert said[:8] == [
        "convolutions: 12 of 20 in int8 (8 fp32, 12 int8)",
        *(f"  not as asked: {text}" for text in left[:5]),
        "  not as asked: 2 more, see x.engine.report.json",
        "  fp32 on purpose: 1 convolutions of the output heads (docs/tensorrt.md)",
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
        build_plan(two_convolutions(), PROFILE, library, BuildOptions(), log, lambda _: None)
    assert log.is_file()


def test_the_command_for_another_machine_is_the_one_that_was_given(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.trt.library, "_try_import", lambda name: None)
    source = tmp_path / "a folder" / "small.onnx"
    source.parent.mkdir()
    source.write_bytes(exported.onnx.read_bytes())
    build = BuildOptions((2, 4, 16), ("8.6", "12.0"), 2.5, Path("kernel times"))
    options = TrtOptions("fp32", "tensorrt-rtx", "function", build, ())
    with pytest.raises(ExportError) as told:
        export_trt(source, tmp_path / "x.engine", options=options, say=lambda _: None)
    command = str(told.value).partition("run python export/to_trt.py ")[2]
    words = shlex.split(command)
    assert words[0] == str(source)
    parsed: list[object] = []
    monkeypatch.setattr("export.to_trt.export_trt", lambda *given: parsed.extend(given))
    assert main(["export", "--to", "tensorrt", *words]) == 0
    assert parsed[:2] == [source, tmp_path / "x.engine"]
    assert parsed[3] == TrtOptions(None, "tensorrt-rtx", "function", build, [])


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    with pytest.raises(InputError, match=r"got a file where a folder is needed for the results; name another"):
        export_trt(exported.onnx, tmp_path / "file" / "x.engine", say=said.append)
    assert not said


def test_a_source_that_is_none(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"small\.xml: an engine already; give the checkpoint or the ONNX file"):
        export_trt(exported.openvino, say=lambda _: None)
    with pytest.raises(ExportError, match=r"--precision int8: .*small\.ckpt is not an ONNX file; it needs measured"):
        export_trt(exported.checkpoint, options=TrtOptions("int8"), say=lambda _: None)
    with pytest.raises(ExportError, match=r"none\.onnx: file not found; expected a checkpoint, or an ONNX file"):
        export_trt(tmp_path / "none.onnx", say=lambda _: None)


def test_a_library_without_a_report_of_its_layers_says_so() -> None:
    found = report_convolutions((), two_convolutions(), "fp16")
    assert found.summary() == "convolutions: 2, none named: the library gave no report of its layers"


def test_memory_is_the_builders_own() -> None:
    """A process that is started by a large one counts its own memory alone."""
    ballast = np.ones(60_000_000)
    code = "from export.trt.worker import _peak_mib; print(_peak_mib())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ballast.nbytes / 2**20 > 400
    assert float(done.stdout) < 200


def test_an_interrupt_ends_the_builder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker writes its process number, tells its progress and would go on for a minute."""
    lines = (
        "import os, time",
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))",
        "print('progress: working', flush=True)",
        "time.sleep(60)",
    )
    (tmp_path / "endless_trt.py").write_text("\n".join(lines))
    monkeypatch.setitem(MODULES, "tensorrt-rtx", "endless_trt")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def interrupted(text: str) -> None:
        raise KeyboardInterrupt

    library = Library("tensorrt-rtx", None, "0")
    with pytest.raises(KeyboardInterrupt):
        build_plan(
            two_convolutions(),
            batch_profile(tiny_spec(), (1, 1, 8)),
            library,
            BuildOptions(),
            tmp_path / "log",
            interrupted,
        )
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
