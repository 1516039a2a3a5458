"""The TensorRT plugin without TensorRT's library: NVIDIA's bindings over stubs. And the function, built by RTX."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from export.boundary_pooling.launch import launch_for
from export.trt.build import BuildOptions, build_plan
from export.trt.library import find_library
from runtime.spec import TensorSpec
from tests.export.test_function import pooling_model
from tests.tiny import tiny_spec

ROOT = Path(__file__).parents[2]
LIBRARIES = ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11")
SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
"""What the bindings want of TensorRT's libraries when they are loaded; none is called here."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What plugin_under_stubs.py saw."""
    if importlib.util.find_spec("tensorrt_bindings") is None or sys.platform != "linux":
        pytest.skip("NVIDIA's TensorRT bindings are not installed here (tensorrt-cu13-bindings, x86-64 Linux)")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here for the stub libraries")
    folder = tmp_path_factory.mktemp("stubs")
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in SYMBOLS))
    for library in LIBRARIES:
        subprocess.run([compiler, "-shared", "-fPIC", source, "-o", folder / library], check=True)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("plugin_under_stubs.py")],
        capture_output=True, text=True, check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode and "undefined symbol" in done.stderr:
        pytest.skip(f"these bindings want other symbols than the stubs have: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_it_is_registered_as_the_graphs_nodes_ask_for_it(told: dict[str, Any]) -> None:
    assert told["registered"] == ["boundary_max_pooling", "1", "afsd"]
    assert told["fields"] == 0  # so the parser passes no attribute of the node on


@pytest.mark.parametrize(("precision", "kind"), [("fp32", "FLOAT"), ("fp16", "HALF"), ("bf16", "BF16")])
def test_shape_types_and_formats(told: dict[str, Any], precision: str, kind: str) -> None:
    found = told["frame"][precision]
    assert found["types"] == [kind]
    assert found["shape"] == ["B", 512, 126]
    offered = [found["offered"][k : k + 3] for k in range(0, len(found["offered"]), 3)]
    assert [[kind, "LINEAR"], ["FLOAT", "LINEAR"], [kind, "LINEAR"]] in offered
    assert len(offered) == 3


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_launch_and_kernel(told: dict[str, Any], precision: str) -> None:
    found = told["frame"][precision]
    launch = launch_for(512, 256, 126, precision)
    assert found["launch"] == {
        "grid_x": launch.tiles, "grid_y": 2, "grid_z": "B", "block_x": launch.block[0], "block_y": launch.block[1],
        "block_z": 1, "shared_mem": launch.shared_bytes,
    }  # fmt: skip
    assert found["scalars"] == [512, 256, 126, launch.rows]
    assert found["scalar_types"] == ["INT32"] * 4
    assert found["kernel"] == f"boundary_max_pooling_{precision}"
    assert found["ptx_entries"] == [f"boundary_max_pooling_{precision}("]
    assert found["ptx_target"] == ".target sm_86"


def test_the_smallest_level_and_another_gpu(told: dict[str, Any]) -> None:
    assert told["level"]["shape"] == ["B", 1024, 2]
    assert told["level"]["scalars"] == [1024, 2, 2, 4]
    assert told["again"] == ".target sm_120"


def test_only_the_batch_may_be_dynamic(told: dict[str, Any]) -> None:
    assert told["dynamic"] == (
        "boundary pooling: C is dynamic, expected a fixed size; only the batch may change"
    )  # fmt: skip


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16])
def test_rtx_builds_the_node_through_its_function(tmp_path: Path, kind: int) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed here (it comes for x86-64 Linux)")
    model = pooling_model(64, kind)
    for value, sizes in zip(model.graph.input, ((8, 64), (10, 4)), strict=True):
        for dimension, size in zip(value.type.tensor_type.shape.dim[1:], sizes, strict=True):
            dimension.dim_value = size
    inputs = (TensorSpec("features", ("batch", 8, 64), "float32"), TensorSpec("regions", ("batch", 10, 4), "float32"))
    library = find_library("tensorrt-rtx", ("8.6",))
    options = BuildOptions((1, 1, 4), ("8.6",))
    plan = build_plan(model, tiny_spec(inputs=inputs), library, options, tmp_path / "log", lambda _: None)
    assert len(plan.data) > 0
    assert plan.layers
