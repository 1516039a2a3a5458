"""Read and write checkpoints: this project's files, published bare state dicts, and Kinetics weights.

Every pickle is read with `weights_only`: one that would run code is rejected. A .safetensors file holds no pickle. This
project's files carry a digest over all their content (`compute_digest`), which is verified when they are read.
"""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtime.common import limits
from runtime.common.files import atomic_path, describe_mode, exists, file_sha256
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.text import one_line, quote
from runtime.errors import ArtifactWarning, CheckpointError
from runtime.spec.training_videos import TrainingVideos
from training.checkpoints.digest import compute_digest
from training.checkpoints.recognise import recognise
from training.checkpoints.safe_file import SUFFIX, read_safe_file, write_safe_file
from training.checkpoints.weights import LISTED, load_weights
from training.config.files import config_from_mapping, config_to_mapping
from training.config.settings import Config
from training.families import build_network

SCHEMA = 3
"""Version of the layout; files of version 1 have no digest, those of version 2 no training videos."""
SCHEMA_KEY = "afsd_checkpoint"
"""Key that marks a file of this project; a file without the key is read as a bare state dict."""

DIGEST_KEY = "sha256"

CONTENT = ("weights", "config", "classes", "metrics", "training", "training_videos")
"""Entries of a file that the digest covers, the last one from version 3 on."""

OPERATING_POINT, TRAINED = "operating_point", "trained"
"""Entries of `Checkpoint.metrics`: the mapping of a `runtime.spec.model_card.OperatingPoint`, and the day on which
training wrote the checkpoint, YYYY-MM-DD."""

CHECKPOINT_STARTS = (b"P", b"\x80", b"")
"""First bytes of PyTorch's files: a ZIP archive or a pickle (before 1.6); empty files are rejected when loaded."""

RETIRED = ("validation_subset",)
"""Settings of `data` that only checkpoints of older releases have."""


@dataclass(frozen=True)
class Checkpoint:
    """Holds a network's weights, configuration and training state."""

    weights: dict[str, Tensor]
    """State dict of the network."""
    config: Config
    classes: tuple[str, ...]
    """Action names in index order, without background."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Measured values, plain data."""
    training: dict[str, Any] = field(default_factory=dict)
    """Optimiser, schedule, average, random states and progress, for resuming; empty in a slim checkpoint."""
    training_videos: TrainingVideos | None = None
    """Videos that the network was trained and chosen on; None: not known."""
    sha256: str = ""
    """Digest that the checkpoint carries; of files without one, the SHA-256 of the file."""
    sealed: bool = False
    """Whether the file carries a digest."""


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint with its digest atomically, the same bytes whatever its name (OSError: it cannot be written).

    A .safetensors file takes no training state.
    """
    safe = path.suffix == SUFFIX
    data = {
        "weights": checkpoint.weights,
        "config": config_to_mapping(checkpoint.config),
        "classes": list(checkpoint.classes),
        "metrics": checkpoint.metrics,
        "training": {} if safe else checkpoint.training,
        "training_videos": to_mapping(checkpoint.training_videos),
    }
    if safe:
        plain = json.loads(json.dumps({key: value for key, value in data.items() if key != "weights"}))
        digest = compute_digest({**plain, "weights": checkpoint.weights})
        write_safe_file({**plain, SCHEMA_KEY: SCHEMA, DIGEST_KEY: digest}, checkpoint.weights, SCHEMA_KEY, path)
        return
    data |= {SCHEMA_KEY: SCHEMA, DIGEST_KEY: compute_digest(data)}
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        try:
            torch.save(data, file)
        except RuntimeError as error:  # a full disk, in PyTorch's own words
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: str | Path, config: Config | None = None, *, verify: bool = True) -> Checkpoint:
    """Read a checkpoint of this project or a published one.

    Published are a bare state dict (AFSD), or `model_NN.pth` with epoch, model and optimizer (A2Net).

    Args:
        path: file of the checkpoint.
        config: configuration of a bare state dict; None: recognised by its shapes (see `recognise`).
        verify: whether the content is compared with the digest.

    Raises:
        CheckpointError: file not found, not a checkpoint, damaged, pickled code, a newer schema, or a bare state dict
            of no published network and no `config`.
    """
    path = Path(path)
    data = _load(path)
    if SCHEMA_KEY not in data:
        return _read_bare(path, data, config, file_sha256(path))
    sha256 = _check_digest(path, data, verify=verify)
    try:
        checkpoint = Checkpoint(
            weights=_require_tensors(path, data["weights"]),
            config=config_from_mapping(_drop_retired(data["config"]), str(path)),
            classes=tuple(data["classes"]),
            metrics=data["metrics"],
            training=data["training"],
            training_videos=_read_training_videos(data.get("training_videos")),
            sha256=sha256 or file_sha256(path),
            sealed=bool(sha256),
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: the entry {error} is missing; the file is damaged") from None
    except StructureError as error:
        raise CheckpointError(f"{path}: training_videos: {error}; the file is damaged") from None
    if checkpoint.config.num_classes != len(checkpoint.classes) + 1:
        raise CheckpointError(
            f"{path}: names {len(checkpoint.classes)} classes, and its network has {checkpoint.config.num_classes}; "
            "expected one more, for the background"
        )
    return checkpoint


def _check_digest(path: Path, data: dict[str, Any], *, verify: bool) -> str:
    """Return the digest of a file's content after comparing it; empty for a file of version 1, which has none."""
    schema = data[SCHEMA_KEY]
    if schema == 1:
        warnings.warn(
            ArtifactWarning(
                f"{path}: is of an older release, without a digest, so damage would go unnoticed; write it anew with "
                "`afsd export FILE --to safetensors`"
            ),
            stacklevel=3,
        )
        return ""
    if schema not in (2, SCHEMA):
        raise CheckpointError(f"{path}: checkpoint schema {quote(schema)}, this release reads {SCHEMA}; update afsd")
    stored = data.get(DIGEST_KEY)
    content = CONTENT if schema == SCHEMA else CONTENT[:-1]
    found = compute_digest({key: data.get(key) for key in content}) if verify else stored
    if not isinstance(stored, str) or found != stored:
        raise CheckpointError(
            f"{path}: is damaged or was changed after it was written: its content does not have the digest that it "
            "carries; copy it again, or take another checkpoint"
        )
    return stored


def _read_training_videos(data: object) -> TrainingVideos | None:
    """Read the videos that a network was trained on; None: not known (StructureError: they do not fit)."""
    return None if data is None else from_mapping(TrainingVideos, data)


def build_model(checkpoint: Checkpoint, origin: str = "checkpoint") -> nn.Module:
    """Build the network of a checkpoint in eval mode and load every entry.

    Raises:
        CheckpointError: entries missing, unknown or misshapen, by name; `origin` is the checkpoint's file.
    """
    model = build_network(checkpoint.config)
    load_weights(model, checkpoint.weights, origin)
    return model.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a published file: bare, or the entry `model` beside `epoch` and `optimizer` (A2Net).

    Raises:
        CheckpointError: file not found, not a checkpoint, pickled code, or entries that are not tensors.
    """
    return _state_dict(path, _load(path))


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        what = f"{describe_mode(path.stat().st_mode)}, no file" if exists(path) else "file not found"
        raise CheckpointError(f"{path}: {what}; expected a checkpoint (.ckpt, .pt, .pth, .safetensors)")
    if path.suffix == SUFFIX:
        content, weights = read_safe_file(path, SCHEMA_KEY)
        return {**content, "weights": weights}
    with path.open("rb") as file:
        if file.read(1) not in CHECKPOINT_STARTS:
            raise CheckpointError(f"{path}: not a checkpoint; expected a file that PyTorch wrote (.ckpt, .pt, .pth)")
    _require_stored(path)
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: got pickled Python objects or code, which are never run; expected tensors and plain data "
            "(save a state dict instead)"
        ) from None
    except Exception as error:  # damaged pickles raise errors of every type
        reason = "it is cut short or damaged" if "central directory" in str(error) else one_line(error)[:120]
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason}); is the file complete?") from None
    if not isinstance(data, dict) or not data:
        raise CheckpointError(f"{path}: got {type(data).__name__}, expected a checkpoint's dictionary")
    _require_plain(path, data)
    return data


def _require_stored(path: Path) -> None:
    """Check that the members of an archive are not packed, since PyTorch packs none (CheckpointError: one is).

    Packed, a few kilobytes may stand for gigabytes. What is no archive, or a damaged one, PyTorch refuses itself.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception:  # not an archive; zipfile has many errors for that
        return
    size = path.stat().st_size
    if any(one.compress_type != zipfile.ZIP_STORED for one in members) or sum(one.file_size for one in members) > size:
        raise CheckpointError(
            f"{path}: is packed, or holds more than its own size, as no checkpoint does that PyTorch wrote; "
            "write it again with torch.save"
        )


def _require_plain(path: Path, data: Any) -> None:
    """Check that a checkpoint holds no more than it seems to (CheckpointError), before anything is computed of it.

    A tensor whose strides repeat its values, and a list of lists that hold one another, may stand for any amount.
    """
    waiting, count = [data], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > limits.CHECKPOINT_VALUES:
            raise CheckpointError(f"{path}: holds more than {limits.CHECKPOINT_VALUES:,} values, the most that is read")
        if isinstance(value, Tensor):
            _require_own_values(path, value)
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += value


def _require_own_values(path: Path, tensor: Tensor) -> None:
    try:
        stored = tensor.untyped_storage().nbytes()
    except (RuntimeError, NotImplementedError) as error:  # sparse, which no checkpoint here is
        raise CheckpointError(f"{path}: a tensor cannot be read ({one_line(error)[:120]})") from None
    if tensor.numel() * tensor.element_size() > stored:
        raise CheckpointError(
            f"{path}: a tensor {list(tensor.shape)} of {stored:,} bytes repeats its values; save it with .clone()"
        )


def _drop_retired(config: Any) -> Any:
    """Return a stored configuration without the settings that were retired."""
    if isinstance(config, dict) and isinstance(config.get("data"), dict):
        return {**config, "data": {k: v for k, v in config["data"].items() if k not in RETIRED}}
    return config


def _read_bare(path: Path, data: dict[str, Any], config: Config | None, sha256: str) -> Checkpoint:
    weights = _state_dict(path, data)
    config = config or recognise(weights, str(path))
    classes = config.data.classes or tuple(f"class_{index}" for index in range(1, config.num_classes))
    return Checkpoint(weights, config, classes, sha256=sha256)


def _state_dict(path: Path, data: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights in a published file."""
    return _require_tensors(path, data["model"] if isinstance(data.get("model"), dict) else data)


def _require_tensors(path: Path, data: Any) -> dict[str, Tensor]:
    wrong = [str(k) for k, v in data.items() if not isinstance(v, Tensor)] if isinstance(data, dict) else ["weights"]
    if wrong:
        raise CheckpointError(f"{path}: {', '.join(wrong[:LISTED])}: expected tensors; is this a state dict?")
    return dict(data)
