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
        path, target: checkpoints.
        half: store weights as float16, half the size; loading widens them again. Rounding costs about 2^-11 relative,
            so measure the slim file, not the whole one. The batch norms' variances must be below 65504.
        metrics: what was measured, added to what the checkpoint holds.

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
