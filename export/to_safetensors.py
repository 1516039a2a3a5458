"""Write a checkpoint, or a published pickle, as .safetensors: `afsd export CHECKPOINT --to safetensors`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from export.graph.export_input import Say
from runtime.common.sizes import file_size
from runtime.errors import ExportError
from training.checkpoints.files import SCHEMA_KEY, build_model, load_checkpoint, save_checkpoint
from training.checkpoints.safe_file import SUFFIX
from training.config.files import load_config

HEADER = 1 << 20
"""Bytes at a file's start in which this project's key is looked for."""


def export_safetensors(checkpoint: Path, out: Path | None = None, config: str = "", say: Say = print) -> Path:
    """Write weights, configuration, classes and metrics of a checkpoint as a file that is read without unpickling.

    Args:
        checkpoint: checkpoint of this project, or a bare state dict.
        out: file to write; None: beside the checkpoint with the suffix .safetensors.
        config: configuration of a bare state dict's network.
        say: receives the name of the file.

    Raises:
        CheckpointError, ConfigError: the checkpoint cannot be read or does not fit its network.
        ExportError: the name has another suffix, or a file of others has it.
    """
    target = out or checkpoint.with_suffix(SUFFIX)
    if target.suffix != SUFFIX:
        raise ExportError(f"{target}: expected a file name ending in {SUFFIX}")
    if target.is_file() and SCHEMA_KEY.encode() not in _head(target):
        raise ExportError(
            f"{target}: is there already and no checkpoint of this project, so it is not written over; move it, or "
            "name another file with -o"
        )
    if checkpoint.suffix == ".onnx":
        raise ExportError(f"{checkpoint}: an ONNX file, which cannot be made a checkpoint again; give the checkpoint")
    loaded = load_checkpoint(checkpoint, load_config(config) if config else None)
    build_model(loaded, str(checkpoint))
    save_checkpoint(replace(loaded, training={}), target)
    say(f"wrote {target} ({file_size(target.stat().st_size)})")
    return target


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER)
