"""Files of others and files that are not quite right: which part of them counts, and which sentence they get."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.errors import CheckpointError
from tests.golden_network import state_dict_entries
from tests.training.small import CLASSES, small_config
from training.afsd.network import AFSD
from training.checkpoints.files import Checkpoint, build_model, load_checkpoint, read_weights, save_checkpoint
from training.checkpoints.recognise import recognise
from training.checkpoints.slim import slim_checkpoint


@pytest.fixture
def checkpoint() -> Checkpoint:
    config = small_config()
    return Checkpoint(dict(AFSD(config.model).state_dict()), config, CLASSES, {"mAP": 0.5}, {"progress": {"step": 3}})


def test_folders_are_made_and_nothing_else_is_left(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "a.ckpt"
    hashes = set()
    for _ in range(2):
        save_checkpoint(checkpoint, path)
        hashes.add(load_checkpoint(path).sha256)
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]
    assert len(hashes) == 1


def rewrite(path: Path, **changes: Any) -> None:
    """Change entries of a file; None leaves one out."""
    data = {**torch.load(path, weights_only=True), **changes}
    torch.save({key: value for key, value in data.items() if value is not None}, path)


@pytest.mark.parametrize("schema", [4, 99])
def test_a_newer_schema_is_refused(schema: int, checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    rewrite(tmp_path / "a.ckpt", afsd_checkpoint=schema)
    with pytest.raises(CheckpointError, match=rf"a\.ckpt: checkpoint schema {schema}, this release reads \d+; update"):
        load_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("entry", ["weights", "config", "classes", "metrics", "training"])
def test_a_missing_entry_is_named(entry: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    rewrite(tmp_path / "a.ckpt", **{entry: None})
    with pytest.raises(CheckpointError, match=rf"a\.ckpt: the entry '{entry}' is missing"):
        load_checkpoint(tmp_path / "a.ckpt", verify=False)
    with pytest.raises(CheckpointError, match=r"a\.ckpt: "):
        load_checkpoint(tmp_path / "a.ckpt")


def test_a_published_file_has_its_weights_beside_the_optimizer_or_bare(checkpoint: Checkpoint, tmp_path: Path) -> None:
    bare, nested = tmp_path / "bare.ckpt", tmp_path / "model_07.pth"
    torch.save(checkpoint.weights, bare)
    torch.save({"epoch": 7, "model": checkpoint.weights, "optimizer": {"lr": 0.1}}, nested)
    for path in (bare, nested):
        assert list(read_weights(path)) == list(checkpoint.weights)
        loaded = load_checkpoint(path, checkpoint.config)
        assert (loaded.classes, loaded.config, loaded.training) == (CLASSES, checkpoint.config, {})
        assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        values = build_model(loaded).state_dict()
        assert all(torch.equal(values[name], value) for name, value in checkpoint.weights.items())


def test_classes_without_names_are_numbered_from_1(tmp_path: Path) -> None:
    weights = {name: torch.zeros(shape) for name, shape, _ in state_dict_entries("thumos14_rgb")}
    weights["coarse_pyramid_detection.conf_head.conv1d.bias"] = torch.zeros(4)
    assert recognise(weights, "own.ckpt").data.classes == ()
    torch.save(weights, tmp_path / "own.ckpt")
    assert load_checkpoint(tmp_path / "own.ckpt").classes == ("class_1", "class_2", "class_3")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "got dict, expected a checkpoint's dictionary"),
        ([torch.zeros(1)], "got list, expected a checkpoint's dictionary"),
        (torch.zeros(1), "got Tensor, expected a checkpoint's dictionary"),
        ({"a": 1, "b": torch.zeros(1), "c": "x"}, "a, c: expected tensors; is this a state dict?"),
        ({str(k): k for k in range(7)}, "0, 1, 2, 3, 4: expected tensors"),  # no more than five are listed
    ],
)
def test_contents_that_are_no_weights(content: object, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    for read in (load_checkpoint, read_weights):
        with pytest.raises(CheckpointError, match=r"x\.ckpt: ") as caught:
            read(tmp_path / "x.ckpt")
        assert f"x.ckpt: {said}" in str(caught.value)


def test_no_more_than_five_misfits_are_listed(checkpoint: Checkpoint) -> None:
    for extra, more in ((5, ""), (6, " and 1 more"), (9, " and 4 more")):
        weights = checkpoint.weights | {f"extra{k}": torch.zeros(1) for k in range(extra)}
        with pytest.raises(CheckpointError) as caught:
            build_model(Checkpoint(weights, checkpoint.config, CLASSES), "some.ckpt")
        message = str(caught.value)
        assert message.startswith(
            f"some.ckpt: {extra} entries do not fit the network, which has {len(checkpoint.weights)}: "
        )
        assert message.count("is not part of the network") == 5
        assert f"extra4 is not part of the network{more}; use the configuration" in message


def test_slim_weights_stay_as_they_are_unless_halved(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "full.ckpt")
    assert slim_checkpoint(tmp_path / "full.ckpt", tmp_path / "slim.ckpt") == tmp_path / "slim.ckpt"
    slim = load_checkpoint(tmp_path / "slim.ckpt")
    assert (slim.training, slim.metrics, slim.classes, slim.config) == ({}, {"mAP": 0.5}, CLASSES, checkpoint.config)
    assert all(torch.equal(slim.weights[name], value) for name, value in checkpoint.weights.items())
    slim_checkpoint(tmp_path / "full.ckpt", tmp_path / "half.ckpt", half=True)
    for name, value in load_checkpoint(tmp_path / "half.ckpt").weights.items():
        assert value.dtype == (torch.float16 if checkpoint.weights[name].is_floating_point() else torch.int64)
