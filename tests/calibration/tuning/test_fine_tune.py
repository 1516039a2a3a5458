"""Fine-tuning wins back what coarse rounding lost, resumes as any run, and leaves an ordinary float checkpoint."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from calibration.tuning.fake_quantisation import InputQuantiser, Layers, quantise_layers
from calibration.tuning.fine_tune import FineTuning, fine_tune, make_tuning_config
from runtime.errors import ConfigError, InputError
from tests.calibration.observed import observed
from tests.training.small import CLASSES, small_config, small_dataset
from training.afsd.step import TrainingStep
from training.checkpoints.files import Checkpoint, build_model, load_checkpoint, save_checkpoint
from training.checkpoints.slim import slim_checkpoint
from training.config.files import load_config
from training.data.dataset import ClipDataset, collate
from training.loop.trainer import Trainer
from training.networks.normalisation import normalise
from training.run import train


class Trained(NamedTuple):
    """A small network, its clips, and quantisers of 3 levels, too coarse for it."""

    checkpoint: Path
    root: Path
    dataset: ClipDataset
    layers: Layers

    def tune(self, out: Path, steps: int = 4, *overrides: str, resume: Path | None = None) -> Path:
        """Fine-tune with a rate for a network this young."""
        options = FineTuning(steps, learning_rate=1e-3)
        settings = [f"data.root={self.root}", "run.log_every=1", *overrides]
        return fine_tune(self.checkpoint, self.layers, out, options, overrides=settings, resume=resume)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A network that has learnt nothing yet: what is asked of it is asked of any."""
    return train_small(tmp_path_factory.mktemp("data"), epochs=1)


def train_small(root: Path, epochs: int) -> Trained:
    (root / "frames").mkdir()
    config = small_config(f"optimiser.epochs={epochs}", "optimiser.learning_rate=4e-3", "run.keep_epochs=false")
    dataset = small_dataset(root / "frames", config)
    database = {
        f"video_{k}": {
            "subset": "training",
            "annotations": [{"label": CLASSES[k], "segment": [2.0 + k / 10, 3.2 + k / 10]}],
        }
        for k in range(2)
    }
    (root / "annotations.json").write_text(json.dumps({"database": database}))
    last = Trainer(config, dataset, CLASSES, root / "run").run()
    clips = collate([dataset[k] for k in range(len(dataset))])
    frames = normalise(clips.frames, clips.valid)
    settle_statistics(last, frames)
    checkpoint = slim_checkpoint(last, root / "trained.ckpt", half=True)  # as shipped: float16, no training state
    layers = observed(build_model(load_checkpoint(checkpoint)), frames, levels=3)
    return Trained(checkpoint, root, dataset, layers)


def settle_statistics(path: Path, frames: Tensor) -> None:
    """Give batch norms the statistics of these clips, which they come to slowly by themselves."""
    checkpoint = load_checkpoint(path)
    model = build_model(checkpoint)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.train().momentum = 1.0
    with torch.no_grad():
        model(frames)
    save_checkpoint(replace(checkpoint, weights=dict(model.state_dict())), path)


def loss(trained: Trained, checkpoint: Path, layers: Layers) -> float:
    """Of all clips in one batch, as the training computes it, in eval mode."""
    loaded = load_checkpoint(checkpoint)
    model = build_model(loaded)
    quantise_layers(model, layers)
    trained.dataset.set_epoch(0)
    with torch.no_grad():
        step = TrainingStep(model, loaded.config.loss).eval()
        return float(step(collate([trained.dataset[k] for k in range(len(trained.dataset))])).total)


@pytest.mark.slow
def test_tuning_wins_back_what_rounding_lost(tmp_path: Path) -> None:
    """A part of the loss that rounding added, which the same training without rounding does not."""
    (tmp_path / "data").mkdir()
    trained = train_small(tmp_path / "data", epochs=30)
    unrounded, before = (loss(trained, trained.checkpoint, layers) for layers in ({}, trained.layers))
    after = loss(trained, trained.tune(tmp_path / "tuned", 40), trained.layers)
    config = make_tuning_config(trained.checkpoint, FineTuning(40, 1e-3), [f"data.root={trained.root}"])
    blind = loss(trained, train(config, tmp_path / "blind"), trained.layers)
    lost = before - unrounded
    assert lost > 0.2 * unrounded
    assert after < min(before, blind) - 0.1 * lost  # 0.2 with two threads; so young a network depends on them


def test_the_result_is_an_ordinary_checkpoint_with_its_statistics_unchanged(trained: Trained, tmp_path: Path) -> None:
    source = trained.checkpoint.read_bytes()
    last = trained.tune(tmp_path / "run", 2)
    assert trained.checkpoint.read_bytes() == source
    before, after = load_checkpoint(trained.checkpoint), load_checkpoint(last)
    assert list(after.weights) == list(before.weights)
    assert build_model(after).config.num_classes == 3
    same = {name for name, value in after.weights.items() if torch.equal(value, before.weights[name].to(value.dtype))}
    assert {name for name in after.weights if "running" in name} <= same
    assert not set(trained.layers) & same
    assert any(float(w.frac().abs().max()) > 0 and len(w.unique()) > 255 for w in after.weights.values())
    with pytest.raises(ConfigError, match="holds a run already"):
        trained.tune(tmp_path / "run", 2)


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(trained: Trained, tmp_path: Path) -> None:
    whole = load_checkpoint(trained.tune(tmp_path / "whole", 4))
    part = trained.tune(tmp_path / "parts", 4, "run.max_steps=2")
    assert load_checkpoint(part).training["progress"]["step"] == 2
    resumed = load_checkpoint(trained.tune(tmp_path / "parts", 4, resume=part))
    assert all(torch.equal(value, resumed.weights[name]) for name, value in whole.weights.items())
    with (tmp_path / "parts" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in rows] == [1e-3] * 4


def test_the_rate_follows_how_the_checkpoint_was_trained(trained: Trained, tmp_path: Path) -> None:
    def rate(checkpoint: Path, *overrides: str, given: float = 0.0) -> float:
        return make_tuning_config(checkpoint, FineTuning(5, given), overrides).optimiser.learning_rate

    assert rate(trained.checkpoint) == pytest.approx(0.15 * 4e-3)  # a cosine
    assert rate(trained.checkpoint, given=1e-5) == 1e-5
    assert rate(trained.checkpoint, "optimiser.learning_rate=3e-5") == 3e-5
    published = Checkpoint({}, load_config("thumos14"), tuple(f"class_{k}" for k in range(20)))
    save_checkpoint(published, tmp_path / "thumos14.ckpt")
    assert rate(tmp_path / "thumos14.ckpt") == 1e-5


def test_a_run_goes_on_with_its_own_quantisers_alone(trained: Trained, tmp_path: Path) -> None:
    last = trained.tune(tmp_path / "run", 1)
    stored = json.loads((tmp_path / "run" / "quantisers.json").read_text())
    assert stored.keys() == trained.layers.keys()
    name, inputs = next(iter(trained.layers.items()))
    length, own = next(iter(inputs.items()))
    assert InputQuantiser(**stored[name][str(length)]) == own
    other = {**trained.layers, name: {**inputs, length: InputQuantiser(1.0, 0, 0, 255)}}
    with pytest.raises(ConfigError, match="made with other quantisers than those given"):
        trained._replace(layers=other).tune(tmp_path / "run", 2, resume=last)
    (tmp_path / "run" / "quantisers.json").unlink()
    with pytest.raises(ConfigError, match=r"no quantisers\.json beside it, expected a run of fine-tuning"):
        trained.tune(tmp_path / "run", 2, resume=last)


def test_misuse_is_one_line_and_leaves_nothing(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layers to quantise, expected one at least"):
        trained._replace(layers={}).tune(tmp_path / "run")
    with pytest.raises(InputError, match="1 of 1 names are not a convolution's weight of this network"):
        trained._replace(layers={"conv.weight": {8: InputQuantiser(1.0, 0, 0, 255)}}).tune(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"trained\.ckpt: optimiser\.rate: unknown key"):
        trained.tune(tmp_path / "run", 1, "optimiser.rate=3")
    with pytest.raises(InputError, match="steps: got 0, expected 1 … "):
        trained.tune(tmp_path / "run", 0)
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {".lock"}  # the folder was tried before the work
