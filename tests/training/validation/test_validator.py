"""mAP that training measures is the mAP of `afsd evaluate` on the checkpoint, for every kind of network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from runtime.cli import main
from runtime.errors import AfsdError, AnnotationError, ConfigError
from tests.training.feature_data import NETWORKS, make_feature_set, small_feature_config
from tests.training.small import small_config
from training.check.report import check_training
from training.checkpoints.files import load_checkpoint
from training.config.settings import Config
from training.run import train
from training.synthetic.videos import VideoFormat, make_synthetic
from training.training_set import open_feature_windows, open_training_set
from training.validation.validator import open_validator, require_apart

LOW = "run.val_tiou=0.05:0.05:0.5"
"""Thresholds that a network of few steps reaches."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic videos to train on and two to validate, with annotations written by hand."""
    folder = tmp_path_factory.mktemp("made")
    shape = VideoFormat(size=40, shortest_s=6.0, longest_s=7.0)
    for subset in ("training", "validation"):
        make_synthetic(folder, videos=2, seed=1, subset=subset, workers=1, video_format=shape)
    document = json.loads((folder / "annotations.json").read_text())
    for number, entry in enumerate(document["database"].values()):
        entry["annotations"] = [{"label": "ac"[number % 2], "segment": [0.5, 2.5]}]
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


def config(root: Path, *settings: str) -> Config:
    return small_config(
        f"data.root={root}", "data.classes=[]", "model.num_classes=0", "data.val_subset=validation", LOW, *settings
    )


def judge(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[float]:
    capsys.readouterr()
    assert main(["evaluate", *arguments, "--tiou", "0.05:0.05:0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return [found["average_mAP"], *found["mAP"]]


@pytest.mark.thorough
def test_on_frames(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(shutil.copytree(made, tmp_path / "root"))
    train(config(root, "optimiser.epochs=1", "optimiser.learning_rate=3e-3"), tmp_path / "run")
    best = load_checkpoint(tmp_path / "run" / "best.ckpt")
    annotations = str(root / "annotations.json")
    found = judge(capsys, str(tmp_path / "run" / "best.ckpt"), annotations, "--subset", "validation")
    assert found[0] == best.metrics["val_map"] > 0
    header, *rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    last = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    assert [float(v) for k, v in last.items() if k.startswith("val_map")] == pytest.approx(found, rel=1e-5)
    assert best.training_videos is not None
    assert set(best.training_videos.trained) == {"training_0000", "training_0001"}
    assert set(best.training_videos.chosen) == {"validation_0000", "validation_0001"}
    assert all(len(d) == 16 for d in (best.training_videos.trained | best.training_videos.chosen).values())
    assert main(["evaluate", str(tmp_path / "run" / "best.ckpt"), annotations, "--subset", "validation"]) == 0
    assert "chosen on 2 of the 2 judged videos (validation_0000, validation_0001)" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "run" / "last.ckpt"), annotations, "--subset", "all"]) == 0
    assert "trained on 2 of the 4 judged videos (training_0000, training_0001)" in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings",
    [
        ("model.stream=flow", "data.frames=flow"),
        ("data.sampling=whole_video", "data.padding=after", "data.frames=whole", "data.rearrangement=activitynet"),
    ],
)
def test_on_flow_and_on_whole_videos(
    settings: tuple[str, ...], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(made, tmp_path / "root"))
    train(config(root, "optimiser.epochs=1", "optimiser.learning_rate=3e-3", *settings), tmp_path / "run")
    found = judge(capsys, str(tmp_path / "run" / "best.ckpt"), str(root / "annotations.json"), "--subset", "validation")
    assert found[0] == pytest.approx(load_checkpoint(tmp_path / "run" / "best.ckpt").metrics["val_map"], abs=1e-9)
    assert found[0] > 0


@pytest.mark.parametrize(
    "network", [pytest.param(n, marks=[] if n == "a2net_gtea" else pytest.mark.thorough) for n in NETWORKS]
)
def test_on_features(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = make_feature_set(tmp_path / "set")
    settings = ("data.val_subset=held_out", LOW, "optimiser.epochs=2", "optimiser.learning_rate=3e-3")
    train(small_feature_config(network, root, *settings), tmp_path / "run")
    assert "3 of its 3 videos are test videos of fold b, so mAP of the best weights there is too good" in caplog.text
    best = tmp_path / "run" / "best.ckpt"
    features = ["--features", str(root / "features.json")]
    found = judge(capsys, str(best), str(root / "annotations.json"), "--fold", "b", *features)
    assert found[0] == load_checkpoint(best).metrics["val_map"] > 0


def test_an_inner_fold_validates_without_test_videos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_feature_set(tmp_path / "set")
    settings = ("data.inner_group='^..'", "data.fold=b/a1", "data.val_subset=held_out")
    validator = open_validator(open_feature_windows(small_feature_config("gtea", root, *settings)))
    assert validator is not None
    assert [video.name for video in validator.videos] == ["a1"]
    assert "test videos" not in caplog.text


@pytest.mark.thorough
def test_a_measurement_leaves_random_numbers_as_they_were(tmp_path: Path) -> None:
    root = make_feature_set(tmp_path / "set")
    found = open_feature_windows(small_feature_config("gtea", root, "data.val_subset=held_out"))
    validator = open_validator(found)
    assert validator is not None
    last = train(small_feature_config("gtea", root, "run.max_steps=1", "run.logger=[]"), tmp_path / "run")
    before = torch.get_rng_state()
    calls: list[tuple[int, int]] = []
    validator(load_checkpoint(last), progress=lambda done, of: calls.append((done, of)))
    assert torch.equal(torch.get_rng_state(), before)
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (["data.val_subset=others"], AnnotationError, "no video of subset 'others'; the file has ''"),
        (["data.val_subset=''", "run.early_stopping=2"], ConfigError, "run.early_stopping needs data.val_subset"),
        (
            ["run.val_tiou=0:0.1:1"],
            ConfigError,
            r"run\.val_tiou: tIoU thresholds.*: got .*, expected above 0, up to 1",
        ),
        (["run.val_tiou=x"], ConfigError, r"run\.val_tiou: got 'x', expected start:step:stop"),
        (["run.logger=[comet]"], ConfigError, r"run\.logger.*got 'comet', expected one of 'csv'"),
        (
            ["data.class_agnostic=true", "model.num_classes=2", "data.classes=[action]"],
            ConfigError,
            "labels of a video classifier: leave it out",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    settings: list[str], error: type[AfsdError], message: str, tmp_path: Path
) -> None:
    root = make_feature_set(tmp_path / "set")
    with pytest.raises(error, match=message) as told:
        train(small_feature_config("gtea", root, "data.val_subset=held_out", *settings), tmp_path / "run")
    assert "\n" not in str(told.value)


def test_the_subset_that_is_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.val_subset is 'training', which is trained on"):
        config(tmp_path, "data.val_subset=training")


def test_videos_that_are_trained_on_do_not_validate(tmp_path: Path) -> None:
    root = make_feature_set(tmp_path / "set")
    document = json.loads((root / "annotations.json").read_text())
    document["database"]["a0"]["subset"] = document["database"]["b0"]["subset"] = "mixed"
    (root / "annotations.json").write_text(json.dumps(document))
    mixed = small_feature_config("gtea", root, "data.val_subset=mixed")
    for look in (lambda: train(mixed, tmp_path / "run"), lambda: check_training(mixed)):
        with pytest.raises(ConfigError, match=r"'mixed': 1 of its 2 videos are trained on, the first is 'a0'"):
            look()


def test_any_spelling_of_a_name_is_the_same_video() -> None:
    require_apart("x", ["c"], ["a", "v_b"])
    with pytest.raises(ConfigError, match="'x': 1 of its 2 videos are trained on, the first is 'b'"):
        require_apart("x", ["c", "b"], ["a", "v_b"])


@pytest.mark.thorough
def test_the_test_subset_is_not_taken_without_a_word(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = Path(shutil.copytree(made, tmp_path / "root"))
    text = (root / "annotations.json").read_text().replace('"validation"', '"test"')
    (root / "annotations.json").write_text(text)
    validator = open_validator(open_training_set(config(root, "data.val_subset=test")))
    assert validator is not None
    assert "data.val_subset is 'test': the best weights are chosen on the test videos" in caplog.text
