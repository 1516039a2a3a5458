"""Read and write checkpoints as .safetensors, which are read without unpickling: weights, and JSON in the header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from runtime.common.files import atomic_path
from runtime.common.text import one_line
from runtime.errors import CheckpointError, import_failure

SUFFIX = ".safetensors"

CONTENT_KEY = "content"
"""Key of the JSON in the header's metadata."""


def write_safe_file(content: dict[str, Any], weights: dict[str, Tensor], marker: str, path: Path) -> None:
    """Write weights, and plain data as JSON in the header, atomically.

    Args:
        content: plain data.
        weights: weights by name.
        marker: key in the header's metadata that marks a file of this project.
        path: file to write.
    """
    save_file = _library().torch.save_file
    metadata = {marker: str(content[marker]), CONTENT_KEY: json.dumps(content, separators=(",", ":"))}
    with atomic_path(path) as unfinished:
        mode = unfinished.stat().st_mode  # the library makes files that only their owner reads
        save_file(
            {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, unfinished, metadata
        )
        unfinished.chmod(mode)


def read_safe_file(path: Path, marker: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the plain data and the weights of a file that `write_safe_file` wrote.

    Raises:
        CheckpointError: the file is damaged, or not of this project.
    """
    library = _library()
    try:
        with library.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — no mapping
        content = json.loads(metadata.get(CONTENT_KEY, "null"))
    except (library.SafetensorError, ValueError, RecursionError, OSError, KeyError, TypeError) as error:
        reason = one_line(error)[:120]
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason}); is the file complete?") from None
    if marker not in metadata or not isinstance(content, dict) or str(content.get(marker)) != metadata[marker]:
        raise CheckpointError(
            f"{path}: not a checkpoint of this project; convert a published one with `afsd export FILE.ckpt --to "
            "safetensors`"
        )
    return content, weights


def _library() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise import_failure(error, "safetensors", "train", "a .safetensors checkpoint") from None
    return safetensors
