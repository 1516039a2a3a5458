"""A model trained on a fold says so when it is judged on the videos of the fold, or on features of another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import training
from runtime.cli import main
from runtime.features.description import FEATURES, FeatureDescription, StreamFolder, write_description
from runtime.spec.training_videos import TrainingVideos
from tests.training.feature_data import SAMPLING, make_feature_set, small_feature_config
from tests.training.small import CLASSES, save_small, small_config
from training.checkpoints.digest import compute_digest
from training.checkpoints.files import SCHEMA_KEY, Checkpoint, load_checkpoint, save_checkpoint
from training.deployment.views import checkpoint_spec, open_torch_engine
from training.run import train


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small feature set, with features of its own for each of its folds a and b."""
    root = make_feature_set(tmp_path_factory.mktemp("folds") / "set")
    for fold in "ab":
        (root / f"split{fold}").mkdir()
        for path in (root / "rgb").iterdir():
            np.save(root / f"split{fold}" / path.name, np.load(path) + 0.01 * (fold == "b"))
    described = FeatureDescription("annotations.json", (StreamFolder("split{fold}"),), SAMPLING)
    write_description(root / FEATURES, described)
    return root


@pytest.fixture(scope="module")
def last(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(small_feature_config("a2net_gtea", root, "run.max_steps=1"), tmp_path_factory.mktemp("run"))


def test_the_checkpoint_and_its_engines_know_the_videos(root: Path, last: Path) -> None:
    record = load_checkpoint(last).training_videos
    assert record is not None
    assert (set(record.trained), record.count, record.fold, record.feature_fold) == ({"a0", "a1", "a2"}, 3, "b", "b")
    assert len(set(record.trained.values())) == 3
    assert open_torch_engine(last).spec.training_videos == record


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--features", "features.json", "--fold", "b"], None),
        pytest.param(["--features", "split{fold}", "--fold", "b"], None, marks=pytest.mark.thorough),
        pytest.param(["--features", "splitb", "--fold", "b"], None, marks=pytest.mark.thorough),
        (
            ["--features", "features.json", "--feature-fold", "b"],
            "trained on 3 of the 6 judged videos (a0, a1, a2), so the result is far too good; --fold b judges on",
        ),
        (
            ["--features", "split{fold}", "--fold", "a"],
            "the features are those of fold a, and the model was trained on",
        ),
        (["--features", "splita", "--fold", "b"], "(those of a0 differ): they are of another fold, or were made anew"),
    ],
)
def test_what_evaluate_says(
    arguments: list[str], said: str | None, root: Path, last: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(root)
    assert main(["evaluate", str(last), "annotations.json", *arguments]) == 0
    error = capsys.readouterr().err
    assert error == "" if said is None else said in error


def test_a_folder_with_a_fold_in_its_name_needs_the_fold(
    root: Path, last: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    assert main(["evaluate", str(last), "annotations.json", "--features", "split{fold}"]) == 2
    assert "split{fold}: features made for every fold; give the fold" in capsys.readouterr().err


@pytest.mark.thorough
def test_an_exported_file_and_its_description_know_them_too(
    root: Path, last: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(last), "--to", "safetensors", "-o", str(tmp_path / "a.safetensors")]) == 0
    assert load_checkpoint(tmp_path / "a.safetensors").training_videos == load_checkpoint(last).training_videos
    capsys.readouterr()
    assert main(["info", str(tmp_path / "a.safetensors"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["trained_on"] == {"videos": 3, "fold": "b", "features of fold": "b"}


def test_a_checkpoint_of_an_older_release_has_no_videos(tmp_path: Path) -> None:
    """The shipped one, of schema 2, whose digest is over what it held then; and one of today without any."""
    shipped = Path(training.__file__).parent / "pretrained" / "synthetic.ckpt"
    assert torch.load(shipped, weights_only=True)[SCHEMA_KEY] == 2
    assert load_checkpoint(shipped).training_videos is None
    path = save_small(tmp_path / "new.ckpt")
    assert checkpoint_spec(load_checkpoint(path), "new.ckpt").training_videos is None
    data = torch.load(path, weights_only=True)
    data["training_videos"] = {"count": "many"}
    del data["sha256"], data[SCHEMA_KEY]
    torch.save({**data, "sha256": compute_digest(data), SCHEMA_KEY: 3}, path)
    with pytest.raises(Exception, match=r"new\.ckpt: training_videos: count: got .*; the file is damaged"):
        load_checkpoint(path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = TrainingVideos({"a": "0" * 16, "ä\n": ""}, 2, {"b": "1" * 16}, "1", "2")
    weights = load_checkpoint(save_small(tmp_path / "x.ckpt")).weights
    for name in ("a.ckpt", "a.safetensors"):
        save_checkpoint(Checkpoint(weights, small_config(), CLASSES, training_videos=record), tmp_path / name)
        assert load_checkpoint(tmp_path / name).training_videos == record
