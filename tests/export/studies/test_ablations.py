"""Every option of Table 2 trains, exports, and is the same in PyTorch and ONNX Runtime; the runner makes its table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.graph.trace import seeded_inputs
from export.studies.ablations import BASE, TABLES, _table
from export.to_onnx import export_onnx
from runtime.detector import Detector
from runtime.engines import open_engine
from tests.training.small import CLASSES, small_config, small_dataset
from training.afsd.network import AFSD
from training.checkpoints.files import load_checkpoint
from training.deployment.views import make_torch_engine
from training.loop.trainer import Trainer

OPTIONS = {f"{table} {name}": list(changes) for table, variants in TABLES.items() for name, changes in variants.items()}
SEVERAL = "quality none, mean pooling, levels alone"
OPTIONS[SEVERAL] = ["model.quality=none", "model.pooling=mean", "model.refinement=self"]


def one_step(option: str, folder: Path) -> Trainer:
    """A trainer of the small network with an option, before its one step."""
    settings = ["optimiser.batch_size=4", "run.max_steps=1", "loss.refined_iou=0.0"]  # 0: refinement has positives
    config = small_config(*settings, *OPTIONS[option])
    return Trainer(config, small_dataset(folder, config), CLASSES, folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_trains_every_part_of_its_network(option: str, tmp_path: Path) -> None:
    trainer = one_step(option, tmp_path)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.run()
    assert trainer.progress.step == 1
    assert [n for n, p in trainer.model.named_parameters() if torch.equal(before[n], p)] == []


@pytest.mark.slow  # tracing takes a quarter of a minute, of the poolings without a function most of a minute
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_exports_and_agrees(option: str, tmp_path: Path) -> None:
    trainer = one_step(option, tmp_path)
    config, last = trainer.config, trainer.run()
    file = export_onnx(last, say=lambda _: None)
    pools_maxima = config.model.pooling == "max" and config.model.refinement not in ("naive", "none")
    assert len(onnx.load(file).functions) == int(pools_maxima)
    reference, exported = make_torch_engine(load_checkpoint(last), str(last)), open_engine(file)
    report = json.loads(last.with_suffix(".onnx.parity.json").read_text())
    assert report["passed"]
    assert all(output["moved"] == 0 for output in report["outputs"])
    inputs = seeded_inputs(reference.spec, seed=7, batch=2)
    for name, expected in reference.infer(inputs).items():
        assert np.allclose(expected, exported.infer(inputs)[name], atol=1e-4 * max(1.0, np.abs(expected).max())), name
    assert exported.spec.decoding.quality == (config.model.quality != "none")
    frames = np.random.default_rng(0).integers(0, 256, (40, 36, 36, 3), np.uint8)
    with Detector(exported) as detector:
        detector.run(frames)


@pytest.mark.thorough
def test_a_frozen_backbone_stays_and_the_head_learns(tmp_path: Path) -> None:
    source = small_config("model.refinement=none", "loss.consistency=none", "optimiser.epochs=1")
    start = Trainer(source, small_dataset(tmp_path, source), CLASSES, tmp_path / "start").run()
    config = small_config(
        f"run.init={start}", "run.init_part=backbone", "model.freeze_backbone=true", "optimiser.epochs=1"
    )
    trainer = Trainer(config, small_dataset(tmp_path, config), CLASSES, tmp_path / "run")
    head = {n: p.detach().clone() for n, p in trainer.model.coarse_pyramid_detection.named_parameters()}
    trainer.run()
    given, kept = load_checkpoint(start).weights, trainer.model.state_dict()
    assert all(torch.equal(given[name], kept[name]) for name in kept if name.startswith("backbone."))
    assert [n for n, p in trainer.model.coarse_pyramid_detection.named_parameters() if torch.equal(head[n], p)] == []


def test_the_table_holds_mean_and_spread() -> None:
    runs = [{"0.5": value, "average": value / 2} for value in (0.1, 0.2, 0.3)]
    scores = {f"quality {name}": runs for name in TABLES["quality"]} | {BASE: runs}
    lines = _table("quality", scores).splitlines()
    assert lines[0] == "| quality | 0.5 | average |"
    assert lines[2:] == [f"| {name} | 20.0 ± 10.0 | 10.0 ± 5.0 |" for name in (*TABLES["quality"], BASE)]


def test_published_settings_are_the_base() -> None:
    config, published = small_config(), AFSD(small_config().model).config
    for table, variants in TABLES.items():
        for changes in variants.values():
            assert small_config(*changes) != config, table
    assert (published.quality, published.refinement, published.pooling) == ("quality", "all", "max")
    assert published.region_divisors == (4.0, 10.0)
