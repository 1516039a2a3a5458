"""Half precision in the graph: which tensors, what numbers, and what is refused."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graph.files import save_graph
from export.graph.precision import (
    HALF,
    emulate_half_on_cpu,
    output_convolutions,
    precision_of,
    require_symmetric,
    to_half,
)
from export.graph.trace import seeded_inputs
from runtime.engines import open_engine
from runtime.errors import ExportError
from runtime.spec.model import METADATA_KEY
from tests.conftest import Exported
from tests.tiny import tiny_spec

NARROW = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
HEADS = 5 * 3
"""Heads of the small network, one node per pyramid level."""


def chain(scale: float = 1.0) -> onnx.ModelProto:
    """x → Conv (an inner layer) → Relu → Conv (a head) → y; float32 holds the inner sums exactly."""
    rng = np.random.default_rng(0)
    weights = {
        "inner.w": rng.integers(-64, 64, (4, 3, 3)).astype(np.float32) / 32 * scale,
        "inner.b": rng.integers(-64, 64, 4).astype(np.float32) / 32,
        "head.w": rng.integers(-64, 64, (2, 4, 1)).astype(np.float32) / 64 + np.float32(2**-14),
        "head.b": np.array([2**-13, 1.0], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "inner.w", "inner.b"], ["a"], name="inner", pads=[1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "head.w", "head.b"], ["y"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, 8])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: tiny_spec().to_json()})
    return model


def run(model: onnx.ModelProto, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, inputs)]


def chain_by_hand(model: onnx.ModelProto, x: NDArray[np.float32], kind: type) -> NDArray[np.float32]:
    """What a GPU's matrix units compute: half-precision factors, float32 sums, one rounding; the head in float32."""
    w = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    narrow = {name: value.astype(kind).astype(np.float64) for name, value in w.items()}
    padded = np.pad(x.astype(kind).astype(np.float64), ((0, 0), (0, 0), (1, 1)))
    windows = np.stack([padded[..., k : k + 8] for k in range(3)], axis=-1)
    a = np.einsum("bitk,oik->bot", windows, narrow["inner.w"]) + narrow["inner.b"][:, None]
    b = np.maximum(a.astype(np.float32).astype(kind).astype(np.float64), 0)
    return (np.einsum("bit,oi->bot", b, w["head.w"][..., 0]) + w["head.b"][:, None]).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_numbers_are_those_of_half_precision_factors_and_float32_sums(precision: str) -> None:
    x = np.random.default_rng(1).integers(-512, 512, (2, 3, 8)).astype(np.float32) / 128
    typed = to_half(chain(), precision)
    (found,) = run(emulate_half_on_cpu(typed), {"x": x})
    expected = chain_by_hand(chain(), x, NARROW[precision])
    assert np.allclose(found, expected, rtol=5e-7, atol=2e-6)
    (exact,) = run(chain(), {"x": x})
    assert np.abs(exact - expected).max() > 1e-4  # the rounding is there to be seen


def test_onnx_runtime_rounds_float16_as_the_rounded_graph_does() -> None:
    x = np.random.default_rng(2).integers(-512, 512, (1, 3, 8)).astype(np.float32) / 128
    typed = to_half(chain(), "fp16")
    assert np.allclose(run(typed, {"x": x})[0], run(emulate_half_on_cpu(typed), {"x": x})[0], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_types_of_the_network(exported: Exported, precision: str) -> None:
    graph = onnx.load(exported.onnx)
    typed = to_half(graph, precision)
    inlined = onnx.inliner.inline_local_functions(typed)
    onnx.shape_inference.infer_shapes(inlined, check_type=True, strict_mode=True)  # every node has types that fit it
    heads = output_convolutions(graph)
    kinds = {w.name: w.data_type for w in typed.graph.initializer}
    convolutions = [node for node in typed.graph.node if node.op_type == "Conv"]
    assert len(heads) == HEADS
    for node in convolutions:
        assert kinds[node.input[1]] == (TensorProto.FLOAT if node.name in heads else HALF[precision]), node.name
    assert {o.type.tensor_type.elem_type for o in typed.graph.output} == {TensorProto.FLOAT}
    produced = {name: node for node in typed.graph.node for name in node.output}
    wide = {"InstanceNormalization", "Exp", "Round", "Sub", "Div", "Mul", "Add", "Clip"}
    for node in typed.graph.node:
        if node.op_type in wide:  # nothing of the islands reads half-precision numbers
            assert not any(_is_half(name, produced, kinds, precision) for name in node.input), node.name
        if node.op_type == "boundary_max_pooling":
            assert _is_half(node.input[0], produced, kinds, precision)
            assert not _is_half(node.input[1], produced, kinds, precision)


def _is_half(name: str, produced: dict[str, onnx.NodeProto], weights: dict[str, int], precision: str) -> bool:
    """By walking back to what fixes the type: a weight, a cast, or a convolution's weights."""
    if name in weights:
        return weights[name] == HALF[precision]
    node = produced.get(name)
    if node is None or node.op_type in ("Shape", "Constant"):
        return False
    if node.op_type == "Cast":
        return next(a.i for a in node.attribute if a.name == "to") == HALF[precision]
    return _is_half(node.input[1 if node.op_type == "Conv" else 0], produced, weights, precision)


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 0.01), ("bf16", 0.08)])
def test_drift_of_the_network(exported: Exported, tmp_path: Path, precision: str, limit: float) -> None:
    """2⁻¹¹ and 2⁻⁸ per rounding, over a few dozen layers: the class logits differ by that order, and do differ."""
    typed = to_half(onnx.load(exported.onnx), precision)
    save_graph(emulate_half_on_cpu(typed), tmp_path / "rounded.onnx")
    reference, engine = open_engine(exported.onnx), open_engine(tmp_path / "rounded.onnx")
    assert (engine.precision, precision_of(typed)) == (precision, precision)
    inputs = seeded_inputs(reference.spec, 5, 2)
    expected, found = reference.infer(inputs)["conf"], engine.infer(inputs)["conf"]
    relative = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert limit / 50 < relative < limit


def test_the_graph_given_stays_as_it_is() -> None:
    graph = chain()
    before = graph.SerializeToString()
    to_half(graph, "fp16")
    assert graph.SerializeToString() == before


def test_what_is_refused() -> None:
    with pytest.raises(ExportError, match="the graph is fp16 already; give a float32 model"):
        to_half(to_half(chain(), "fp16"), "bf16")
    with pytest.raises(ExportError, match=r"weight inner.w reaches 2e\+05, fp16 holds 65504; use bf16 or fp32"):
        to_half(chain(1e5), "fp16")
    assert precision_of(to_half(chain(1e5), "bf16")) == "bf16"


def quantised(zero: int, *, bias: bool = False) -> onnx.ModelProto:
    """A convolution whose input is quantised, with a zero point and a quantised bias as asked."""
    weights = [
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.int8(zero), "zero"),
        numpy_helper.from_array(np.ones((2, 3, 1), np.float32), "w"),
        numpy_helper.from_array(np.ones(2, np.int32) if bias else np.ones(2, np.float32), "stored"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="dequantise"),
        *([helper.make_node("DequantizeLinear", ["stored", "scale"], ["b"], name="dequantise_bias")] if bias else []),
        helper.make_node("Conv", ["d", "w", "b" if bias else "stored"], ["y"], name="conv"),
    ]
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, k, 8]) for n, k in (("x", 3), ("y", 2))]
    return helper.make_model(helper.make_graph(nodes, "q", io[:1], io[1:], weights))


def test_only_symmetric_quantisation_goes_to_tensorrt() -> None:
    assert precision_of(quantised(0)) == "int8"
    require_symmetric(quantised(0), "model.onnx")
    with pytest.raises(
        ExportError, match=r"model\.onnx: quantise has a zero point other than 0, which TensorRT refuses"
    ):
        require_symmetric(quantised(3), "model.onnx")
    with pytest.raises(ExportError, match=r"dequantise_bias dequantises an INT32 bias, which TensorRT refuses"):
        require_symmetric(quantised(0, bias=True), "model.onnx")
