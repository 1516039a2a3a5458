"""The plugin through NVIDIA's own Python code over stub libraries, and its ONNX node built by TensorRT-RTX."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from export.boundary_pooling.function import DOMAIN, NAME, OPSET, attach_pooling_function
from export.boundary_pooling.launch import Dtype, choose_launch
from training.afsd.boundary_pooling import ONNX_ATTRIBUTES

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
SYMBOLS = (
    *(f"create{name}_INTERNAL" for name in ("InferBuilder", "InferRefitter", "InferRuntime")),
    *("createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry"),
    *("getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins"),
)
TYPES: dict[Dtype, tuple[str, str]] = {
    "fp32": ("float32", "FLOAT"),
    "fp16": ("float16", "HALF"),
    "bf16": ("bfloat16", "BF16"),
}


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What plugin_probe.py saw."""
    if importlib.util.find_spec("tensorrt_bindings") is None:
        pytest.skip("the bindings of TensorRT are not installed")
    if shutil.which("gcc") is None:
        pytest.skip("gcc, which builds the stub libraries, is not here")
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "stub.c").write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS))
    spec = importlib.util.find_spec("tensorrt_bindings")
    assert spec is not None and spec.origin is not None  # noqa: PT018
    found = re.search(rb"libnvinfer\.so\.(\d+)", (Path(spec.origin).parent / "tensorrt.so").read_bytes())
    assert found is not None
    for library in LIBRARIES:
        target = f"lib{library}.so.{found[1].decode()}"
        subprocess.run(["gcc", "-shared", "-fPIC", "stub.c", "-o", target], cwd=folder, check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(HERE / "plugin_probe.py")]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def test_it_registers_once(probed: dict[str, Any]) -> None:
    assert (probed["before"], probed["after"]) == (False, True)


@pytest.mark.parametrize("dtype", TYPES)
def test_shape_and_formats(probed: dict[str, Any], dtype: Dtype) -> None:
    name, kind = TYPES[dtype]
    found = probed["results"][name]
    assert found["types"] == [f"DataType.{kind}"]
    assert found["shape"] == [2, 1024, 48]
    linear = "TensorFormat.LINEAR"
    expected = [[f"DataType.{item}", linear] for _, wide in TYPES.values() for item in (wide, TYPES["fp32"][1], wide)]
    assert found["offered"] == expected


@pytest.mark.parametrize("dtype", TYPES)
def test_kernel_and_launch(probed: dict[str, Any], dtype: Dtype) -> None:
    found, launch = probed["results"][TYPES[dtype][0]], choose_launch(1024, 64, dtype)
    assert found["kernel"] == f"boundary_max_pooling_{dtype}"
    assert f".entry {found['kernel']}(" in found["ptx"]
    assert ".target sm_89" in found["ptx"]
    assert found["grid"] == [1024 // launch.rows, 2, 1]
    assert found["block"] == [256, 1, 1]
    assert found["shared"] == launch.shared_bytes
    assert found["scalars"] == [1024, 64, 48, launch.rows, launch.tables]


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_the_node_builds_in_tensorrt_rtx_through_the_function(kind: int) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    features = helper.make_tensor_value_info("features", kind, [2, 8, 16])
    regions = helper.make_tensor_value_info("regions", TensorProto.FLOAT, [2, 5, 4])
    pooled = helper.make_tensor_value_info("pooled", kind, [2, 8, 5])
    node = helper.make_node(NAME, ["features", "regions"], ["pooled"], domain=DOMAIN, **ONNX_ATTRIBUTES)
    graph = helper.make_graph([node], "pooling", [features, regions], [pooled])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    attach_pooling_function(model, 16)
    onnx.checker.check_model(model, full_check=True)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    assert tuple(network.get_output(0).shape) == (2, 8, 5)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    assert builder.build_serialized_network(network, config) is not None


def test_the_kernel_is_package_data() -> None:
    assert files("export.boundary_pooling").joinpath("kernel.cu").is_file()
