"""`afsd train --check`: what it finds is what was put into the data, and what it measures is of the run's size."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.cli import main
from tests.training.feature_data import make_feature_set, small_feature_config
from tests.training.small import small_config
from training.check import measure as measuring
from training.check.points import (
    Point,
    check_classes,
    check_clips,
    check_disk,
    check_longest,
    check_out,
    check_shortest,
    check_time,
    check_videos,
)
from training.check.report import CheckReport, check_training
from training.check.survey import survey
from training.config.settings import Config
from training.deployment.views import model_spec
from training.synthetic.videos import VideoFormat, make_synthetic
from training.training_set import open_clips

Entry = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    shape = VideoFormat(size=40, shortest_s=6.0, longest_s=7.0)
    for subset, count in (("training", 2), ("validation", 1)):
        make_synthetic(folder, videos=count, seed=1, subset=subset, workers=1, video_format=shape)
    return folder


def annotate(root: Path, *videos: list[tuple[str, float, float]]) -> None:
    """Write the actions (label, start, end) of training_0000, training_0001 and validation_0000."""
    names = ("training_0000", "training_0001", "validation_0000")
    database = {
        name: {"subset": name.partition("_")[0], "annotations": [{"label": n, "segment": [s, e]} for n, s, e in each]}
        for name, each in zip(names, videos, strict=True)
    }
    (root / "annotations.json").write_text(json.dumps({"database": database}))


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(made, tmp_path / "root"))
    annotate(root, [("a", 0.5, 2.0), ("b", 2.5, 4.0)], [("a", 1.0, 2.5)], [("a", 1.0, 2.0)])
    return root


def config(root: Path, *settings: str) -> Config:
    return small_config(
        f"data.root={root}", "data.classes=[]", "model.num_classes=0", "data.val_subset=validation", *settings
    )


def found(report: CheckReport) -> dict[str, Point]:
    return {point.name: point for point in report.points}


@pytest.mark.thorough
def test_a_sound_set_before_and_after_its_store_is_made(root: Path, tmp_path: Path) -> None:
    points = found(check_training(config(root), tmp_path / "run"))
    assert not (root / "frames").exists()  # it only looks
    assert not (tmp_path / "run").exists()
    assert {name for name, point in points.items() if point.verdict != "ok"} == {"classes", "clips"}  # so few of them
    assert points["videos"].found == "2 to train on, 1 to validate"
    assert points["longest action"].found == "15 frames (1.5 s) in windows of 32 (3.2 s), so all fit"
    assert "on random frames" in points["time"].found
    assert "frame store" in points["disk"].found
    blank = survey(config(root))
    store = open_clips(config(root))
    assert list(blank.clips) == list(store.clips)  # cut without the store, from the files' lengths
    size = sum(path.stat().st_size - 128 for path in (root / "frames").glob("training*.npy"))
    assert blank.bytes_to_store == pytest.approx(size * 3 / 2, rel=0.2)  # of three videos of about one length
    real = survey(config(root))
    assert real.is_stored
    points = found(check_training(config(root), tmp_path / "run"))
    assert "on random frames" not in points["time"].found


@pytest.mark.thorough
def test_what_does_not_fit_is_counted(root: Path) -> None:
    """Windows of 3.2 s; the finest level has a location every 4 frames, 0.4 s."""
    annotate(root, [("a", 0.5, 5.5), ("b", 2.0, 2.3)], [("a", 1.0, 2.5)], [("c", 1.0, 2.0)])
    seen = survey(config(root))
    spec = model_spec(seen.config, seen.classes)
    points = {point.name: point for point in (check_longest(seen), check_shortest(seen, spec), check_classes(seen))}
    assert points["longest action"].verdict == "look"
    assert (
        "50 frames (5.0 s) in windows of 32 (3.2 s): 1 of 3 actions (33.3 %) do not fit"
        in points["longest action"].found
    )
    assert "the finest level has a location every 4: 1 of 3 actions may lie" in points["shortest action"].found
    assert "1 to validate that training lacks, whose AP is 0: c" in points["classes"].found
    assert "fewer than 10 actions: a 2, b 1" in points["classes"].found


def missing(root: Path) -> None:
    (root / "videos" / "training_0001.mp4").unlink()


def damaged(root: Path) -> None:
    (root / "videos" / "validation_0000.mp4").write_bytes(b"no video at all")


def too_long(root: Path) -> None:
    annotate(root, [("a", 0.0, 5.5)], [("b", 0.1, 5.9)], [("a", 1.0, 2.0)])


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("fault", "settings", "name", "text"),
    [
        (missing, [], "videos", "1 of 3 cannot be read, 'training_0001': "),
        (damaged, [], "videos", "1 of 3 cannot be read, 'validation_0000': "),
        (too_long, [], "clips", "0, and a batch takes 2: an action must lie within a window"),
        (None, ["optimiser.batch_size=500"], "clips", "and a batch takes 500"),
        (None, ["run.init=no.pt"], "first steps", "no.pt: file not found"),
        (None, ["optimiser.learning_rate=1e30"], "first steps", "the loss is "),
    ],
)
def test_what_will_fail(
    fault: Callable[[Path], None] | None, settings: list[str], name: str, text: str, root: Path
) -> None:
    if fault is not None:
        fault(root)
    if name == "first steps":
        point = found(check_training(config(root, *settings)))[name]
    else:
        seen = survey(config(root, *settings))
        point = {"videos": check_videos, "clips": check_clips}[name](seen)
    assert point.verdict == "will fail"
    assert text in point.found
    assert CheckReport((Point("other", "look", ""), point)).will_fail


@pytest.mark.thorough
def test_the_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [
        "model.clip_length=32", "model.crop_size=32", "model.backbone_multiplier=0.125", "model.head_channels=64",
        "model.num_levels=3", "model.level_units=[4, 8, 16]", "model.num_classes=0", "data.frame_size=36",
        "data.clip_stride=8", "data.test_stride=16", "data.workers=0", f"data.root={root}", "run.accelerator=cpu",
    ]  # fmt: skip
    command = ["train", "synthetic", *(word for setting in settings for word in ("--set", setting))]
    assert main([*command, "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["point", "verdict", "what", "was", "found"]
    assert [line.split("  ")[0] for line in lines[1:9]] == [
        "videos", "longest action", "shortest action", "classes", "clips", "memory", "time", "disk",
    ]  # fmt: skip
    assert ["class", "actions", "videos", "clips"] in [line.split() for line in lines]
    assert ["b", "1", "1", "3"] in [line.split() for line in lines]
    missing(root)
    assert main([*command, "--check"]) == 2
    assert main(command) == 2
    assert "no folder for the run; give --out DIR, or --check" in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_text("")
    assert [point.verdict for point in check_out(tmp_path, None)] == ["will fail"]
    assert (
        check_out(tmp_path, tmp_path / "last.ckpt") == check_out(tmp_path / "new", None) == check_out(None, None) == []
    )


def test_features(tmp_path: Path) -> None:
    root = make_feature_set(tmp_path / "set")
    settings = small_feature_config("a2net_gtea", root, "data.val_subset=held_out")
    report = check_training(settings)
    points = found(report)
    assert not report.will_fail
    assert points["videos"].found == "3 to train on, 3 to validate"
    assert points["longest action"].found.startswith("12 steps (2.4 s) in windows of 32 (6.4 s)")
    assert [row[:3] for row in report.classes[1:]] == [["cut", "3", "3"], ["pour", "3", "3"]]
    np.save(root / "rgb" / "a1.npy", np.zeros((5, 7), np.float32))
    points = found(check_training(settings))
    assert points["videos"].verdict == "will fail"
    assert "'a1'" in points["videos"].found


@pytest.mark.thorough
def test_too_little_memory_and_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = survey(config(root))
    cost = measuring.measure(seen)
    assert (cost.steps_per_epoch, cost.total_steps) == (len(seen.clips) // 2, 2 * (len(seen.clips) // 2))
    assert 0 < cost.step_s < 60
    assert cost.window_s > 0
    assert 0 < cost.memory_bytes < cost.memory_limit
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert [point.verdict for point in check_disk(seen, cost, None)] == ["will fail"]
    limited = replace(seen, config=config(root, "run.max_minutes=1"))
    slow = replace(cost, step_s=100.0)
    assert "run.max_minutes ends the run after 1 min" in check_time(limited, slow).found

    def refuse(*_: Any) -> Any:
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1e15 bytes"
        )

    monkeypatch.setattr("training.loop.trainer.Trainer.try_steps", refuse)
    point = found(check_training(config(root)))["memory"]
    assert (point.verdict, "takes more than there is" in point.found) == ("will fail", True)
