"""The loop: losses fall, an interrupted run gives the losses of an uninterrupted one, and misuse is named."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from runtime.errors import CheckpointError, ConfigError, InputError
from tests.training.small import CLASSES, small_config, small_dataset
from training.afsd.network import AFSD
from training.checkpoints.files import Checkpoint, load_checkpoint, save_checkpoint
from training.config.settings import Config
from training.loop.clip_order import ClipOrder
from training.loop.optimiser import rate_factor
from training.loop.trainer import Trainer


def run(config: Config, data: Path, out: Path, resume: Path | None = None) -> list[dict[str, str]]:
    """Train and return the logged rows, wall times left out."""
    data.mkdir(exist_ok=True)
    Trainer(config, small_dataset(data, config), CLASSES, out, resume).run()
    with (out / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    config = small_config()
    whole = run(config, tmp_path / "data", tmp_path / "whole")
    first = Trainer(config, small_dataset(tmp_path / "data", config), CLASSES, tmp_path / "parts")
    first.progress.seconds = 0.0
    steps = 0

    def stop_in_the_middle() -> bool:
        nonlocal steps
        steps += 1
        return steps > 4

    first._out_of_time = stop_in_the_middle  # type: ignore[method-assign]
    last = first.run()
    assert 0 < first.progress.step < len(whole)
    assert first.progress.batch > 0  # in the middle of an epoch
    resumed = run(config, tmp_path / "data", tmp_path / "parts", last)
    assert resumed == whole
    a, b = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    assert all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)


def test_losses_fall_and_logs_are_complete(tmp_path: Path) -> None:
    config = small_config("optimiser.epochs=10", "optimiser.learning_rate=3e-3")
    rows = run(config, tmp_path / "data", tmp_path / "out")
    total = [float(row["total"]) for row in rows]
    assert sum(total[-4:]) < 0.9 * sum(total[:4])  # a network that does not learn stays near 1
    assert all(float(row["loss_trip"]) >= 0 and float(row["loss_start"]) > 0 for row in rows)
    assert list((tmp_path / "out" / "tensorboard").iterdir())


@pytest.mark.parametrize(
    ("override", "zero"),
    [
        (("loss.consistency=none",), ("loss_start", "loss_end", "loss_trip")),
        (("loss.consistency=activation",), ("loss_trip",)),
        (("loss.consistency=triplet",), ("loss_start", "loss_end")),
        (("model.refinement=none", "loss.consistency=none"), ("loss_prop_l",)),
    ],
)
def test_parts_that_are_off_cost_nothing(override: tuple[str, ...], zero: tuple[str, ...], tmp_path: Path) -> None:
    row = run(small_config("optimiser.epochs=1", *override), tmp_path / "data", tmp_path / "out")[0]
    assert all(float(row[name]) == 0 for name in zero if name != "loss_prop_l")
    assert float(row["total"]) > 0


@pytest.mark.parametrize("rate", [1e5, 1e15, 1e30])
@pytest.mark.parametrize("override", ["loss.activation=tanh", "loss.activation=min-max", "loss.consistency=none"])
def test_a_run_that_diverges_ends_with_one_line_at_every_rate(rate: float, override: str, tmp_path: Path) -> None:
    settings = ("optimiser.epochs=4", "optimiser.clip_norm=0", f"optimiser.learning_rate={rate}", override)
    with pytest.raises(InputError, match=r"optimiser step \d: the loss is (nan|inf); lower optimiser\.learning_rate"):
        run(small_config(*settings), tmp_path / "data", tmp_path / "out")


@pytest.mark.parametrize("rate", ["1e38", "-0.1", ".nan"])
def test_learning_rates_that_cannot_be(rate: str) -> None:
    with pytest.raises(ConfigError, match=r"optimiser: learning_rate: got .*, expected .*0 … 1e\+30"):
        small_config(f"optimiser.learning_rate={rate}")


def test_every_parameter_learns_and_the_average_follows(tmp_path: Path) -> None:
    config = small_config("optimiser.epochs=1")
    (tmp_path / "data").mkdir()
    trainer = Trainer(config, small_dataset(tmp_path / "data", config), CLASSES, tmp_path / "out")
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.run()
    still = [k for k, p in trainer.model.named_parameters() if torch.equal(before[k], p)]
    assert still == []
    averaged, last = trainer.checkpoint().weights, trainer.model.state_dict()
    assert any(not torch.equal(averaged[k], last[k]) for k in averaged)


def test_the_backbone_can_learn_at_its_own_rate(tmp_path: Path) -> None:
    config = small_config("optimiser.backbone_rate=0.1", "optimiser.learning_rate=1e-3", "optimiser.warmup_steps=0")
    (tmp_path / "data").mkdir()
    trainer = Trainer(config, small_dataset(tmp_path / "data", config), CLASSES, tmp_path / "out")
    groups = trainer.optimizer.param_groups
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-3])
    of_backbone = {id(p) for p in trainer.model.backbone.parameters()}
    assert {id(p) for p in groups[0]["params"]} == of_backbone
    assert len(groups[0]["params"]) + len(groups[1]["params"]) == len(list(trainer.model.parameters()))


def test_a_run_ends_after_its_steps_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    config = small_config("run.max_steps=3", "optimiser.epochs=5")
    rows = run(config, tmp_path / "data", tmp_path / "out")
    assert [int(row["step"]) for row in rows] == [1, 2, 3]
    again = run(config, tmp_path / "data", tmp_path / "out", tmp_path / "out" / "last.ckpt")
    assert len(again) == 3  # a finished run has nothing left to do


@pytest.mark.thorough
def test_the_weights_of_every_epoch_are_kept_to_choose_from(tmp_path: Path) -> None:
    run(small_config(), tmp_path / "data", tmp_path / "out")
    kept = [load_checkpoint(tmp_path / "out" / f"epoch_{epoch:02d}.ckpt") for epoch in (1, 2)]
    last = load_checkpoint(tmp_path / "out" / "last.ckpt")
    assert all(torch.equal(kept[1].weights[k], last.weights[k]) for k in last.weights)
    assert any(not torch.equal(kept[0].weights[k], last.weights[k]) for k in last.weights)
    assert not kept[0].training
    run(small_config("run.epoch_format=safetensors"), tmp_path / "data", tmp_path / "safe")
    safe = load_checkpoint(tmp_path / "safe" / "epoch_02.safetensors")
    assert all(torch.equal(safe.weights[k], last.weights[k]) for k in last.weights)
    assert sorted(file.suffix for file in (tmp_path / "safe").glob("*.[cs][ka]*")) == [".ckpt", *[".safetensors"] * 2]
    run(small_config("run.keep_epochs=false", "optimiser.epochs=1"), tmp_path / "data", tmp_path / "none")
    assert not list((tmp_path / "none").glob("epoch_*"))


@pytest.mark.thorough
def test_a_run_at_a_constant_rate_may_go_on_for_more_epochs(tmp_path: Path) -> None:
    constant = ["optimiser.schedule=constant"]
    longer = run(small_config(*constant, "optimiser.epochs=2"), tmp_path / "data", tmp_path / "whole")
    run(small_config(*constant, "optimiser.epochs=1"), tmp_path / "data", tmp_path / "parts")
    last = tmp_path / "parts" / "last.ckpt"
    assert run(small_config(*constant, "optimiser.epochs=2"), tmp_path / "data", tmp_path / "parts", last) == longer
    with pytest.raises(ConfigError, match="other settings in optimiser"):
        run(small_config("optimiser.epochs=2"), tmp_path / "data", tmp_path / "parts", last)


def test_each_clip_is_seen_once_by_one_process() -> None:
    for epoch in range(2):
        seen: list[int] = []
        for rank in range(3):
            order = ClipOrder(20, batch_size=2, seed=1, rank=rank, world=3)
            order.epoch = epoch
            assert len(list(order)) == len(order) == 6
            seen += order
        assert len(set(seen)) == len(seen) == 18


def test_a_start_from_other_weights(tmp_path: Path) -> None:
    config = small_config()
    (tmp_path / "data").mkdir()
    source = AFSD(config.model)
    torch.save(dict(source.state_dict()), tmp_path / "whole.ckpt")
    torch.save(dict(source.backbone._model.state_dict()), tmp_path / "rgb_imagenet.pt")
    for name in ("whole.ckpt", "rgb_imagenet.pt"):
        started = small_config(f"run.init={tmp_path / name}")
        trainer = Trainer(started, small_dataset(tmp_path / "data", started), CLASSES, tmp_path / "out")
        key = "backbone._model.Mixed_5c.b0.conv3d.weight"
        assert torch.equal(trainer.model.state_dict()[key], source.state_dict()[key])


def test_a_network_without_second_stage_starts_from_the_backbone_of_one_with_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    save_checkpoint(
        Checkpoint(dict(AFSD(small_config().model).state_dict()), small_config(), CLASSES), tmp_path / "all.ckpt"
    )
    settings = ["model.refinement=none", "loss.consistency=none", f"run.init={tmp_path / 'all.ckpt'}"]
    config = small_config(*settings, "run.init_part=backbone")
    trainer = Trainer(config, small_dataset(tmp_path / "data", config), CLASSES, tmp_path / "out")
    given = load_checkpoint(tmp_path / "all.ckpt").weights
    assert all(torch.equal(v, given[k]) for k, v in trainer.model.state_dict().items() if k.startswith("backbone."))
    whole = small_config(*settings)
    with pytest.raises(CheckpointError, match="is not part of the network"):
        Trainer(whole, small_dataset(tmp_path / "data", whole), CLASSES, tmp_path / "out")


def test_a_machine_without_the_accelerator_says_so(tmp_path: Path) -> None:
    config = small_config("run.accelerator=tpu")
    (tmp_path / "data").mkdir()
    with pytest.raises(ConfigError, match=r"run\.accelerator 'tpu'.*set what this machine has") as caught:
        Trainer(config, small_dataset(tmp_path / "data", config), CLASSES, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_misuse_is_named(tmp_path: Path) -> None:
    config = small_config()
    (tmp_path / "data").mkdir()
    dataset = small_dataset(tmp_path / "data", config)
    with pytest.raises(ConfigError, match="batch_size 500"):
        Trainer(small_config("optimiser.batch_size=500"), dataset, CLASSES, tmp_path)
    last = Trainer(config, dataset, CLASSES, tmp_path / "out").run()
    with pytest.raises(ConfigError, match="other settings in loss"):
        Trainer(small_config("loss.location=3"), dataset, CLASSES, tmp_path, last)
    bare = load_checkpoint(last)
    save_checkpoint(type(bare)(bare.weights, bare.config, bare.classes), tmp_path / "slim.ckpt")
    with pytest.raises(CheckpointError, match="no training state"):
        Trainer(config, dataset, CLASSES, tmp_path, tmp_path / "slim.ckpt")


def test_a_stepped_rate_falls_to_a_tenth_after_its_epoch() -> None:
    """A2Net's recipe: the full rate for `step_epoch` whole epochs, then a tenth."""
    config = small_config("optimiser.schedule=step", "optimiser.step_epoch=3", "optimiser.warmup_steps=0").optimiser
    assert [rate_factor(config, step, 7, 70) for step in (0, 3 * 7 - 1, 3 * 7)] == [1.0, 1.0, 0.1]
