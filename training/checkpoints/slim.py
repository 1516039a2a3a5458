"""Make a checkpoint small for shipping: weights, configuration, classes and metrics, without the training state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from training.checkpoints.files import load_checkpoint, save_checkpoint


def slim_checkpoint(path: Path, target: Path, *, half: bool = False, metrics: dict[str, Any] | None = None) -> Path:
    """Write the checkpoint `path` without optimizer, schedule and random states.

    Args:
        path, target: files of the full and of the slim checkpoint.
        half: store weights as float16, half the size; loading converts them to float32. The relative rounding error is
            about 2^-11, so evaluate the slim file. The batch norms' variances must be below 65504.
        metrics: measured values, added to those of the checkpoint.

    Raises:
        CheckpointError: `path` cannot be read.
    """
    checkpoint = load_checkpoint(path)
    weights = checkpoint.weights
    if half:
        weights = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in weights.items()}
    slim = replace(checkpoint, weights=weights, training={}, metrics={**checkpoint.metrics, **(metrics or {})})
    save_checkpoint(slim, target)
    return target
