"""The ONNX function of boundary pooling against the definition in plain loops, in ONNX Runtime and in OpenVINO."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper

from export.boundary_pooling.function import DOMAIN, NAME, OPSET, attach_pooling_function, build_pooling_function
from export.trt.build import remove_plugin
from training.afsd.boundary_pooling import ONNX_ATTRIBUTES, boundary_max_pooling_loop

CASES = [(1, 3), (2, 2), (5, 7), (64, 64), (256, 126)]


def pooling_model(longest: int, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A model of one pooling node with its function."""
    features = helper.make_tensor_value_info("features", dtype, ["B", "C", "T"])
    regions = helper.make_tensor_value_info("regions", TensorProto.FLOAT, ["B", "N", 4])
    pooled = helper.make_tensor_value_info("pooled", dtype, ["B", "C", "N"])
    node = helper.make_node(NAME, ["features", "regions"], ["pooled"], domain=DOMAIN, **ONNX_ATTRIBUTES)
    graph = helper.make_graph([node], "pooling", [features, regions], [pooled])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    attach_pooling_function(model, longest)
    onnx.checker.check_model(model, full_check=True)
    return model


BODIES = {"tables": lambda model: model, "masked": remove_plugin}
"""What ONNX Runtime and OpenVINO take, and what TensorRT takes without the plugin."""


def random_case(cells: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features with ties, and regions that are reversed, outside or fractional."""
    generator = torch.Generator().manual_seed(cells)
    features = torch.randn(2, 8, cells, generator=generator).mul(2).round()
    return features, torch.randn(2, count, 4, generator=generator) * cells


@pytest.mark.parametrize(("cells", "count"), CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("body", BODIES)
def test_onnx_runtime_expands_it(cells: int, count: int, dtype: type, body: str) -> None:
    features, regions = random_case(cells, count)
    kind = TensorProto.FLOAT if dtype is np.float32 else TensorProto.FLOAT16
    session = onnxruntime.InferenceSession(
        BODIES[body](pooling_model(256, kind)).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"features": features.numpy().astype(dtype), "regions": regions.numpy()})
    assert found.dtype == dtype
    assert np.array_equal(found, boundary_max_pooling_loop(features, regions).numpy())


@pytest.mark.parametrize(("cells", "count"), CASES)
@pytest.mark.parametrize("body", BODIES)
def test_openvino_runs_it_inlined(cells: int, count: int, body: str) -> None:
    features, regions = random_case(cells, count)
    inlined = onnx.inliner.inline_local_functions(BODIES[body](pooling_model(256)))
    model = openvino.Core().read_model(inlined.SerializeToString())
    request = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    found = request.infer([features.numpy(), regions.numpy()])[0]
    assert np.array_equal(found, boundary_max_pooling_loop(features, regions).numpy())


@pytest.mark.parametrize(("longest", "tables"), [(1, 1), (2, 2), (3, 2), (256, 9), (768, 10)])
def test_tables_cover_the_longest_feature(longest: int, tables: int) -> None:
    joined = [len(node.input) for node in build_pooling_function(longest).node if node.op_type == "Concat"]
    assert joined.count(tables) >= 2
