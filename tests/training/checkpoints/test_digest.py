"""Checkpoints carry a digest: damage is refused, files without pickle hold the same, odd weights are named."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.cli import main
from runtime.errors import AfsdError, ArtifactWarning, CheckpointError
from tests.training.small import CLASSES, small_config
from training.afsd.network import AFSD
from training.checkpoints.digest import compute_digest
from training.checkpoints.files import SCHEMA_KEY, Checkpoint, build_model, load_checkpoint, save_checkpoint

FORMATS = (".ckpt", ".safetensors")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    config = small_config()
    return Checkpoint(dict(AFSD(config.model).state_dict()), config, CLASSES, {"mAP": {"0.5": 0.25}, "seed": 1})


def few(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with three small entries and a training state, so that a file is a few thousand bytes."""
    weights = {name: value for name, value in checkpoint.weights.items() if value.numel() < 40}
    state = {"weights": dict(list(weights.items())[:1]), "progress": {"step": 3}, "random": (3, (1, 2), None)}
    return Checkpoint(dict(list(weights.items())[:3]), checkpoint.config, checkpoint.classes, checkpoint.metrics, state)


def content(checkpoint: Checkpoint) -> tuple[Any, ...]:
    weights = {k: (v.dtype, v.shape, v.numpy().tobytes()) for k, v in checkpoint.weights.items()}
    return weights, checkpoint.config, checkpoint.classes, checkpoint.metrics, repr(checkpoint.training)


@pytest.mark.parametrize("suffix", FORMATS)
def test_both_formats_hold_the_same(checkpoint: Checkpoint, tmp_path: Path, suffix: str) -> None:
    save_checkpoint(checkpoint, tmp_path / f"a{suffix}")
    loaded = load_checkpoint(tmp_path / f"a{suffix}")
    assert content(loaded) == content(checkpoint)
    (tmp_path / "plain").touch()
    assert (tmp_path / f"a{suffix}").stat().st_mode == (tmp_path / "plain").stat().st_mode
    save_checkpoint(loaded, tmp_path / "b.ckpt")
    save_checkpoint(loaded, tmp_path / "b.safetensors")
    assert load_checkpoint(tmp_path / "b.ckpt").sha256 == load_checkpoint(tmp_path / "b.safetensors").sha256
    assert loaded.sha256 == load_checkpoint(tmp_path / "b.ckpt").sha256


@pytest.mark.parametrize("bits", [100, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix", FORMATS)
def test_random_single_bits(checkpoint: Checkpoint, tmp_path: Path, suffix: str, bits: int) -> None:
    path = tmp_path / f"a{suffix}"
    save_checkpoint(few(checkpoint), path)
    whole, data = content(load_checkpoint(path)), path.read_bytes()
    draw = random.Random(suffix)
    positions = draw.sample(range(8 * len(data)), bits)
    marks = (SCHEMA_KEY.encode(), b"sha256")
    for mark in marks:  # and every bit of the keys by which digest and layout are found
        start = 8 * data.index(mark)
        positions += range(start, start + 8 * (len(mark) + 6))
    refused = 0
    for bit in positions:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ArtifactWarning)
            try:
                found = load_checkpoint(path)
            except AfsdError as error:
                refused += "\n" not in str(error)
                continue
        assert content(found) == whole  # a bit of the archive's padding
    assert refused > bits / 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_cut_short(checkpoint: Checkpoint, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_checkpoint(few(checkpoint), path)
    data = path.read_bytes()
    for length in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"a\.\w+: not a"):
            load_checkpoint(path)


def write_old_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint as releases without digests did."""
    save_checkpoint(checkpoint, path)
    data = torch.load(path, weights_only=True)
    del data["sha256"]
    torch.save({**data, SCHEMA_KEY: 1}, path)


def test_a_checkpoint_of_an_older_release_warns(checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_old_checkpoint(checkpoint, tmp_path / "old.ckpt")
    with pytest.warns(ArtifactWarning, match=r"old\.ckpt: is of an older release, without a digest") as caught:
        loaded = load_checkpoint(tmp_path / "old.ckpt")
    assert len(caught) == 1
    assert content(loaded) == content(checkpoint)
    data = torch.load(tmp_path / "old.ckpt", weights_only=True)
    torch.save({**data, SCHEMA_KEY: 2}, tmp_path / "removed.ckpt")
    with pytest.raises(CheckpointError, match="does not have the digest that it carries"):
        load_checkpoint(tmp_path / "removed.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.fill_(float("nan")), r"holds \d+ values of \d+ that are NaN or infinite"),
        (lambda value: value.reshape(-1)[:1].fill_(float("-inf")), r"holds 1 values of \d+ that are NaN or infinite"),
        (lambda value: value.to(torch.int64), "has numbers of type int64, expected float32"),
        (lambda value: value[:1, :1], r"has shape \["),
    ],
)
def test_odd_weights_are_named(checkpoint: Checkpoint, tmp_path: Path, change: Any, message: str) -> None:
    name = next(name for name, value in checkpoint.weights.items() if value.dim() > 2 and len(value) > 1)
    for suffix in FORMATS:
        value = checkpoint.weights[name].clone()
        made = change(value)
        weights = {**checkpoint.weights, name: value if made.numel() == 1 else made}
        odd = Checkpoint(weights, checkpoint.config, checkpoint.classes)
        save_checkpoint(odd, tmp_path / f"odd{suffix}")
        with pytest.raises(CheckpointError, match=rf"odd{suffix}: .*{name} {message}"):
            build_model(load_checkpoint(tmp_path / f"odd{suffix}"), str(tmp_path / f"odd{suffix}"))


def test_what_others_wrote_as_safetensors_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"not a checkpoint of this project; convert a published one with"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_a_digest_sees_types_shapes_and_names() -> None:
    different = [
        {}, {"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"b": 1}, {1: "a"}, {"a": None}, {"a": [1]}, {"a": [[1]]},
        {"a": torch.ones(1)}, {"a": torch.ones(1, 1)}, {"a": torch.ones(1, dtype=torch.float16)},
        {"a": torch.ones(1, dtype=torch.int32)}, {"a": torch.zeros(0)}, {"a": [1, 2]}, {"a": ["1, 2"]},
    ]  # fmt: skip
    assert len({compute_digest(content) for content in different}) == len(different)
    turned = torch.arange(6.0).reshape(2, 3)
    assert compute_digest({"a": turned.T}) == compute_digest({"a": turned.T.contiguous()})
    assert compute_digest({"a": 1, "b": (2,)}) == compute_digest({"b": [2], "a": 1})


def test_the_command_converts(checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(few(checkpoint), tmp_path / "broken.ckpt")
    save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    assert main(["export", str(tmp_path / "a.ckpt"), "--to", "safetensors"]) == 0
    assert content(load_checkpoint(tmp_path / "a.safetensors")) == content(checkpoint)
    assert "wrote" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "broken.ckpt"), "--to", "safetensors"]) == 2
    assert "entries do not fit the network" in capsys.readouterr().err
    (tmp_path / "mine.safetensors").write_text("mine")
    assert (
        main(["export", str(tmp_path / "a.ckpt"), "--to", "safetensors", "-o", str(tmp_path / "mine.safetensors")]) == 2
    )
    assert (tmp_path / "mine.safetensors").read_text() == "mine"
