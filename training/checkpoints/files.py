"""Checkpoints: this project's own files, bare state dicts as published, and Kinetics weights to start from.

Every file is read with `weights_only`: a pickle that would run code is refused, not run.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtime.common.files import atomic_path
from runtime.errors import CheckpointError
from training.afsd.network import AFSD
from training.build_network import Network, build_network
from training.checkpoints.recognise import LISTED, recognise
from training.config.files import config_from_mapping, config_to_mapping
from training.config.settings import Config
from training.networks.i3d import I3D, Backbone

SCHEMA = 1
SCHEMA_KEY = "afsd_checkpoint"
"""Marks a file of this project; a file without it is taken as a bare state dict."""

CHECKPOINT_STARTS = (b"P", b"\x80", b"")
"""First bytes of PyTorch's files: a ZIP archive, a pickle (before 1.6); an empty file is told apart later."""

RETIRED = ("validation_subset",)
"""Settings of `data` in checkpoints of older releases."""

BATCH_COUNTER = "num_batches_tracked"
"""Entry of batch norms that files of PyTorch 0.3, as the Kinetics weights are, do not have; only training reads it."""


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights and all that is known of how they came about."""

    weights: dict[str, Tensor]
    """State dict of the network."""
    config: Config
    classes: tuple[str, ...]
    """Action names in index order, the background left out."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Whatever was measured, plain data."""
    training: dict[str, Any] = field(default_factory=dict)
    """Optimizer, schedule, average, random states and progress, for resuming; empty in a file made for shipping."""
    sha256: str = ""
    """Of the file it was read from."""


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; the file appears under its name only when complete."""
    data = {
        SCHEMA_KEY: SCHEMA,
        "weights": checkpoint.weights,
        "config": config_to_mapping(checkpoint.config),
        "classes": list(checkpoint.classes),
        "metrics": checkpoint.metrics,
        "training": checkpoint.training,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        torch.save(data, unfinished)


def load_checkpoint(path: str | Path, config: Config | None = None) -> Checkpoint:
    """Read a checkpoint of this project, or a published one: a bare state dict (AFSD), or `model_NN.pth` with
    epoch, model and optimizer (A2Net).

    Args:
        path: the file.
        config: the network of a bare state dict; recognised by its shapes when None (see `recognise`).

    Raises:
        CheckpointError: no such file, not a checkpoint, pickled code, a newer schema, or a bare state dict of another
            network than the published ones without a configuration.
    """
    path = Path(path)
    data = _load(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if SCHEMA_KEY not in data:
        return _bare(path, data, config, sha256)
    if data[SCHEMA_KEY] != SCHEMA:
        raise CheckpointError(f"{path}: checkpoint schema {data[SCHEMA_KEY]}, this release reads {SCHEMA}; update it")
    try:
        return Checkpoint(
            weights=_tensors(path, data["weights"]),
            config=config_from_mapping(_without_retired(data["config"]), str(path)),
            classes=tuple(data["classes"]),
            metrics=data["metrics"],
            training=data["training"],
            sha256=sha256,
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: the entry {error} is missing; the file is damaged") from None


def build_model(checkpoint: Checkpoint, source: str = "checkpoint") -> Network:
    """The network of a checkpoint in eval mode, every entry loaded.

    Raises:
        CheckpointError: entries missing, left over or misshapen, by name.
    """
    model = build_network(checkpoint.config)
    load_weights(model, checkpoint.weights, source)
    return model.eval()


def build_afsd(checkpoint: Checkpoint, source: str = "checkpoint") -> AFSD:
    """`build_model` where only AFSD will do (CheckpointError: another family)."""
    model = build_model(checkpoint, source)
    if not isinstance(model, AFSD):
        raise CheckpointError(f"{source}: got {checkpoint.config.family}, expected afsd")
    return model


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy `weights` into `model`, whose names and shapes must be the same (CheckpointError otherwise)."""
    wanted = model.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in weights]
    problems += [f"{name} is not part of the network" for name in weights if name not in wanted]
    problems += [
        f"{name} has shape {list(weights[name].shape)}, expected {list(value.shape)}"
        for name, value in wanted.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise CheckpointError(
            f"{source}: {len(problems)} entries do not fit the network, which has {len(wanted)}: "
            f"{'; '.join(problems[:LISTED])}{more}; is it of this configuration?"
        )
    model.load_state_dict(dict(weights))


def published_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a published file: bare, or the entry `model` beside `epoch` and `optimizer` (A2Net).

    Raises:
        CheckpointError: no such file, not a checkpoint, pickled code, or something else than tensors in it.
    """
    data = _load(Path(path))
    return _tensors(Path(path), data["model"] if isinstance(data.get("model"), dict) else data)


def load_kinetics(model: AFSD, path: str | Path) -> tuple[str, ...]:
    """Start the backbone from Kinetics I3D weights (`rgb_imagenet.pt`, `flow_imagenet.pt`: same names, no prefix).

    Returns:
        Names in the file that were not loaded: those of the classifier, `logits.*`.

    Raises:
        CheckpointError: any other entry missing, left over or misshapen; or a network of features.
    """
    if not isinstance(model.backbone, Backbone):
        raise CheckpointError(f"{path}: weights of an I3D, and the network sees features; start it from a checkpoint")
    return load_i3d(model.backbone._model, published_weights(path), str(path))


def load_i3d(network: I3D, weights: Mapping[str, Tensor], source: str) -> tuple[str, ...]:
    """Copy an I3D's weights, under their Kinetics names; returns and raises what `load_kinetics` does."""
    skipped = tuple(name for name in weights if name.startswith("logits."))
    counters = {k: v for k, v in network.state_dict().items() if k.endswith(BATCH_COUNTER)}  # unknown before 0.4.1
    load_weights(network, {**counters, **{k: v for k, v in weights.items() if k not in skipped}}, source)
    return skipped


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint (.ckpt, .pt, .pth)")
    with path.open("rb") as file:
        if file.read(1) not in CHECKPOINT_STARTS:
            raise CheckpointError(f"{path}: not a checkpoint; expected a file that PyTorch wrote (.ckpt, .pt, .pth)")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: it holds pickled Python objects or code, which are never run; expected tensors and plain data "
            "(save a state dict instead)"
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, IndexError, AttributeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason}); is the file complete?") from None
    if not isinstance(data, dict) or not data:
        raise CheckpointError(f"{path}: got {type(data).__name__}, expected a checkpoint's dictionary")
    return data


def _without_retired(config: Any) -> Any:
    """A stored configuration without the settings that older releases had and nothing read."""
    if isinstance(config, dict) and isinstance(config.get("data"), dict):
        return {**config, "data": {k: v for k, v in config["data"].items() if k not in RETIRED}}
    return config


def _bare(path: Path, data: dict[str, Any], config: Config | None, sha256: str) -> Checkpoint:
    weights = _tensors(path, data["model"] if isinstance(data.get("model"), dict) else data)
    config = config or recognise(weights, str(path))
    classes = config.data.classes or tuple(f"class_{index}" for index in range(1, config.num_classes))
    return Checkpoint(weights, config, classes, sha256=sha256)


def _tensors(path: Path, data: Any) -> dict[str, Tensor]:
    wrong = [str(k) for k, v in data.items() if not isinstance(v, Tensor)] if isinstance(data, dict) else ["weights"]
    if wrong:
        raise CheckpointError(f"{path}: {', '.join(wrong[:LISTED])}: expected tensors; is this a state dict?")
    return dict(data)
