"""A2Net's network against the released names, shapes and counts, and the golden forwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.to_onnx import export_onnx
from runtime.engines import open_engine
from runtime.errors import CheckpointError
from runtime.spec.decoding_constants import ACTIVITYNET as ACTIVITYNET_DECODING
from runtime.spec.decoding_constants import A2NetDecoding
from tests.golden_network import GOLDEN, formula_input, formula_weights
from training.a2net.config import A2NetConfig, A2NetLossConfig
from training.a2net.network import A2Net, A2NetOutput
from training.checkpoints.files import build_model, load_checkpoint
from training.checkpoints.recognise import recognise
from training.config.files import load_config
from training.config.settings import Config
from training.deployment.views import multiply_adds

THUMOS14 = A2NetConfig()
RELEASED = load_config("a2net_activitynet")
ACTIVITYNET = RELEASED.a2net
SMALL = A2NetConfig(in_channels=6, num_classes=4, base_channels=8, level_channels=(8, 8, 16), reduced_channels=8)
NETWORKS = {"thumos14": THUMOS14, "anet": ACTIVITYNET}
CHANNELS = (512, 1024, 1024, 2048, 2048, 4096)
"""Of the THUMOS14 levels (Table II)."""

Shapes = dict[str, tuple[int, ...]]


def _convolutions(layers: dict[str, tuple[int, ...]]) -> Shapes:
    """Name → weight shape, to names and shapes of weights and biases."""
    shapes: Shapes = {}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def thumos14_entries() -> Shapes:
    """The 59 published entries."""
    layers = {"features.base_feature_net.conv1": (512, 2048, 1), "features.base_feature_net.conv2": (512, 512, 9)}
    for i, (c_in, c_out) in enumerate(zip((512, *CHANNELS), CHANNELS, strict=False), 1):
        layers[f"features.conv{i}"] = (c_out, c_in, 3)
        layers[f"af.reduce_channels.conv{i}"] = (512, c_out, 1)
        layers[f"ab.pred{i}"] = (120, c_out, 3)
    for branch, outputs in (("cls", 21), ("reg", 2)):
        layers |= {f"af.pred.{branch}_branch.conv{i}": (512, 512, 3) for i in (1, 2)}
        layers[f"af.pred.{branch}_branch.pred"] = (outputs, 512, 3)
    return _convolutions(layers) | {f"af.scale{i}.scale": (1,) for i in range(7)}


def activitynet_entries() -> Shapes:
    """The 58 published entries."""
    layers = {"features.base.conv1": (512, 2048, 1), "features.base.conv2": (512, 512, 9)}
    for i in range(1, 8):
        layers[f"features.conv{i}"] = (512, 512, 3)
        layers[f"ab.pred{i}"] = (3 if i == 7 else 5, 512, 3)
    for branch in ("cls", "reg"):
        layers |= {f"af.pred.{branch}_branch.conv{i}": (512, 512, 3) for i in (1, 2, 3, 4)}
        layers[f"af.pred.{branch}_branch.pred"] = (2, 512, 3)
    return _convolutions(layers) | {f"af.scale{i}.scale": (1,) for i in range(1, 7)}


@pytest.mark.parametrize(
    ("network", "entries", "count", "parameters"),
    [("thumos14", thumos14_entries(), 59, 65_527_534), ("anet", activitynet_entries(), 58, 15_269_931)],
)
def test_state_dict_is_the_published_one(network: str, entries: Shapes, count: int, parameters: int) -> None:
    with torch.device("meta"):
        model = A2Net(NETWORKS[network])
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert found == entries
    assert len(found) == count
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("network", NETWORKS)
def test_forward_is_the_golden_one(network: str) -> None:
    golden = golden_arrays(network)
    with torch.device("meta"):
        model = A2Net(NETWORKS[network])
    model.load_state_dict(formula_weights(model), assign=True)
    with torch.inference_mode():
        output = model.eval()(formula_input((1, 2048, 128)))
    for name, value in output._asdict().items():
        assert value.shape == golden[name].shape
        assert np.abs(value.numpy() - golden[name]).max() <= 1e-5 * np.abs(golden[name]).max(), name


def golden_arrays(network: str) -> dict[str, Any]:
    """Golden arrays, the six anchor outputs of THUMOS14 put together."""
    golden = dict(np.load(GOLDEN / f"formula_a2net_{network}.npz"))
    if "ab" not in golden:
        golden["ab"] = np.concatenate([golden[f"ab{i}"] for i in range(1, 7)], axis=1)
    return golden


def biases(levels: int) -> int:
    """Additions of biases on THUMOS14's widths, one for each output value of a convolution (the released counter)."""
    lengths = [64 >> level for level in range(levels)]
    values = 2 * 512 * 128 + sum(c * t for c, t in zip(CHANNELS, lengths, strict=False))
    return values + sum(lengths) * (512 + 4 * 512 + 21 + 2 + 120)


@pytest.mark.parametrize(("levels", "paper"), [(3, 1.02), (4, 1.11), (5, 1.18), (6, 1.24)])
def test_multiply_adds_of_table_vi(levels: int, paper: float) -> None:
    count = multiply_adds(Config(a2net=replace(THUMOS14, level_channels=CHANNELS[:levels])))
    assert round((count + biases(levels)) / 1e9, 2) == paper
    if levels == 6:
        assert count == 1_239_018_496
        assert 2 * (count + biases(levels)) == 2_479_209_668  # what the released counter prints


def test_one_module_alone_is_its_half_of_both() -> None:
    torch.manual_seed(0)
    both, features = A2Net(SMALL).eval(), torch.randn(2, 6, 128)
    output = both(features)
    for modules, present in (("anchor-free", ("af_cls", "af_reg")), ("anchor-based", ("ab",))):
        alone = A2Net(replace(SMALL, modules=modules)).eval()  # type: ignore[arg-type]
        alone.load_state_dict({k: v for k, v in both.state_dict().items() if k in alone.state_dict()})
        for name, value in alone(features)._asdict().items():
            assert (value is not None) == (name in present)
            assert value is None or torch.equal(value, getattr(output, name))


def test_anchors_run_cell_by_cell_then_ratio_by_ratio() -> None:
    """Biases alone: value v of ratio r gets 10·r + v, the same in every cell."""
    model = A2Net(SMALL)
    assert model.ab is not None
    with torch.no_grad():
        for prediction in model.ab.values():
            prediction.weight.zero_()
            prediction.bias.copy_(torch.arange(5).repeat_interleave(7) * 10 + torch.arange(7).repeat(5))
        ab = model(torch.randn(1, 6, 128)).ab
    expected = torch.tensor([[10.0 * ratio + value for value in range(7)] for ratio in range(5)])
    assert torch.equal(ab[0], expected.repeat(64 + 32 + 16, 1))


def test_outputs_leave_half_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output: A2NetOutput = A2Net(SMALL)(torch.randn(1, 6, 128))
    assert {value.dtype for value in output if value is not None} == {torch.float32}


def test_published_file_loads_strictly(tmp_path: Path) -> None:
    torch.manual_seed(1)
    anchors_alone = replace(
        SMALL, modules="anchor-based", reduced_channels=THUMOS14.reduced_channels
    )  # not in the file
    for config in (SMALL, anchors_alone, replace(SMALL, modules="anchor-free")):
        model = A2Net(config)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        sum(value.sum() for value in model(torch.randn(1, 6, 128)) if value is not None).backward()
        optimizer.step()
        path = tmp_path / "model_38.pth"
        torch.save({"epoch": 38, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
        loaded = build_model(load_checkpoint(path))
        assert isinstance(loaded, A2Net)
        assert loaded.config == config
        assert not loaded.training
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_presets_are_the_released_settings() -> None:
    config = load_config("a2net_thumos14")
    assert (config.a2net, config.a2net_loss, config.a2net_decoding) == (THUMOS14, A2NetLossConfig(), A2NetDecoding())
    assert RELEASED.a2net_decoding == ACTIVITYNET_DECODING


@pytest.mark.thorough
def test_a_published_file_exports_to_the_golden_outputs(tmp_path: Path) -> None:
    """`model_NN.pth` of the released ActivityNet network → ONNX in one command → the reference's outputs."""
    golden = golden_arrays("anet")
    path = tmp_path / "model_24.pth"
    torch.save({"epoch": 24, "model": formula_weights(A2Net(ACTIVITYNET)), "optimizer": {}}, path)
    engine = open_engine(export_onnx(path))
    assert engine.spec.classes == ("action",)
    steps = formula_input((1, 2048, 128)).numpy()
    outputs = engine.infer({"features": steps, "lengths": np.array([128], np.int32)})
    engine.close()
    for name, value in outputs.items():
        np.testing.assert_allclose(value, golden[name].reshape(value.shape), rtol=1e-3, atol=2e-3, err_msg=name)


def test_released_networks_are_recognised() -> None:
    for config in NETWORKS.values():
        with torch.device("meta"):
            weights = A2Net(config).state_dict()
        assert recognise(weights, "file").a2net == config


def test_files_of_something_else(tmp_path: Path) -> None:
    weights = A2Net(SMALL).state_dict()
    del weights["af.scale3.scale"]
    torch.save(weights, tmp_path / "short.pth")
    with pytest.raises(CheckpointError, match=r"af\.scale3\.scale is missing"):
        build_model(load_checkpoint(tmp_path / "short.pth"))
    torch.save({"model": {"backbone.weight": torch.ones(1)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="a state dict of no published network"):
        load_checkpoint(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_steps": 100}, "window_steps is 100, expected a positive multiple of 8"),
        ({"num_classes": 1}, "num_classes: got 1"),
        ({"level_channels": ()}, "level_channels"),
        ({"anchor_ratios": ((1.0,), (1.0,))}, "anchor_ratios has 2 entries, expected 1 or 3"),
        ({"reduced_channels": 0}, "expected reduced_channels above 0"),
        ({"point_levels": 4}, "point_levels is 4, expected 0 to 3"),
        ({"anchor_outputs": "overlap"}, "num_classes is 4, expected 2"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        A2Net(replace(SMALL, **changes))
