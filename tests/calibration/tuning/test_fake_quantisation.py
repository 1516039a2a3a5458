"""Fake quantisation against ONNX Runtime, bit for bit where nothing is summed; its gradient; what it leaves alone."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.tuning.fake_quantisation import InputQuantiser, LayerRounding, Layers, quantise_layers, round_weight
from runtime.errors import InputError
from tests.calibration.observed import observed, spanning, units
from tests.conftest import Exported
from tests.training.small import small_config
from training.afsd.network import AFSD
from training.checkpoints.files import build_model, load_checkpoint
from training.deployment.views import Deployed
from training.networks.layers import Unit3D

UINT8 = InputQuantiser(0.0231, 97, 0, 255)
INT8 = InputQuantiser(1 / 3, 0, -127, 127)
TOWER = "coarse_pyramid_detection.loc_tower.0.0.conv1d.weight"


def run(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.generic]], x: NDArray[np.float32]) -> NDArray[np.float32]:  # fmt: skip  # noqa: E501
    """Output "y" of nodes that read "x", by ONNX Runtime without rewriting the graph."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), {"x": x})[0]


def session(model: onnx.ModelProto, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.float32]] = found.run(None, inputs)
    return outputs


def pair(tensor: str, scale: str, zero: str, result: str, axis: int | None = None) -> list[onnx.NodeProto]:
    """QuantizeLinear and DequantizeLinear."""
    where = {} if axis is None else {"axis": axis}
    return [
        helper.make_node("QuantizeLinear", [tensor, scale, zero], [f"{result}_q"], **where),
        helper.make_node("DequantizeLinear", [f"{result}_q", scale, zero], [result], **where),
    ]


@pytest.mark.parametrize(("quantiser", "kind"), [(UINT8, np.uint8), (INT8, np.int8)], ids=["uint8", "int8"])
def test_inputs_are_rounded_as_in_onnx_bit_for_bit(quantiser: InputQuantiser, kind: type[np.generic]) -> None:
    """Random values, and all those in the middle between two steps, where a rounding shows itself."""
    scale = np.float32(quantiser.scale)
    middles = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) * scale
    values = np.random.default_rng(0).normal(0, 60 * scale, 1_000_000).astype(np.float32)
    x = np.concatenate([middles, values, np.float32([0, 1e30, -1e30])])
    constants: dict[str, NDArray[np.generic]] = {
        "scale": np.asarray(scale), "zero": np.asarray(quantiser.zero_point, kind)
    }  # fmt: skip
    expected = run(pair("x", "scale", "zero", "y"), constants, x)
    if quantiser is INT8:
        expected = np.clip(expected, -127 * scale, 127 * scale)  # ONNX has −128 too; calibrated values stay above
    found = quantiser(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(found, expected)


def test_pytorchs_own_rounding_is_another() -> None:
    """It multiplies by 1 / scale: the reason for one of our own. When this fails, PyTorch's may be used instead."""
    scale = np.float32(UINT8.scale)
    x = torch.from_numpy((np.arange(-90, 150, dtype=np.float32) + np.float32(0.5)) * scale)
    other = torch.fake_quantize_per_tensor_affine(x, float(scale), UINT8.zero_point, UINT8.lowest, UINT8.highest)
    differences = (other - UINT8(x)).abs()
    assert differences.max().item() == pytest.approx(scale, rel=1e-4)  # a whole step
    assert 0 < int((differences > 0).sum()) < len(x) / 4


def test_middles_go_to_the_even_neighbour() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert InputQuantiser(1.0, 3, 0, 255)(x).tolist() == [-2, -2, 0, 0, 2, 2]


def test_weights_are_rounded_as_in_onnx_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 5, 3, 3, 3, generator=generator) * torch.logspace(-4, 2, 8).reshape(-1, 1, 1, 1, 1)
    weight[3] = 0
    weight[5] = ((torch.arange(135) - 67.5) * 0.0231).reshape(5, 3, 3, 3)  # in the middle between two steps
    weight[5, 0, 0, 0, 0] = 127 * 0.0231
    largest = weight.abs().flatten(1).amax(dim=1).numpy()
    scales = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    constants: dict[str, NDArray[np.generic]] = {"scale": scales, "zero": np.zeros(8, np.int8)}
    expected = run(pair("x", "scale", "zero", "y", axis=0), constants, weight.numpy())
    np.testing.assert_array_equal(round_weight(weight).numpy(), expected)
    assert not expected[3].any()


def test_gradient_passes_inside_the_range_and_stops_outside() -> None:
    quantiser = InputQuantiser(0.5, 2, 0, 7)  # −1 … 2.5
    x = torch.tensor([-1.3, -1.2, -0.3, 0.1, 2.7, 2.8], requires_grad=True)
    factors = torch.arange(1.0, 7.0)
    (quantiser(x) * factors).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 0]  # −1.2 and 2.7 are outside, but round to the ends
    weight = torch.randn(4, 3, 3, requires_grad=True)
    (round_weight(weight) ** 2).sum().backward()
    torch.testing.assert_close(weight.grad, 2 * round_weight(weight).detach())


def test_a_unit_equals_its_folded_quantised_convolution() -> None:
    """Conv, batch norm with factors of both signs, ReLU, odd padding: fold in numpy, quantise, run by ONNX Runtime."""
    torch.manual_seed(1)
    unit = Unit3D(3, 6, (3, 3, 3), (1, 2, 2)).eval()
    assert unit.bn is not None
    with torch.no_grad():
        unit.bn.weight.copy_(torch.tensor([1.5, -0.7, 0.01, 30.0, -2.0, 1.0]))
        unit.bn.bias.uniform_(-0.5, 0.5)
        unit.bn.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
        unit.bn.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    x = torch.randn(2, 3, 4, 8, 8)
    quantiser = spanning(-2.0, 3.0)
    unit.rounding = LayerRounding("unit", {4: quantiser})
    with torch.no_grad():
        found = unit(x).numpy()
        unit.rounding = None
        not_quantised = unit(x).numpy()

    state = {name: value.numpy() for name, value in unit.state_dict().items()}
    factor = state["bn.weight"] / np.sqrt(state["bn.running_var"] + np.float32(1e-3))
    folded = state["conv3d.weight"] * factor.reshape(-1, 1, 1, 1, 1)
    scales = np.abs(folded).reshape(6, -1).max(axis=1) / np.float32(127)
    constants: dict[str, NDArray[np.generic]] = {
        "scale": np.float32(quantiser.scale), "zero": np.asarray(quantiser.zero_point, np.uint8), "w": folded,
        "w_scale": scales, "w_zero": np.zeros(6, np.int8), "bias": state["bn.bias"] - state["bn.running_mean"] * factor,
    }  # fmt: skip
    nodes = [
        *pair("x", "scale", "zero", "x_dq"),
        *pair("w", "w_scale", "w_zero", "w_dq", axis=0),
        helper.make_node("Conv", ["x_dq", "w_dq", "bias"], ["c"], pads=[1, 0, 0, 1, 1, 1], strides=[1, 2, 2]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    expected = run(nodes, constants, x.numpy())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())
    assert np.abs(found - not_quantised).max() > 1e-3 * expected.max()


@pytest.fixture(scope="module")
def network(exported: Exported) -> AFSD:
    """The exported small network."""
    return build_model(load_checkpoint(exported.checkpoint))


@pytest.fixture
def model(network: AFSD) -> AFSD:
    return copy.deepcopy(network)


def frames(seed: int, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, 32, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def with_pairs(path: Path, layers: Layers) -> onnx.ModelProto:
    """The exported float file with Q/DQ right before every convolution of `layers` and its folded weight rounded."""
    model = onnx.load(path)
    graph, nodes = model.graph, list(model.graph.node)
    weights = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    lengths = {v.name: v.type.tensor_type.shape.dim[2].dim_value for v in graph.value_info if v.type.tensor_type.shape.dim[2:]}  # fmt: skip  # noqa: E501
    del graph.node[:]
    for node in nodes:
        name = node.input[1].removeprefix("model.") if node.op_type == "Conv" else ""
        if name in layers:
            quantiser = layers[name][lengths[node.input[0]]]
            weight = weights[node.input[1]]
            scales = np.abs(weight).reshape(len(weight), -1).max(axis=1) / np.float32(127)
            constants = {
                "scale": np.float32(quantiser.scale), "zero": np.uint8(quantiser.zero_point), "w_scale": scales,
                "w_zero": np.zeros(len(weight), np.int8),
            }  # fmt: skip
            graph.initializer.extend(
                numpy_helper.from_array(np.asarray(value), f"{node.name}.{key}") for key, value in constants.items()
            )
            scale, zero, w_scale, w_zero = (f"{node.name}.{key}" for key in constants)
            graph.node.extend(pair(node.input[0], scale, zero, f"{node.name}.x"))
            graph.node.extend(pair(node.input[1], w_scale, w_zero, f"{node.name}.w", axis=0))
            node.input[0], node.input[1] = f"{node.name}.x", f"{node.name}.w"
        graph.node.append(node)
    return model


def test_the_quantised_network_equals_its_export_with_pairs(model: AFSD, exported: Exported) -> None:
    """All levels and branches, window by window.

    The libraries' sums differ in their last bits, which can move a number in the middle between two steps by a whole
    one; what follows in that window then differs. Few windows of noise hold such a number; a wrong quantiser anywhere
    would part them all.
    """
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (8, 32, 32, 32, 3), generator=generator, dtype=torch.uint8)
    lengths, deployed = torch.tensor([32, 20] * 4, dtype=torch.int32), Deployed(model).eval()
    with torch.no_grad():
        not_quantised = deployed(pixels, lengths)
        layers = observed(model, frames(5, batch=4))
        quantise_layers(model, layers)
        found = deployed(pixels, lengths)
    graph = with_pairs(exported.onnx, layers)
    assert sum(node.op_type == "QuantizeLinear" for node in graph.graph.node) == 2 * sum(map(len, layers.values()))
    expected = session(graph, {"frames": pixels.numpy(), "lengths": lengths.numpy()})
    assert [output.name for output in graph.graph.output] == list(found._fields)
    same = np.ones(8, bool)
    for a, b, c in zip(found, expected, not_quantised, strict=True):
        error, rounding = (np.abs(b - other.numpy()).reshape(8, -1).mean(axis=1) for other in (a, c))
        assert (error < rounding).all()
        same &= error < 0.01 * rounding
    assert same.sum() >= 4


def test_names_and_values_stay_and_the_network_can_be_float_again(model: AFSD) -> None:
    before, x = {name: value.clone() for name, value in model.state_dict().items()}, frames(1)
    with torch.no_grad():
        expected = model(x)
        quantise_layers(model, observed(model, x, levels=16))
        quantised = model(x)
        assert list(model.state_dict()) == list(before)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        quantise_layers(model, {})
        again = model(x)
    assert not torch.allclose(quantised.conf, expected.conf, atol=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))


def test_every_path_is_quantised(model: AFSD) -> None:
    """`detect` gives what `forward` gives, and the rearranged clip takes the same roundings."""
    x = frames(2)
    layers = observed(model, x, levels=16)
    with torch.no_grad():
        not_quantised = model.detect(x, x)
        quantise_layers(model, layers)
        output, features, rearranged = model.detect(x, x)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(output, model(x), strict=True))
    assert features is not None
    assert rearranged is not None
    for name in rearranged._fields:
        own, other, unrounded = (getattr(part, name) for part in (features, rearranged, not_quantised[2]))
        torch.testing.assert_close(own, other)
        assert not torch.allclose(other, unrounded, atol=1e-3), name


def test_more_levels_come_closer_to_float(model: AFSD) -> None:
    x, errors = frames(3), []
    with torch.no_grad():
        expected = model(x).conf
        for levels in (4, 32, 256):
            quantise_layers(model, {})
            quantise_layers(model, observed(model, x, levels))
            errors.append((model(x).conf - expected).abs().mean().item())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_what_does_not_fit_is_one_line(model: AFSD) -> None:
    name, _ = next(units(model))
    with pytest.raises(
        InputError,
        match=r"loc_tower.*: 1 of 2 names are not .* as .*weight; are they of another",
    ):
        quantise_layers(model, {"loc_tower.weight": {8: UINT8}, TOWER: {8: UINT8}})
    with pytest.raises(InputError, match=f"{name}: no quantiser given, expected one at least"):
        quantise_layers(model, {name: {}})
    quantise_layers(model, {TOWER: {8: UINT8, 4: UINT8}})  # the third level, of 2 locations, is forgotten
    with pytest.raises(InputError, match=rf"{TOWER}: got an input of length 2, expected one of \[4, 8\]"):
        model(frames(4))
    quantise_layers(model, {TOWER: {8: UINT8}})
    model(frames(4))  # a single quantiser serves every length


@pytest.mark.parametrize(
    ("scale", "zero", "message"),
    [
        (0.0, 0, "scale of a quantiser is 0.0, expected a positive number"),
        (float("nan"), 0, "scale of a quantiser is nan"),
        (1.0, 256, "zero point of a quantiser is 256, expected 0 … 255"),
    ],
)
def test_bad_quantisers_are_refused(scale: float, zero: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        InputQuantiser(scale, zero, 0, 255)


def test_small_config_is_what_these_tests_take_it_for() -> None:
    assert small_config().model.level_lengths == (8, 4, 2)
