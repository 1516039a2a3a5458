"""Every fold of a feature set trained and judged in one command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from runtime.annotations.activitynet import load_annotations
from runtime.detector import Detector
from runtime.errors import ConfigError
from runtime.evaluation import evaluate
from runtime.features.video_features import Features
from tests.training.feature_data import NETWORKS, SMALL, make_feature_set, small_feature_config
from training.commands.train import add_cross_validate
from training.config.files import load_config
from training.cross_validation.from_config import CANDIDATES, RESULTS, cross_validate_config
from training.cross_validation.kept_candidates import read_candidates
from training.deployment.views import open_torch_engine
from training.training_set import config_folds


@pytest.mark.slow
def test_folds_are_trained_apart_and_judged_on_their_own_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's figures are those of the checkpoints it left, judged here file by file."""
    root, out = make_feature_set(tmp_path / "set"), tmp_path / "runs"
    parser = argparse.ArgumentParser()
    add_cross_validate(parser.add_subparsers())
    settings = [f"data.root={root}", "optimiser.learning_rate=3e-3", *SMALL, *NETWORKS["a2net_gtea"]]
    settings.append("optimiser.epochs=20")
    flags = [flag for setting in settings for flag in ("--set", setting)]
    command = ["cross-validate", "a2net_gtea", "--out", str(out), "--seeds", "5", "--tiou", "0.3,0.5", *flags]
    args = parser.parse_args(command)
    assert args.func(args) == 0
    table = capsys.readouterr().out
    assert "run 2 of 2: fold b, seed 5" in table
    assert "2 runs, seeds 5" in table
    stored = {run["fold"]: run["metrics"] for run in json.loads((out / RESULTS).read_text())["runs"]}
    for fold in config_folds(load_config("a2net_gtea", settings)):
        truth = [v for v in load_annotations(root / "annotations.json") if v.name in fold.test]
        detector = Detector(open_torch_engine(out / f"{fold.name}-seed-5" / "last.ckpt"))
        files = [root / "rgb" / f"{video.name}.npy" for video in truth]
        found = [detector.run(Features(f, fps=20, duration_s=v.duration_s)) for f, v in zip(files, truth, strict=True)]
        result = evaluate(found, truth, (0.3, 0.5))
        assert stored[fold.name]["mAP average"] == pytest.approx(result.average)
        assert result.average > 0.3  # it has learnt: 0.9 and more by then, 0.1 - 0.8 after 12 epochs
        kept = read_candidates(out / f"{fold.name}-seed-5" / CANDIDATES).detections()
        assert [len(video) for video in kept] == [len(video) for video in found]
    assert args.func(args) == 0  # nothing is run again
    assert "run 1 of" not in capsys.readouterr().out


def test_folds_among_the_training_videos(tmp_path: Path) -> None:
    root = make_feature_set(tmp_path)
    inner = "data.inner_group='^..'"
    one = config_folds(small_feature_config("gtea", root, inner))  # of data.fold b, trained on the videos a
    assert [(fold.name, fold.train, fold.test, fold.feature_fold) for fold in one] == [
        (f"b/a{k}", tuple(f"a{other}" for other in range(3) if other != k), (f"a{k}",), "b") for k in range(3)
    ]
    assert len(config_folds(small_feature_config("gtea", root, inner, "data.fold=''"))) == 6


def test_a_single_fold_is_refused(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_cross_validate(parser.add_subparsers())
    args = parser.parse_args(["cross-validate", "a2net_gtea", "--out", str(tmp_path / "runs"), "--set", "data.fold=a"])
    with pytest.raises(ConfigError, match=r"data.fold is 'a', but cross-validation runs every fold"):
        args.func(args)
    assert not (tmp_path / "runs").exists()


def test_frames_have_no_feature_folds(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="synthetic: got a network on rgb frames, expected features"):
        cross_validate_config(load_config("synthetic"), tmp_path, [1], [0.5])
