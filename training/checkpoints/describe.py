"""Describe a checkpoint for `afsd info`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.commands.info import describe_digest, describe_spec
from training.checkpoints.files import OPERATING_POINT, TRAINED, build_model, load_checkpoint
from training.deployment.views import checkpoint_spec


def describe_checkpoint(path: Path, *, verify: bool) -> dict[str, Any]:
    """Return what a checkpoint says about itself; with `verify`, its weights must also fit the network and be finite.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or is of no published network.
    """
    found = load_checkpoint(path, verify=verify)
    if verify:
        build_model(found, str(path))
    facts = describe_spec(checkpoint_spec(found, str(path)))
    for name in ("made_from", "made_with", "schema"):  # of engine files
        del facts[name]
    return {
        **facts,
        "config": found.config.name,
        "weights": sum(value.numel() for value in found.weights.values()),
        "training_state": "yes" if found.training else "no",
        "metrics": {name: value for name, value in found.metrics.items() if name not in (OPERATING_POINT, TRAINED)},
        "files": {path.name: path.stat().st_size},
        **describe_digest(found.sha256 if found.sealed else "", verify=verify),
    }
