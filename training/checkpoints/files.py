"""Checkpoints: this project's own files, bare state dicts as published, and Kinetics weights to start from.

Every file is read with `weights_only`: a pickle that would run code is refused, not run.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtime.common.files import atomic_path, one_line
from runtime.errors import CheckpointError
from training.checkpoints.recognise import recognise
from training.checkpoints.weights import LISTED, load_weights
from training.config.files import config_from_mapping, config_to_mapping
from training.config.settings import Config
from training.families import build_network

SCHEMA = 1
SCHEMA_KEY = "afsd_checkpoint"
"""Marks a file of this project; a file without it is taken as a bare state dict."""

CHECKPOINT_STARTS = (b"P", b"\x80", b"")
"""First bytes of PyTorch's files: a ZIP archive, a pickle (before 1.6); an empty file is told apart later."""

RETIRED = ("validation_subset",)
"""Settings of `data` in checkpoints of older releases."""


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
        return _read_bare(path, data, config, sha256)
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


def build_model(checkpoint: Checkpoint, origin: str = "checkpoint") -> nn.Module:
    """Build the network of a checkpoint in eval mode, every entry loaded.

    Raises:
        CheckpointError: entries missing, left over or misshapen, by name; `origin` is the checkpoint's file.
    """
    model = build_network(checkpoint.config)
    load_weights(model, checkpoint.weights, origin)
    return model.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a published file: bare, or the entry `model` beside `epoch` and `optimizer` (A2Net).

    Raises:
        CheckpointError: no such file, not a checkpoint, pickled code, or something else than tensors in it.
    """
    return _state_dict(path, _load(path))


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
        reason = one_line(error)[:120]
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason}); is the file complete?") from None
    if not isinstance(data, dict) or not data:
        raise CheckpointError(f"{path}: got {type(data).__name__}, expected a checkpoint's dictionary")
    return data


def _without_retired(config: Any) -> Any:
    """A stored configuration without the settings that older releases had and nothing read."""
    if isinstance(config, dict) and isinstance(config.get("data"), dict):
        return {**config, "data": {k: v for k, v in config["data"].items() if k not in RETIRED}}
    return config


def _read_bare(path: Path, data: dict[str, Any], config: Config | None, sha256: str) -> Checkpoint:
    weights = _state_dict(path, data)
    config = config or recognise(weights, str(path))
    classes = config.data.classes or tuple(f"class_{index}" for index in range(1, config.num_classes))
    return Checkpoint(weights, config, classes, sha256=sha256)


def _state_dict(path: Path, data: dict[str, Any]) -> dict[str, Tensor]:
    """The weights in a published file."""
    return _tensors(path, data["model"] if isinstance(data.get("model"), dict) else data)


def _tensors(path: Path, data: Any) -> dict[str, Tensor]:
    wrong = [str(k) for k, v in data.items() if not isinstance(v, Tensor)] if isinstance(data, dict) else ["weights"]
    if wrong:
        raise CheckpointError(f"{path}: {', '.join(wrong[:LISTED])}: expected tensors; is this a state dict?")
    return dict(data)
