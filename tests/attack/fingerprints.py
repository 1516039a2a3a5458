"""What of the files of a folder is the same in every run of a command."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

UNREADABLE = "unreadable"
FAILURES = "failures.jsonl"
"""File of the videos that failed, with the times at which they did."""


def fingerprints(folder: Path) -> dict[str, str]:
    """Map the files below a folder, without temporary ones and failures, to what of them is the same in every run."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if path.is_file() and not hidden and "tensorboard" not in name and path.name != FAILURES:
            try:
                found[name] = _fingerprint(path)
            except Exception as error:  # half a file
                print(f"{path}: {error!r}", file=sys.stderr)
                found[name] = UNREADABLE
    return found


def _fingerprint(path: Path) -> str:
    if path.name == "metrics.csv":
        with path.open(newline="") as file:
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
        return _digest(json.dumps(rows).encode())
    if path.suffix == ".ckpt":
        return _digest(repr(sorted(_flatten_checkpoint(path))).encode())
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    return _digest(path.read_bytes())


def _flatten_checkpoint(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the entries of a checkpoint, tensors as digests, without wall times."""
    import torch

    def walk(name: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, torch.Tensor):
            yield name, _digest(value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key, entry in value.items():
                if key not in ("seconds", "sha256", "digest"):
                    yield from walk(f"{name}/{key}", entry)
        elif isinstance(value, (list, tuple)) and len(value) < 100:
            for key, entry in enumerate(value):
                yield from walk(f"{name}/{key}", entry)
        else:
            yield name, repr(value)

    yield from walk("", torch.load(path, map_location="cpu", weights_only=True))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
