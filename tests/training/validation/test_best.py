"""The best weights of a run: which are kept, what a tie does, and that resuming keeps them and their value."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.errors import CheckpointError, ConfigError
from runtime.evaluation import EvaluationResult
from runtime.spec.training_videos import remember_videos
from tests.training.feature_data import make_feature_set, small_feature_config
from training.checkpoints.files import Checkpoint, load_checkpoint
from training.config.files import load_config
from training.loop.trainer import LAST, Trainer
from training.training_set import open_feature_windows
from training.validation.best import BestSoFar, best_path, read_best, resume_best, save_best, to_state

TIOUS = (0.3, 0.5)


@dataclass
class Scripted:
    """Stands for a validator: gives the next value of a script, by the number of the epoch."""

    values: tuple[float, ...]
    steps_per_epoch: int = 0
    subset: str = "validation"
    tious: tuple[float, ...] = TIOUS
    contents: dict[str, str] = field(default_factory=lambda: {"v": "0123456789abcdef"})
    seen: list[dict[str, torch.Tensor]] = field(default_factory=list)
    crash_at: int = -1
    """Number of the measurement that crashes."""

    def __call__(self, checkpoint: Checkpoint, device: str, progress: Callable[[int, int], None]) -> EvaluationResult:
        torch.rand(3)  # random numbers of a measurement must not keep a resumed run from being the same
        number = len(self.seen)
        if number == self.crash_at:
            raise KeyboardInterrupt
        self.seen.append({name: value.clone() for name, value in checkpoint.weights.items()})
        value = self.values[min(number, len(self.values) - 1)]
        ap = np.array([[value + 0.1, value - 0.1]])
        one = np.ones(1, np.int64)
        return EvaluationResult(self.tious, ("a",), ap, one, one, 0, 0)


def make(
    tmp_path: Path, script: Scripted | None, *settings: str, resume: Path | None = None, out: str = "run"
) -> Trainer:
    """A small A2Net on features, at a constant rate."""
    root = tmp_path / "set"
    if not root.exists():
        make_feature_set(root)
    few = ("data.clip_stride=40", "optimiser.batch_size=3", "run.logger=[]", "run.keep_epochs=true")
    settings = ("data.val_subset=validation", "optimiser.schedule=constant", *few, *settings)
    found = open_feature_windows(small_feature_config("a2net_gtea", root, *settings))
    videos = remember_videos({"video_0": "", "video_1": ""})
    out_dir = tmp_path / out
    return Trainer(found.config, found.dataset, found.classes, out_dir, resume, None, script, videos)  # type: ignore[arg-type]


def measured(out: Path) -> list[tuple[int, float, float]]:
    """Step, mAP and mAP at the first threshold of the rows that have them."""
    with (out / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_map"]]
    return [(int(row["step"]), float(row["val_map"]), float(row["val_map_0.30"])) for row in rows]


def equal(one: Path, other: Path) -> bool:
    a, b = load_checkpoint(one).weights, load_checkpoint(other).weights
    return all(torch.equal(a[name], b[name]) for name in a)


def test_of_equal_values_the_earlier_stays() -> None:
    best = BestSoFar(subset="x", tious=TIOUS)
    values = (0.0, 0.0, 0.4, 0.3, 0.4, 0.41)
    kept = []
    for epoch, value in enumerate(values, 1):
        best = best.measure(value, epoch=epoch, step=10 * epoch)
        kept.append((best.epoch, best.step, best.since, best.measured_step))
    assert kept == [(1, 10, 0, 10), (1, 10, 1, 20), (3, 30, 0, 30), (3, 30, 1, 40), (3, 30, 2, 50), (6, 60, 0, 60)]
    assert read_best(to_state(best), "x.ckpt") == best


@pytest.mark.parametrize("state", [{"map": 2.0}, {"epoch": "1"}, [], {"unknown": 1}])
def test_a_damaged_record_is_one_line(state: object) -> None:
    with pytest.raises(CheckpointError, match=r"x\.ckpt: validation: .*; the file is damaged"):
        read_best(state, "x.ckpt")


def test_the_best_weights_are_kept_with_their_value_and_a_resumed_run_keeps_them(tmp_path: Path) -> None:
    script = Scripted((0.2, 0.5, 0.5, 0.4))
    last = make(tmp_path, script, "optimiser.epochs=2").run()
    out = tmp_path / "run"
    found = load_checkpoint(out / "best.ckpt")
    expected = {"val_map": pytest.approx(0.5), "val_subset": "validation", "val_tiou": list(TIOUS), "epoch": 2}
    assert {name: found.metrics[name] for name in expected} == expected
    assert not found.training
    assert found.training_videos is not None
    assert found.training_videos.trained == {"video_0": "", "video_1": ""}
    assert found.training_videos.chosen == script.contents
    assert equal(out / "best.ckpt", out / "epoch_02.ckpt")
    assert load_checkpoint(last).training_videos == remember_videos({"video_0": "", "video_1": ""})  # not chosen
    before = (out / "best.ckpt").read_bytes()
    make(tmp_path, script, "optimiser.epochs=4", resume=last).run()
    assert (out / "best.ckpt").read_bytes() == before  # epoch 3 has an equal value, epoch 4 a lower one
    assert not equal(out / "best.ckpt", out / "epoch_04.ckpt")
    assert load_checkpoint(out / LAST).training["validation"]["since"] == 2
    steps = [step for step, *_ in measured(out)]
    assert steps == [steps[0] * k for k in (1, 2, 3, 4)]
    assert [value for _, value, _ in measured(out)] == pytest.approx([0.2, 0.5, 0.5, 0.4])
    assert [value for *_, value in measured(out)] == pytest.approx([0.3, 0.6, 0.6, 0.5])


def test_the_averaged_weights_are_measured_and_random_numbers_do_not_change(tmp_path: Path) -> None:
    script = Scripted((0.1, 0.2))
    trainer = make(tmp_path, script)
    trainer.run()
    averaged = load_checkpoint(tmp_path / "run" / LAST)
    assert all(torch.equal(script.seen[-1][name], value) for name, value in averaged.weights.items())
    assert any(not torch.equal(script.seen[-1][name], value) for name, value in averaged.training["weights"].items())


@pytest.mark.parametrize("crash_at", [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_a_run_that_ends_while_it_judges_measures_again(crash_at: int, tmp_path: Path) -> None:
    whole = Scripted((0.3, 0.2, 0.6))
    make(tmp_path, whole, "optimiser.epochs=3", out="whole").run()
    script = Scripted((0.3, 0.2, 0.6), crash_at=crash_at)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, script, "optimiser.epochs=3").run()
    last = tmp_path / "run" / LAST
    script.crash_at = -1
    make(tmp_path, script, "optimiser.epochs=3", resume=last).run()
    assert measured(tmp_path / "run") == measured(tmp_path / "whole")
    assert len(script.seen) == 3
    for name in ("best.ckpt", LAST):
        assert equal(tmp_path / "run" / name, tmp_path / "whole" / name)
    assert (tmp_path / "run" / "best.ckpt").read_bytes() == (tmp_path / "whole" / "best.ckpt").read_bytes()


def test_a_run_ends_when_nothing_gets_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = Scripted((0.3, 0.2, 0.3, 0.9))
    settings = ("optimiser.epochs=8", "run.early_stopping=2", "run.keep_epochs=false")
    last = make(tmp_path, script, *settings).run()
    state = load_checkpoint(last).training
    assert state["progress"]["epoch"] == 3
    assert len(script.seen) == 3
    said = capsys.readouterr().out
    assert "epoch 1: mAP 30.00 % on validation, the best so far" in said
    assert "epoch 3: mAP 30.00 % on validation, best 30.00 % of epoch 1" in said
    assert "ended early: no higher mAP in the last 2 measurements" in said
    assert f"best: {tmp_path / 'run' / 'best.ckpt'}, epoch 1, mAP 30.00 %" in said
    make(tmp_path, script, *settings, resume=last).run()  # has ended
    assert len(script.seen) == 3
    more = ("optimiser.epochs=5", "run.early_stopping=3", "run.keep_epochs=false")
    make(tmp_path, script, *more, resume=last).run()
    assert load_checkpoint(tmp_path / "run" / "best.ckpt").metrics["epoch"] == 4


@pytest.mark.thorough
def test_every_nth_epoch_and_the_end_are_measured(tmp_path: Path) -> None:
    script = Scripted((0.1, 0.2))
    trainer = make(tmp_path, script, "optimiser.epochs=5", "run.validate_every=3")
    batches = trainer.order.batches
    trainer.run()
    assert [step for step, *_ in measured(tmp_path / "run")] == [3 * batches, 5 * batches]
    inside = Scripted((0.1,))
    make(tmp_path, inside, "optimiser.epochs=5", "run.max_steps=2", "run.validate_every=3", out="inside").run()
    assert [step for step, *_ in measured(tmp_path / "inside")] == [2]


@pytest.mark.thorough
def test_a_run_that_goes_on_in_another_folder_takes_its_best_weights_along(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = make(tmp_path, Scripted((0.5,)), "optimiser.epochs=1").run()
    make(tmp_path, Scripted((0.4,)), resume=last, out="other").run()
    assert (tmp_path / "other" / "best.ckpt").read_bytes() == (tmp_path / "run" / "best.ckpt").read_bytes()
    (tmp_path / "run" / "best.ckpt").unlink()
    make(tmp_path, Scripted((0.4,)), resume=last, out="third").run()
    assert "the best weights, of epoch 1 with mAP 50.00 %, are gone" in caplog.text
    assert load_checkpoint(tmp_path / "third" / "best.ckpt").metrics["epoch"] == 2


@pytest.mark.thorough
def test_values_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    last = make(tmp_path, Scripted((0.5,)), "optimiser.epochs=1").run()
    for other in (Scripted((0.4,), subset="others"), Scripted((0.4,), tious=(0.5,))):
        with pytest.raises(ConfigError, match=r"chosen on subset 'validation' at tIoU 0\.3, 0\.5, this run has '"):
            make(tmp_path, other, resume=last)


@pytest.mark.thorough
def test_the_best_weights_have_the_format_of_the_epochs(tmp_path: Path) -> None:
    make(tmp_path, Scripted((0.5,)), "optimiser.epochs=1", "run.epoch_format=safetensors").run()
    found = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert found.metrics["val_map"] == pytest.approx(0.5)
    assert found.training_videos is not None
    assert found.training_videos.chosen == {"v": "0123456789abcdef"}


@pytest.mark.parametrize(("first", "second"), [("ckpt", "safetensors"), ("safetensors", "ckpt")])
@pytest.mark.parametrize("place", ["run", "other"])
def test_the_best_weights_outlive_a_change_of_the_format(
    first: str, second: str, place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = BestSoFar(0.5, 3, 300, 500, 2, "validation", TIOUS)
    weights = {"w": torch.arange(3.0)}
    former, chosen = best_path(tmp_path / "run", first), {"v": "0123456789abcdef"}
    former.parent.mkdir()
    save_best(Checkpoint(weights, load_config("thumos14"), tuple(f"c{k}" for k in range(20))), best, chosen, former)
    assert resume_best(best, tmp_path / place, second, tmp_path / "run" / "last.ckpt") == best
    assert caplog.text == ""
    found = load_checkpoint(best_path(tmp_path / place, second))
    assert torch.equal(found.weights["w"], weights["w"])
    assert (found.metrics["val_map"], found.metrics["epoch"]) == (0.5, 3)
    assert found.training_videos is not None
    assert found.training_videos.chosen == chosen
    assert former.exists() == (place == "other")  # one best in a folder, and that of another run stays


@pytest.mark.thorough
def test_a_finished_run_that_is_measured_later_has_no_further_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = make(tmp_path, None, "optimiser.epochs=2", "data.val_subset=''").run()
    capsys.readouterr()
    make(tmp_path, Scripted((0.5,)), "optimiser.epochs=2", resume=last).run()
    assert "epoch 2: mAP 50.00 %" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "run" / "best.ckpt").metrics["epoch"] == 2
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file) if row["val_map"]] == ["1"]
