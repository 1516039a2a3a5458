"""Checkpoints: round trip, published state dicts, and everything that must be refused."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from runtime.engines.card_writing import write_card
from runtime.errors import CheckpointError
from runtime.spec.model_card import OperatingPoint
from tests.golden_network import NETWORKS, state_dict_entries
from tests.training.small import CLASSES, small_config
from training.afsd.family import load_initial
from training.afsd.network import AFSD
from training.checkpoints.files import (
    Checkpoint,
    build_model,
    load_checkpoint,
    recognise,
    save_checkpoint,
)
from training.checkpoints.slim import slim_checkpoint
from training.config.files import load_config
from training.deployment.views import checkpoint_spec


@pytest.fixture
def checkpoint() -> Checkpoint:
    config = small_config()
    return Checkpoint(dict(AFSD(config.model).state_dict()), config, CLASSES, {"mAP": 0.5}, {"progress": {"step": 3}})


class Hostile:
    """Runs code when unpickled by an unsafe reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_round_trip(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    loaded = load_checkpoint(tmp_path / "a.ckpt")
    assert (loaded.config, loaded.classes, loaded.metrics, loaded.training) == (
        checkpoint.config, checkpoint.classes, checkpoint.metrics, checkpoint.training,
    )  # fmt: skip
    assert len(loaded.sha256) == 64
    model = build_model(loaded)
    assert not model.training
    assert all(torch.equal(v, checkpoint.weights[k]) for k, v in model.state_dict().items())


def test_slim_keeps_what_detection_needs(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "full.ckpt")
    slim_checkpoint(tmp_path / "full.ckpt", tmp_path / "slim.ckpt", half=True, metrics={"seed": 1})
    slim = load_checkpoint(tmp_path / "slim.ckpt")
    assert slim.training == {}
    assert slim.metrics == {"mAP": 0.5, "seed": 1}
    assert (tmp_path / "slim.ckpt").stat().st_size < 0.6 * (tmp_path / "full.ckpt").stat().st_size
    for name, value in build_model(slim).state_dict().items():
        assert value.dtype == checkpoint.weights[name].dtype
        assert torch.allclose(value, checkpoint.weights[name], rtol=1e-3, atol=1e-6)


def test_a_state_dict_of_another_network_needs_its_configuration(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-15.ckpt"
    torch.save(checkpoint.weights, path)
    assert load_checkpoint(path, checkpoint.config).classes == CLASSES
    with pytest.raises(CheckpointError, match=r"do not fit the network, which has .*use the configuration of"):
        build_model(load_checkpoint(path), str(path))
    torch.save({"layer.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(CheckpointError, match=r"no published network \(got layer\.weight …\).*--config"):
        load_checkpoint(path)


@pytest.mark.parametrize("network", NETWORKS)
def test_published_state_dicts_are_recognised_by_their_shapes(network: str) -> None:
    with torch.device("meta"):
        weights = {name: torch.empty(shape) for name, shape, _ in state_dict_entries(network)}
    assert recognise(weights, "checkpoint-15.ckpt") == load_config(NETWORKS[network])


def test_a_published_network_trained_on_other_classes_is_recognised() -> None:
    with torch.device("meta"):
        weights = {name: torch.empty(shape) for name, shape, _ in state_dict_entries("thumos14_rgb")}
        weights["coarse_pyramid_detection.conf_head.conv1d.bias"] = torch.empty(8)
    config = recognise(weights, "own.ckpt")
    assert (config.model.num_classes, config.data.classes) == (8, ())


def test_what_a_published_checkpoint_lacks_is_listed(tmp_path: Path) -> None:
    entries = state_dict_entries("anet_flow")
    gone, odd = entries[0][0], entries[4][0]
    weights = {name: torch.zeros(shape) for name, shape, _ in entries if name != gone}
    weights[odd] = torch.zeros(3)
    torch.save(weights, tmp_path / "checkpoint-6.ckpt")
    with pytest.raises(CheckpointError) as caught:
        build_model(load_checkpoint(tmp_path / "checkpoint-6.ckpt"), "checkpoint-6.ckpt")
    assert f"{gone} is missing" in str(caught.value)
    assert f"{odd} has shape [3], expected {list(entries[4][1])}" in str(caught.value)


def test_kinetics_weights_are_not_taken_for_a_detector(tmp_path: Path) -> None:
    torch.save(dict(AFSD(small_config().model).backbone._model.state_dict()), tmp_path / "rgb_imagenet.pt")
    with pytest.raises(CheckpointError, match=r"Kinetics I3D weights without a head; train from them with run\.init"):
        load_checkpoint(tmp_path / "rgb_imagenet.pt")


def test_misfits_are_listed_by_name(checkpoint: Checkpoint) -> None:
    weights = dict(checkpoint.weights)
    removed = "coarse_pyramid_detection.loc_heads.0.scale"
    del weights[removed]
    weights["extra.bias"] = torch.zeros(1)
    weights["coarse_pyramid_detection.conf_head.conv1d.bias"] = torch.zeros(9)
    with pytest.raises(CheckpointError) as caught:
        build_model(Checkpoint(weights, checkpoint.config, CLASSES), "some.ckpt")
    message = str(caught.value)
    assert f"{removed} is missing" in message
    assert "extra.bias is not part of the network" in message
    assert "conf_head.conv1d.bias has shape [9], expected [3]" in message
    assert "\n" not in message


def test_pickled_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    for name, save in (("torch.ckpt", torch.save), ("plain.ckpt", lambda o, p: p.write_bytes(pickle.dumps(o)))):
        save({"model": Hostile(trace)}, tmp_path / name)
        with pytest.raises(CheckpointError, match=r"never run|not a readable"):
            load_checkpoint(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.ckpt: "):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="file not found"):
        load_checkpoint(tmp_path / "y.ckpt")


def test_a_file_of_another_kind_is_not_taken_for_code(tmp_path: Path) -> None:
    (tmp_path / "mydata.yaml").write_text("name: mydata")
    with pytest.raises(CheckpointError, match="not a checkpoint; expected a file that PyTorch wrote"):
        load_checkpoint(tmp_path / "mydata.yaml")


def test_a_truncated_checkpoint_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save_checkpoint(checkpoint, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="is the file complete"):
        load_checkpoint(path)


def test_kinetics_weights_start_the_backbone(tmp_path: Path) -> None:
    def start(name: str) -> str:
        path = str(tmp_path / name)
        return load_initial(model, load_checkpoint(path, config).weights, replace(config.run, init=path))

    config = small_config()
    source, model = AFSD(config.model), AFSD(config.model)
    weights = dict(source.backbone._model.state_dict())
    torch.save({**weights, "logits.conv3d.weight": torch.zeros(4)}, tmp_path / "rgb_imagenet.pt")
    assert start("rgb_imagenet.pt").endswith("not loaded: logits.conv3d.weight")
    assert all(torch.equal(v, weights[k]) for k, v in model.backbone._model.state_dict().items())
    old = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "of_pytorch_0.3.pt")  # which had no such counter, as the released files have none
    assert start("of_pytorch_0.3.pt").endswith("not loaded: nothing")
    weights.pop("Conv3d_1a_7x7.conv3d.weight")
    torch.save(weights, tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match=r"Conv3d_1a_7x7\.conv3d\.weight is missing"):
        start("cut.pt")


@pytest.mark.thorough
def test_a_card_and_an_operating_point_go_into_a_checkpoint_and_on_into_its_engines(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    for suffix in (".ckpt", ".safetensors"):
        path = tmp_path / f"a{suffix}"
        save_checkpoint(checkpoint, path)
        point = OperatingPoint(0.42, 0.5, 0.8, 0.9, 12, judged_on="mine")
        write_card(path, lambda spec: replace(spec.card, licence="CC0-1.0"), point)
        write_card(path, lambda spec: replace(spec.card, note="n"), point)
        loaded = load_checkpoint(path)
        assert loaded.metrics["mAP"] == 0.5
        assert bool(loaded.training) == (suffix == ".ckpt")
        assert all(torch.equal(v, checkpoint.weights[k]) for k, v in loaded.weights.items())
        spec = checkpoint_spec(loaded, "a")
        assert (spec.card.licence, spec.card.note, spec.operating_point) == ("CC0-1.0", "n", point)
        write_card(path, lambda spec: spec.card, None)
        assert checkpoint_spec(load_checkpoint(path), "a").operating_point is None
    bare = tmp_path / "bare.ckpt"
    torch.save(checkpoint.weights, bare)
    content = bare.read_bytes()
    with pytest.raises(CheckpointError):
        write_card(bare, lambda spec: spec.card, None)
    assert bare.read_bytes() == content
