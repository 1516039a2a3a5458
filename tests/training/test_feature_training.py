"""Both families trained on features: what is learnt from which videos, resumed runs, and misuse in one line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.errors import AfsdError, CheckpointError, ConfigError, InputError
from tests.training.feature_data import (
    CLASSES,
    FAMILIES,
    NETWORKS,
    SAMPLING,
    WIDTH,
    make_feature_set,
    small_feature_config,
)
from training.afsd.config import ModelConfig
from training.afsd.network import AFSD
from training.afsd.projection import DilatedUnit, FeatureProjection
from training.afsd.step import TrainingStep
from training.checkpoints.files import build_model, load_checkpoint
from training.data.dataset import collate
from training.deployment.views import model_spec
from training.families import build_network
from training.loop.trainer import LAST, Trainer
from training.run import train
from training.training_set import open_feature_windows


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_feature_set(tmp_path_factory.mktemp("features"))


def rows(out: Path) -> list[dict[str, str]]:
    """The logged rows, wall times left out."""
    with (out / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("network", NETWORKS)
def test_the_checkpoint_holds_what_the_data_said(network: str, root: Path, tmp_path: Path) -> None:
    last = train(small_feature_config(network, root, "run.max_steps=1"), tmp_path)
    checkpoint = load_checkpoint(last)
    config = checkpoint.config
    assert checkpoint.classes == CLASSES
    assert (config.num_classes, config.in_features) == (3, WIDTH)
    assert config.family == FAMILIES[network]
    assert config.data.feature_sampling == SAMPLING
    spec = model_spec(config, checkpoint.classes)
    assert (spec.sample_fps, spec.features, spec.channels) == (pytest.approx(5.0), SAMPLING, WIDTH)
    assert spec.inputs[0].shape == ("batch", WIDTH, 32)
    features = torch.zeros(1, WIDTH, 32)
    found = [tuple(v.shape[1:]) for v in build_model(checkpoint)(features) if v is not None]
    assert found == [t.shape[1:] for t in spec.outputs]


def others_slow(name: str) -> list[object]:
    """The networks in the thorough tests, but for one, whose way is another's or is tested elsewhere."""
    return [pytest.param(n, marks=pytest.mark.slow if n == name else ()) for n in NETWORKS]


@pytest.mark.thorough
@pytest.mark.parametrize("network", others_slow("two_stage_gtea"))  # trained in the tests of the paper's tables
def test_losses_fall(network: str, root: Path, tmp_path: Path) -> None:
    settings = ("optimiser.epochs=10", "optimiser.learning_rate=3e-3", "loss.consistency=none")
    train(small_feature_config(network, root, *settings), tmp_path)
    total = [float(row["total"]) for row in rows(tmp_path)]
    assert sum(total[-4:]) < 0.6 * sum(total[:4])  # a network that does not learn stays near 1


@pytest.mark.thorough
@pytest.mark.parametrize("network", others_slow("gtea"))  # AFSD's own tests interrupt runs at every point
def test_a_resumed_run_equals_an_uninterrupted_one(network: str, root: Path, tmp_path: Path) -> None:
    config = small_feature_config(network, root, "optimiser.schedule=constant")
    train(config, tmp_path / "whole")
    short = small_feature_config(network, root, "optimiser.schedule=constant", "run.max_steps=3")
    train(short, tmp_path / "parts")
    train(config, tmp_path / "parts", tmp_path / "parts" / LAST)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    a, b = (load_checkpoint(tmp_path / name / LAST) for name in ("whole", "parts"))
    assert all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)


def test_only_the_training_videos_of_the_fold_are_seen(root: Path) -> None:
    def seen(*settings: str) -> set[str]:
        dataset = open_feature_windows(small_feature_config("gtea", root, *settings)).dataset
        return {clip.video for clip in dataset._clips}

    assert seen() == {"a0", "a1", "a2"}
    assert seen("data.fold=a") == {"b0", "b1", "b2"}
    assert seen("data.inner_group='^..'", "data.fold=b/a1") == {"a0", "a2"}


def test_targets_are_where_the_features_stand_out(root: Path) -> None:
    """Positions along the steps, from seconds by the formula of the feature set."""
    dataset = open_feature_windows(small_feature_config("gtea", root, "data.mixing.share=0")).dataset
    for index in range(len(dataset)):
        sample = dataset[index]
        for start, end, label in sample.targets.tolist():
            loud = sample.frames[int(label) - 1, round(32 * start) : round(32 * end)]
            assert loud.mean() > 1.5


def test_consistency_is_learnt_on_features(root: Path, tmp_path: Path) -> None:
    train(small_feature_config("gtea", root, "run.max_steps=4"), tmp_path)
    assert all(float(row["loss_start"]) > 0 for row in rows(tmp_path))
    assert any(float(row["loss_trip"]) > 0 for row in rows(tmp_path))


def test_padding_is_zero_whatever_stands_there(root: Path) -> None:
    """A window whose padding holds other numbers gives the same losses."""
    windows = open_feature_windows(small_feature_config("gtea", root, "loss.consistency=none", "model.dropout=0"))
    batch = collate([windows.dataset[0], windows.dataset[1]])
    valid = batch.valid.clone()
    valid[:, 20:] = False
    torch.manual_seed(0)
    step = TrainingStep(AFSD(windows.config.model), windows.config.loss)
    noisy = torch.where(valid[:, None], batch.frames, torch.randn_like(batch.frames))
    empty = torch.where(valid[:, None], batch.frames, 0.0)
    totals = [step(batch._replace(frames=frames, valid=valid)).total for frames in (noisy, empty)]
    assert torch.equal(*totals)
    assert not torch.equal(totals[0], step(batch._replace(frames=noisy)).total)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_projection_brings_features_to_the_rate_of_level_0(stride: int) -> None:
    """Against the same convolutions written as sums over taps, "same" padding with the odd zero at the back."""
    torch.manual_seed(1)
    config = ModelConfig(
        stream="features", in_features=5, head_channels=64, projection_kernels=(1, 3), feature_stride=stride,
        clip_length=32 * stride,
    )  # fmt: skip
    projection = FeatureProjection(config)
    x = torch.randn(2, 5, 16)
    found = projection(x).steps
    for unit in [*projection.units, *projection.halvings]:
        if isinstance(unit, torch.nn.GroupNorm):
            grouped = x.reshape(2, 32, -1)
            grouped = (grouped - grouped.mean(-1, keepdim=True)) / (
                grouped.var(-1, keepdim=True, unbiased=False) + 1e-5
            ).sqrt()
            x = grouped.reshape(x.shape)
        elif isinstance(unit, torch.nn.ReLU):
            x = x.clamp(min=0)
        else:
            weight, bias = unit.conv1d.weight, unit.conv1d.bias
            kernel, step = weight.shape[2], unit.stride
            total = max(kernel - step, 0)
            padded = torch.nn.functional.pad(x, (total // 2, total - total // 2))
            taps = [weight[:, :, k] @ padded[:, :, k : k + x.shape[2] : step] for k in range(kernel)]
            x = sum(taps) + bias[:, None]
    assert found.shape == (2, 64, 16 // stride)
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-5)


def test_a_dilated_unit_adds_what_it_sees_around_each_step() -> None:
    """Against sums over taps `dilation` steps apart; without an input each step stays as it is plus a constant."""
    torch.manual_seed(2)
    unit = DilatedUnit(64, 4, dropout=0.5).eval()
    x = torch.randn(1, 64, 20)
    conv, norm = unit.dilated[0].conv1d, unit.dilated[1]
    padded = torch.nn.functional.pad(x, (4, 4))
    seen = sum(conv.weight[:, :, k] @ padded[:, :, 4 * k : 4 * k + 20] for k in range(3)) + conv.bias[:, None]
    mixed = unit.mix.conv1d.weight[:, :, 0] @ norm(seen).clamp(min=0) + unit.mix.conv1d.bias[:, None]
    torch.testing.assert_close(unit(x), x + mixed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", [pytest.param("gtea", marks=pytest.mark.thorough), "a2net_gtea"])
def test_features_of_another_scale_give_the_same_detections_once_standardised(network: str, root: Path) -> None:
    """Channels less their mean over what was trained on, divided by their deviation: scale and offset do not count."""
    config = open_feature_windows(small_feature_config(network, root)).config
    torch.manual_seed(0)
    model = build_network(config)
    windows = torch.randn(2, config.in_features, config.window_length)
    for _ in range(80):  # the running mean and deviation settle
        model.train()(windows)
    scaled = build_network(config)
    scaled.load_state_dict(model.state_dict())
    for _ in range(80):
        scaled.train()(windows * 7 + 3)
    pairs = zip(model.eval()(windows), scaled.eval()(windows * 7 + 3), strict=True)
    for before, after in pairs:
        torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-3)


def _narrow(root: Path) -> None:
    path = root / "rgb" / "a1.npy"
    np.save(path, np.load(path)[:, :7])


def _nan(root: Path) -> None:
    path = root / "rgb" / "a1.npy"
    features = np.load(path)
    features[30, 4] = np.nan
    np.save(path, features)


def _unsplit(root: Path) -> None:
    document = json.loads((root / "annotations.json").read_text())
    del document["splits"]
    (root / "annotations.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("fault", "settings", "error", "message"),
    [
        (None, ["data.fold=''"], ConfigError, r"data.fold is '', expected one of a, b"),
        (None, ["data.fold=c"], ConfigError, r"data.fold is 'c', expected one of a, b"),
        (None, ["model.in_features=8"], InputError, "features of 12 channels, the model takes 8; use the"),
        (None, ["model.num_classes=9"], ConfigError, r"model.num_classes is 9, the annotations have 2 classes"),
        (None, ["data.classes=[cut, mix]"], AfsdError, "label 'pour' is not one of the classes cut, mix"),
        (None, ["data.features=no.json"], InputError, r"no\.json: file not found; expected a description"),
        (_narrow, [], InputError, r"a1.*7 channels|7 .*a1|a1.npy"),
        (_nan, [], InputError, r"a1.npy: step 30, channel 4 is nan"),
        (_unsplit, [], AfsdError, 'no "splits"; expected'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(
    fault: Callable[[Path], None] | None, settings: list[str], error: type[AfsdError], message: str, tmp_path: Path
) -> None:
    root = make_feature_set(tmp_path / "set")
    if fault:
        fault(root)
    with pytest.raises(error, match=message) as told:
        train(small_feature_config("gtea", root, *settings), tmp_path / "out")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        ("a2net_gtea", ["model.stream=rgb", "model.num_classes=3"], "model is AFSD's section, a2net A2Net's"),
        ("gtea", ["data.test_stride=64"], "data.test_stride is 64, expected 1 to the window's length, 32"),
        ("gtea", ["model.feature_stride=3"], "feature_stride is 3, expected a power of 2"),
        ("gtea", ["model.stem=motion"], "stem 'motion' and freeze_backbone are the I3D's"),
        ("gtea", ["model.projection_kernels=[]"], "projection_kernels is empty, expected at least one kernel"),
        ("a2net_gtea", ["a2net.num_classes=9", "data.classes=[cut, pour]"], "a2net.num_classes is 9, but data.classes"),
    ],
)
def test_settings_that_contradict_one_another(network: str, settings: list[str], message: str, root: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        small_feature_config(network, root, *settings)


def test_weights_of_another_network_are_refused(root: Path, tmp_path: Path) -> None:
    last = train(small_feature_config("gtea", root, "run.max_steps=1"), tmp_path / "a")
    other = small_feature_config("a2net_gtea", root, f"run.init={last}", "run.max_steps=1")
    with pytest.raises(CheckpointError, match=r"entries do not fit the network"):
        train(other, tmp_path / "b")
    part = small_feature_config("a2net_gtea", root, f"run.init={last}", "run.init_part=backbone")
    with pytest.raises(ConfigError, match="a network on features has no backbone"):
        train(part, tmp_path / "c")


def test_a_projection_alone_is_taken_from_a_checkpoint(root: Path, tmp_path: Path) -> None:
    last = train(small_feature_config("gtea", root, "run.max_steps=2"), tmp_path / "a")
    settings = (f"run.init={last}", "run.init_part=backbone", "model.refinement=none", "loss.consistency=none")
    windows = open_feature_windows(small_feature_config("gtea", root, *settings))
    trainer = Trainer(windows.config, windows.dataset, windows.classes, tmp_path / "b")
    old, fresh = load_checkpoint(last).weights, build_network(windows.config).state_dict()
    name = "backbone.units.0.conv1d.weight"
    assert torch.equal(trainer.model.state_dict()[name], old[name])
    assert not torch.equal(trainer.model.state_dict()[name], fresh[name])
