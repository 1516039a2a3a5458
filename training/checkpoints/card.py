"""Write a model's card and operating point into its checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from runtime.common.mappings import to_mapping
from runtime.errors import CheckpointError
from runtime.spec.model import ModelSpec
from runtime.spec.model_card import ModelCard, OperatingPoint
from training.checkpoints.files import OPERATING_POINT, load_checkpoint, save_checkpoint
from training.deployment.views import checkpoint_spec


def write_checkpoint_card(
    path: Path, change: Callable[[ModelSpec], ModelCard], operating_point: OperatingPoint | None
) -> None:
    """Write both into a checkpoint of this project, atomically; weights and training state stay as they are.

    Args:
        path: the checkpoint.
        change: function that makes the new card.
        operating_point: the new operating point; None: the model has none.

    Raises:
        CheckpointError: not a checkpoint, a damaged one, or a published file, which is not this project's to change.
        OSError: the file cannot be written.
    """
    found = load_checkpoint(path)
    if not found.sealed:
        raise CheckpointError(
            f"{path}: is no checkpoint of this release, so it is not changed; export it, and write into the export"
        )
    metrics = {key: value for key, value in found.metrics.items() if key != OPERATING_POINT}
    if operating_point is not None:
        metrics[OPERATING_POINT] = to_mapping(operating_point)
    save_checkpoint(
        replace(found, config=replace(found.config, card=change(checkpoint_spec(found, str(path)))), metrics=metrics),
        path,
    )
