"""What a configuration opens: classes from the data, stores made where they lack, and clear errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.errors import AfsdError, AnnotationError, ConfigError, InputError
from tests.training.small import small_config
from training.checkpoints.files import load_checkpoint
from training.config.settings import Config
from training.run import train
from training.stores.frame_store import FrameStore
from training.synthetic.videos import VideoFormat, make_synthetic
from training.training_set import open_clips


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic videos, with one action of class a and two of class c written by hand."""
    folder = tmp_path_factory.mktemp("made")
    make_synthetic(folder, videos=2, seed=1, subset="training", workers=1,
                   video_format=VideoFormat(size=40, shortest_s=6.0, longest_s=7.0))  # fmt: skip
    actions = [[("c", 0.5, 1.5), ("a", 2.0, 3.0)], [("c", 1.0, 2.5)]]
    database = {
        f"training_{k:04}": {"subset": "training",
                             "annotations": [{"label": n, "segment": [s, e]} for n, s, e in each]}
        for k, each in enumerate(actions)
    }  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


def config(root: Path, *settings: str) -> Config:
    return small_config(f"data.root={root}", "data.classes=[]", "model.num_classes=0", *settings)


def test_classes_come_from_the_annotations_and_the_checkpoint_holds_their_number(root: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(train(config(root, "run.max_steps=1"), tmp_path / "run"))
    assert checkpoint.classes == ("a", "c")
    assert checkpoint.config.model.num_classes == 3


@pytest.mark.thorough
def test_flow_is_made_for_a_flow_network(root: Path) -> None:
    dataset = open_clips(config(root, "model.stream=flow", "data.frames=flow")).dataset
    rgb, flow = FrameStore(root / "frames"), FrameStore(root / "flow")
    assert {n: v.frames for n, v in rgb.videos.items()} == {n: v.frames for n, v in flow.videos.items()}
    assert dataset[0].frames.shape == (2, 32, 32, 32)


@pytest.mark.thorough
def test_mirrored_flow_changes_its_sign_unless_as_released(root: Path) -> None:
    """Of the same draw, only the x component differs, and by its sign: levels q and 255 − q."""
    correct = open_clips(config(root, "model.stream=flow", "data.frames=flow")).dataset
    released = open_clips(config(root, "model.stream=flow", "data.frames=flow", "data.flow_flip=reference")).dataset
    mirrored = []
    for epoch in range(12):
        correct.set_epoch(epoch)
        released.set_epoch(epoch)
        a, b = correct[0].frames.int(), released[0].frames.int()
        assert torch.equal(a[1], b[1])
        mirrored.append(not torch.equal(a[0], b[0]))
        assert torch.equal(a[0], 255 - b[0] if mirrored[-1] else b[0])
    assert 0 < sum(mirrored) < 12


def test_a_whole_video_is_one_clip_at_its_own_rate(root: Path) -> None:
    whole = ("data.sampling=whole_video", "data.padding=after", "data.rearrangement=activitynet")
    dataset = open_clips(config(root, *whole, "data.frames=whole")).dataset
    store = FrameStore(root / "whole")
    assert len(dataset) == 2
    for index, (name, seconds) in enumerate(zip(sorted(store.videos), ([0.5, 1.5], [1.0, 2.5]), strict=True)):
        stored = store.videos[name]
        assert stored.frames in (31, 32)
        assert stored.source_frames is not None
        rate = 30 * 32 / stored.source_frames
        assert store.sample_fps(name) == pytest.approx(rate)
        np.testing.assert_allclose(dataset[index].targets[0, :2], np.array(seconds) * rate / 32, rtol=1e-6)
        lengths = (dataset[index].targets[:, 1] - dataset[index].targets[:, 0]) * 32
        assert dataset._clips[index].background_length == int(lengths.min().floor() / 4)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (["model.num_classes=5"], ConfigError, "num_classes is 5, the annotations have 2 classes: expected 3, .* or 0"),
        (["data.classes=[a, b]"], AnnotationError, "label 'c' is not one of the classes a, b"),
        (["data.train_subset=train"], AnnotationError, "no video of subset 'train'; the file has 'training'"),
        (["data.annotations=no.json"], AnnotationError, "file not found; expected a file of annotations or detections"),
    ],
)
def test_what_does_not_fit_is_one_line(root: Path, settings: list[str], error: type[AfsdError], message: str) -> None:
    with pytest.raises(error, match=message):
        open_clips(config(root, *settings))


def test_a_store_of_another_kind_is_refused(root: Path) -> None:
    open_clips(config(root))
    (root / "videos").rename(root / "elsewhere")
    open_clips(config(root))
    for settings in (["data.sample_fps=5"], ["data.sampling=whole_video"], ["model.stream=flow"]):
        with pytest.raises(ConfigError, match=r"frames: holds arrays of RGB, 36 pixels.*the configuration asks for"):
            open_clips(config(root, *settings))


def test_a_folder_that_holds_a_run_is_not_written_over(root: Path, tmp_path: Path) -> None:
    short = config(root, "run.max_steps=1")
    last = train(short, tmp_path / "out")
    before = last.read_bytes()
    with pytest.raises(ConfigError, match=r"holds a run already; continue it \(--resume .*last\.ckpt\)"):
        train(short, tmp_path / "out")
    assert last.read_bytes() == before
    assert train(short, tmp_path / "out", resume=last) == last


def test_videos_that_give_no_clip_are_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    document = json.loads((root / "annotations.json").read_text())
    name = next(name for name, entry in document["database"].items() if entry["subset"] == "training")
    document["database"][name]["annotations"] = [{"label": "x", "segment": [900.0, 901.0]}]
    (root / "annotations.json").write_text(json.dumps(document))
    open_clips(config(root, "model.num_classes=0"))
    assert f"videos give no clip to train on, the first is {name!r}" in caplog.text


def test_a_subset_without_actions(root: Path) -> None:
    path = root / "annotations.json"
    path.write_text(json.dumps({"database": {"training_0000": {"subset": "training", "annotations": []}}}))
    with pytest.raises(AnnotationError, match=r"annotations\.json, subset 'training': no action"):
        open_clips(config(root))


@pytest.mark.parametrize("name", ["metrics.csv", pytest.param("epoch_03.ckpt", marks=pytest.mark.slow)])
def test_files_of_others_with_the_names_of_a_run_are_not_written_over(name: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    with pytest.raises(InputError, match=rf"{name}: is there already"):
        train(config(root, "run.max_steps=1"), tmp_path / "run")
    assert (tmp_path / "run" / name).read_text() == "mine"
    (tmp_path / "run" / "metrics.csv").write_text(
        "step,epoch\n"
    )  # of a run that was killed before its first checkpoint
    train(config(root, "run.max_steps=1"), tmp_path / "run")


def test_videos_of_others_are_no_synthetic_ones(tmp_path: Path) -> None:
    mine = tmp_path / "videos/training_0001.mp4"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(InputError, match=r"training_0001\.mp4: is there already, and no synthetic data beside it"):
        make_synthetic(tmp_path, videos=2, seed=1, subset="training", workers=1)
    assert mine.read_text() == "mine"
    assert not (tmp_path / "annotations.json").exists()
