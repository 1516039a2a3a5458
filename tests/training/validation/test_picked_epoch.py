"""A real run whose best epoch is not its last: validation picks it, and a resumed run keeps it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from runtime.cli import main
from training.checkpoints.files import load_checkpoint
from training.config.files import load_config
from training.loop.trainer import LAST
from training.run import train
from training.synthetic.videos import VideoFormat, make_synthetic

EPOCHS = 12
SETTINGS = [
    "model.num_classes=0", "model.clip_length=64", "model.num_levels=4", "model.level_units=[4, 8, 16, 32]",
    "model.backbone_multiplier=0.125", "data.clip_stride=8", "data.test_stride=32", "data.workers=0",
    "data.val_subset=validation", "optimiser.batch_size=4", "optimiser.schedule=constant",
    "optimiser.learning_rate=4e-3", "optimiser.ema=0.9", "run.accelerator=cpu", "run.keep_epochs=false",
]  # fmt: skip
"""A small AFSD at a rate that is too high, on four videos: mAP goes up and down from epoch to epoch."""


@pytest.mark.slow
def test_validation_picks_an_epoch_before_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = VideoFormat(size=64, shortest_s=20, longest_s=30)
    for subset in ("training", "validation"):
        make_synthetic(tmp_path, videos=4, seed=1, subset=subset, workers=1, video_format=shape)
    settings = [*SETTINGS, f"data.root={tmp_path}"]
    out = tmp_path / "run"
    train(load_config("synthetic", [*settings, f"optimiser.epochs={EPOCHS}"]), out)

    def measured() -> list[float]:
        with (out / "metrics.csv").open() as file:
            return [float(row["val_map"]) for row in csv.DictReader(file) if row["val_map"]]

    values = measured()
    with capsys.disabled():
        print("\nmAP % after each epoch:", " ".join(f"{100 * value:.1f}" for value in values))
    best = values.index(max(values)) + 1
    metrics = load_checkpoint(out / "best.ckpt").metrics
    assert (len(values), metrics["epoch"]) == (EPOCHS, best)
    assert best < EPOCHS
    assert metrics["val_map"] == pytest.approx(max(values), rel=1e-5)
    assert max(values) > values[-1] > 0

    def judge(name: str) -> float:
        capsys.readouterr()
        command = ["evaluate", str(out / name), str(tmp_path / "annotations.json"), "--subset", "validation", "--json"]
        assert main(command) == 0
        return float(json.loads(capsys.readouterr().out)["average_mAP"])

    assert judge("best.ckpt") == metrics["val_map"]
    assert judge(LAST) == pytest.approx(values[-1], rel=1e-5)
    before = (out / "best.ckpt").read_bytes()
    train(load_config("synthetic", [*settings, f"optimiser.epochs={EPOCHS + 1}"]), out, out / LAST)
    assert measured()[:EPOCHS] == values
    if measured()[-1] <= max(values):
        assert (out / "best.ckpt").read_bytes() == before
    assert load_checkpoint(out / LAST).training["validation"]["map"] == pytest.approx(max(measured()), rel=1e-5)
