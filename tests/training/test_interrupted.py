"""An interrupted run, at whatever point, is saved and resumes to the rows, weights and files of an undisturbed one."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.errors import InputError
from tests.training.small import CLASSES, small_config, small_dataset
from training.checkpoints.files import load_checkpoint
from training.loop.trainer import LAST, Trainer
from training.run import train

ROOT = Path(__file__).resolve().parents[2]


class CrashError(Exception):
    """Ends a run as nobody foresaw."""


def make_trainer(data: Path, out: Path, *settings: str, resume: Path | None = None) -> Trainer:
    """The small network, each of whose passes draws a number and changes its statistics by it."""
    data.mkdir(exist_ok=True)
    config = small_config("run.log_every=2", "optimiser.epochs=3", *settings)
    trainer = Trainer(config, small_dataset(data, config), CLASSES, out, resume)
    statistic = next(buffer for name, buffer in trainer.model.named_buffers() if name.endswith("running_mean"))
    backward = trainer._backward

    def disturb(batch: Any) -> Any:
        losses = backward(batch)
        statistic.add_(0.1 * torch.rand(1))
        return losses

    trainer._backward = disturb  # type: ignore[method-assign]
    return trainer


def break_at(trainer: Trainer, step: int, error: BaseException) -> None:
    """Let the run end in the middle of the forward pass after `step` optimiser steps."""
    forward = trainer._backward

    def backward(batch: Any) -> Any:
        losses = forward(batch)
        if trainer.progress.step == step:
            raise error
        return losses

    trainer._backward = backward  # type: ignore[method-assign]


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of three epochs of two steps."""
    folder = tmp_path_factory.mktemp("whole")
    make_trainer(folder / "data", folder / "run").run()
    return folder


def require_same(out: Path, whole: Path) -> None:
    assert rows(out) == rows(whole / "run")
    names = sorted(path.name for path in (whole / "run").glob("*.ckpt"))
    assert names == ["epoch_01.ckpt", "epoch_02.ckpt", "epoch_03.ckpt", LAST]
    for name in names:
        one, other = load_checkpoint(out / name), load_checkpoint(whole / "run" / name)
        assert all(torch.equal(value, one.weights[key]) for key, value in other.weights.items())
    assert not list(out.glob(".*"))


def resume(whole: Path, out: Path) -> None:
    """Run the command again, and to the end."""
    last = out / LAST
    make_trainer(whole / "data", out, resume=last if last.exists() else None).run()


@pytest.mark.thorough
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_an_interrupted_run_saves_the_state_of_the_last_step(step: int, whole: Path, tmp_path: Path) -> None:
    trainer = make_trainer(whole / "data", tmp_path / "run")
    break_at(trainer, step, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert load_checkpoint(tmp_path / "run" / LAST).training["progress"]["step"] == step
    resume(whole, tmp_path / "run")
    require_same(tmp_path / "run", whole)


@pytest.mark.parametrize(("minutes", "kept"), [("1e-9", 5), pytest.param("0", 4, marks=pytest.mark.thorough)])
def test_a_crash_loses_no_more_than_the_setting_says(minutes: str, kept: int, whole: Path, tmp_path: Path) -> None:
    trainer = make_trainer(whole / "data", tmp_path / "run", f"run.save_minutes={minutes}")
    break_at(trainer, 5, CrashError())
    with pytest.raises(CrashError):
        trainer.run()
    assert load_checkpoint(tmp_path / "run" / LAST).training["progress"]["step"] == kept
    assert [row["step"] for row in rows(tmp_path / "run")] == ["1", "2", "4"]
    with (tmp_path / "run" / "metrics.csv").open("a") as file:
        file.write("6,2,0.0")  # half a line
    resume(whole, tmp_path / "run")
    require_same(tmp_path / "run", whole)


@pytest.mark.thorough
@pytest.mark.parametrize("signalled", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_epoch_whose_weights_were_not_kept_yet_is_ended_again(
    signalled: bool, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(whole / "data", tmp_path / "run", "run.save_minutes=1e-9")

    def crash(_: Path) -> None:
        raise KeyboardInterrupt if signalled else CrashError

    monkeypatch.setattr(trainer, "_save_weights", crash)
    with pytest.raises((CrashError, KeyboardInterrupt)):
        trainer.run()
    assert not (tmp_path / "run" / "epoch_01.ckpt").exists()
    resume(whole, tmp_path / "run")
    require_same(tmp_path / "run", whole)


def test_a_second_command_in_the_folder_of_a_run_is_refused(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from runtime.common.locks import lock_folder\n"
        "with lock_folder(Path(sys.argv[1]), 'afsd train'): print('ready', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            holder = re.escape(f"{tmp_path}: in use by afsd train, process {process.pid} on ")
            with pytest.raises(InputError, match=holder):
                train(small_config(), tmp_path)
        finally:
            process.kill()
