"""Where numbers are rounded, and that the written graph computes what it says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from calibration.quantise.placement import PASS_THROUGH, Placement
from calibration.quantise.qdq import compute_weight_scales, insert_qdq, quantise_weight, round_weight
from calibration.ranges.choose import Numbers, Quantiser, make_quantiser
from calibration.ranges.collect import Inputs, TensorProbe
from export.comparison.drift import measure_drift_on_windows
from export.graph.carried_spec import write_carried_spec
from export.graph.convolutions import report_convolutions
from export.graph.files import save_graph
from export.graph.precision import output_convolutions, precision_of, require_symmetric
from export.to_openvino import convert, export_openvino, read_openvino_layers
from runtime.engines import open_engine
from runtime.errors import ExportError, InputError
from runtime.spec.model import METADATA_KEY, Quantization, spec_from_json
from tests.conftest import Exported
from tests.quantise import quantised_graph, quantisers_of
from tests.tiny import tiny_spec

NUMBERS: tuple[Numbers, ...] = ("uint8", "int8", "fp8")


def test_layers_are_all_convolutions_but_the_outputs(exported: Exported, placement: Placement) -> None:
    graph = onnx.load(exported.onnx)
    convolutions = {node.name for node in graph.graph.node if node.op_type == "Conv"}
    assert set(placement.layer_of) == convolutions - output_convolutions(graph)
    assert {name for layer in placement.layers for name in layer.nodes} == set(placement.point_of)
    names = [layer.name for layer in placement.layers]
    assert "backbone._model.Mixed_3b.b1a.conv3d" in names
    tower = placement.layers[names.index("coarse_pyramid_detection.loc_tower.0.0.conv1d")]
    assert len(tower.nodes) == 3  # one for each level
    spec = open_engine(exported.onnx).spec
    heads = spec.multiply_adds - sum(layer.multiply_adds for layer in placement.layers)
    assert 0 < heads < 0.01 * spec.multiply_adds


def test_branches_of_a_concatenation_share_a_point(placement: Placement) -> None:
    for node in placement.graph.graph.node:
        if node.op_type == "Concat" and any("Mixed" in s for s in node.input):
            sources = {s for name in node.input for s in placement.origins(name)}
            assert sum(sources <= set(point.tensors) for point in placement.points) == 1
    every = [tensor for point in placement.points for tensor in point.tensors]
    assert len(every) == len(set(every))
    inception = [point for point in placement.points if len(point.tensors) == 4]
    assert len(inception) == 9  # Mixed_3b … 5c


def test_only_float_graphs(exported: Exported, windows: list[Inputs]) -> None:
    with pytest.raises(ExportError, match="small: is int8 already; calibrate the float32 ONNX file"):
        Placement(quantised_graph(exported.onnx, "int8", windows), "small")


@pytest.mark.parametrize("numbers", NUMBERS)
def test_the_graph_stays_in_eight_bit(placement: Placement, windows: list[Inputs], numbers: Numbers) -> None:
    """Every quantised convolution reads rounded numbers, at once or through pools and concatenations; nothing that was
    rounded is rounded again, but behind a pool for TensorRT; one scale for all that meet."""
    graph = insert_qdq(placement, quantisers_of(placement, numbers, windows))
    assert precision_of(graph) == ("fp8" if numbers == "fp8" else "int8")
    producers = {name: node for node in graph.graph.node for name in node.output}
    heads = output_convolutions(placement.graph)
    for node in graph.graph.node:
        if node.op_type == "Conv" and node.name not in heads:
            assert producers[node.input[1]].op_type == "DequantizeLinear"
            behind = [node.input[0]]
            scales = set()
            while behind:
                before = producers[behind.pop()]
                if before.op_type in PASS_THROUGH:
                    behind.extend(before.input)
                else:
                    assert before.op_type == "DequantizeLinear"
                    scales.add(before.input[1])
            assert len(scales) == 1
        if node.op_type == "QuantizeLinear":
            before = producers.get(node.input[0])
            passed_on = before is not None and before.op_type in PASS_THROUGH
            assert passed_on == (numbers != "uint8" and before is not None and before.op_type == "MaxPool")
    if numbers != "uint8":
        require_symmetric(graph, "small")
    kinds = {w.data_type for w in graph.graph.initializer if w.name.endswith("_zero_point")}
    expected = {"uint8": {TensorProto.UINT8, TensorProto.INT8}, "int8": {TensorProto.INT8}}
    assert kinds == expected.get(numbers, {TensorProto.FLOAT8E4M3FN})


def test_rounding_again_behind_a_pool_changes_nothing(placement: Placement, windows: list[Inputs]) -> None:
    graph = insert_qdq(placement, quantisers_of(placement, "int8", windows))
    again = [n for n in graph.graph.node if n.op_type == "QuantizeLinear" and n.input[0].startswith("max_pool3d")]
    assert again
    inside = TensorProbe(graph, [name for node in again for name in (node.input[0], f"{node.input[0]}_dq")])
    values = inside(windows[0])
    for node in again:
        np.testing.assert_array_equal(values[node.input[0]], values[f"{node.input[0]}_dq"])


def test_weights_have_a_scale_for_each_output_channel() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    weight[2] = 0
    weight[3] *= 1000
    for numbers in ("int8", "fp8"):
        scales = compute_weight_scales(weight, numbers)  # type: ignore[arg-type]
        stored = quantise_weight(weight, scales, numbers)  # type: ignore[arg-type]
        largest = np.abs(stored.astype(np.float32)).reshape(6, -1).max(axis=1)
        assert largest.tolist() == [127 if numbers == "int8" else 448] * 2 + [0] + largest[3:].tolist()
        step = scales[:, None, None] * (0.5 if numbers == "int8" else 16)
        assert (np.abs(round_weight(weight, numbers) - weight) <= step * 1.001).all()  # type: ignore[arg-type]


def block() -> onnx.ModelProto:
    """x → conv a → ReLU → (conv b → ReLU | max-pool) → concat → conv c → conv d (the output)."""
    rng = np.random.default_rng(0)
    shapes = {"a": (4, 2, 3, 3), "b": (3, 4, 1, 1), "c": (5, 7, 3, 3), "d": (2, 5, 1, 1)}
    constants = []
    for name, shape in shapes.items():
        constants += [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), f"{name}.weight"),
            numpy_helper.from_array(rng.normal(size=shape[0]).astype(np.float32), f"{name}.bias"),
        ]
    node = helper.make_node

    def conv(name: str, read: str, pads: int = 0) -> onnx.NodeProto:
        return node("Conv", [read, f"{name}.weight", f"{name}.bias"], [name], name=f"conv_{name}", pads=[pads] * 4)

    nodes = [
        conv("a", "x", 1), node("Relu", ["a"], ["ra"], name="ra"),
        conv("b", "ra"), node("Relu", ["b"], ["rb"], name="rb"),
        node("MaxPool", ["ra"], ["pool"], name="pool", kernel_shape=[3, 3], pads=[1] * 4),
        node("Concat", ["rb", "pool"], ["cat"], name="cat", axis=1), conv("c", "cat", 1), conv("d", "c"),
    ]  # fmt: skip
    infos = {"x": (1, 2, 8, 8), "a": (1, 4, 8, 8), "ra": (1, 4, 8, 8), "b": (1, 3, 8, 8), "c": (1, 5, 8, 8)}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in infos.items()]
    out = helper.make_tensor_value_info("d", TensorProto.FLOAT, (1, 2, 8, 8))
    graph = helper.make_graph(nodes, "block", values[:1], [out], constants, value_info=values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    write_carried_spec(model, tiny_spec())
    return model


def by_hand(
    x: torch.Tensor, model: onnx.ModelProto, steps: dict[str, Quantiser], floats: Sequence[str]
) -> torch.Tensor:
    """The block in PyTorch, rounding where it should be."""
    values = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    numbers: Numbers = "fp8" if steps["x"].numbers == "fp8" else "int8"

    def rounded(tensor: torch.Tensor, point: str) -> torch.Tensor:
        return torch.from_numpy(steps[point](tensor.numpy())).float()

    def conv(tensor: torch.Tensor, name: str, padding: int = 0) -> torch.Tensor:
        weight = values[f"{name}.weight"]
        weight = weight if name in (*floats, "d") else round_weight(weight, numbers)
        return F.conv2d(tensor, torch.tensor(weight), torch.tensor(values[f"{name}.bias"]), padding=padding)

    ra = F.relu(conv(rounded(x, "x") if "a" not in floats else x, "a", 1))
    shared = rounded(ra, "ra")
    rb = F.relu(conv(shared if "b" not in floats else ra, "b"))
    cat = torch.cat([rounded(rb, "ra"), F.max_pool2d(shared, 3, 1, 1)], dim=1)
    return conv(conv(cat, "c", 1), "d")


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("floats", [(), ("a",), ("b",)])
def test_a_block_by_hand(numbers: Numbers, floats: tuple[str, ...]) -> None:
    """ONNX's own reference implementation of the written graph, beside PyTorch with the rounding put in by hand."""
    model = block()
    placement = Placement(model, "block")
    assert [layer.name for layer in placement.layers] == ["a", "b", "c"]  # d gives the output
    assert sorted(map(len, (point.tensors for point in placement.points))) == [1, 2]  # x; ra with rb
    x = np.random.default_rng(1).normal(size=(1, 2, 8, 8)).astype(np.float32)
    steps = {"x": make_quantiser(-3, 3, numbers), "ra": make_quantiser(0, 9, numbers)}
    named = {point.name: steps["x" if point.tensors == ("x",) else "ra"] for point in placement.points}
    graph = insert_qdq(placement, named, kept=floats)
    (found,) = ReferenceEvaluator(graph).run(None, {"x": x})
    expected = by_hand(torch.from_numpy(x), model, steps, floats).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(TensorProbe(graph, ["d"])({"x": x})["d"], expected, atol=2e-4)
    float_result = ReferenceEvaluator(model).run(None, {"x": x})[0]
    assert np.abs(found - float_result).max() > 1e-3


def test_kept_layers_in_half_and_new_biases() -> None:
    model = block()
    placement = Placement(model, "block")
    steps = {point.name: make_quantiser(-9, 9, "int8") for point in placement.points}
    bias = np.arange(5, dtype=np.float32)
    graph = insert_qdq(placement, steps, kept=["a"], biases={"c.bias": bias, "a.bias": bias[:4]}, half="fp16")
    constants = {w.name: w for w in graph.graph.initializer}
    first = next(node for node in graph.graph.node if node.name == "conv_a")
    assert {constants[name].data_type for name in first.input[1:]} == {TensorProto.FLOAT16}
    assert "a.weight" not in constants
    np.testing.assert_array_equal(numpy_helper.to_array(constants["c.bias"]), bias)
    onnx.checker.check_model(graph, full_check=True)
    x = np.random.default_rng(1).normal(size=(1, 2, 8, 8)).astype(np.float32)
    plain = insert_qdq(placement, steps, kept=["a"], biases={"c.bias": bias})
    found, expected = (ReferenceEvaluator(g).run(None, {"x": x})[0] for g in (graph, plain))
    assert 0 < np.abs(found - expected).mean() < 0.01 * np.abs(expected).mean()  # half moves a rounding or two
    everything = insert_qdq(placement, steps, kept=["a", "b", "c"])
    assert not any("Linear" in node.op_type for node in everything.graph.node)


def test_the_record_travels_with_the_file(placement: Placement, windows: list[Inputs]) -> None:
    record = Quantization("openvino", "mse", ("bias corrected",), 3, {"a": "0123"}, "c", "t", ("backbone.x",))
    graph = insert_qdq(placement, quantisers_of(placement, "uint8", windows), record=record)
    carried = next(entry.value for entry in graph.metadata_props if entry.key == METADATA_KEY)
    assert spec_from_json(carried, "x").quantization == record


@pytest.mark.slow
def test_openvino_runs_it_in_eight_bit(exported: Exported, windows: list[Inputs], tmp_path: Path) -> None:
    """All convolutions but the outputs, whatever the engine does to the graph; and with the same numbers."""
    pytest.importorskip("openvino")
    graph = quantised_graph(exported.onnx, "uint8", windows)
    source = tmp_path / "small.int8.onnx"
    save_graph(graph, source)
    said: list[str] = []
    written = export_openvino(source, say=said.append)
    assert (tmp_path / "small.int8.xml.drift.json").is_file()
    assert not any("drift" in line for line in said)  # the engines differ by roundings, which tells no user anything
    assert any("the same network as small.int8.onnx, apart from roundings" in line for line in said)
    assert any("what 8 bit does to detections is not known: afsd calibrate --test VIDEO" in line for line in said)
    with pytest.raises(InputError, match=r"--videos: .*small\.onnx is not calibrated"):
        export_openvino(exported.onnx, tmp_path / "x.xml", videos=[tmp_path / "v.mp4"])
    engine = open_engine(written)
    assert (engine.precision, engine.spec.precision) == ("int8", "int8")
    report = report_convolutions(read_openvino_layers(written), graph, "int8")
    heads = len(output_convolutions(graph))
    assert report.by_precision == {"int8": report.total - heads, "fp32": heads}
    assert set(report.others) == {f"{name} (fp32, output head)" for name in output_convolutions(graph)}
    assert any(line.startswith(f"convolutions: {report.total - heads} of {report.total} in int8") for line in said)
    drift = measure_drift_on_windows(open_engine(exported.onnx), engine)
    assert 0 < next(output.relative for output in drift.outputs if output.name == "conf") < 0.3


def test_openvino_takes_no_fp8(exported: Exported, windows: list[Inputs], tmp_path: Path) -> None:
    graph = quantised_graph(exported.onnx, "fp8", windows)
    with pytest.raises(ExportError, match="the graph is fp8, which is for GPUs"):
        convert(graph, open_engine(exported.onnx).spec, tmp_path / "x.xml")


def test_a_graph_of_another_exporter() -> None:
    """Nodes without names, sizes that have to be inferred."""
    model = block()
    expected = [point.tensors for point in Placement(model, "block").points]
    for node in model.graph.node:
        node.name = ""
    del model.graph.value_info[:]
    placement = Placement(model, "bare")
    assert [point.tensors for point in placement.points] == expected
    assert [layer.multiply_adds for layer in placement.layers] == [64 * 72, 64 * 12, 64 * 315]
    assert all(node.name for node in placement.graph.graph.node)
