"""Recognise the published network that a bare state dict belongs to, by the names and shapes of its entries."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from runtime.errors import CheckpointError
from training.checkpoints.weights import LISTED
from training.config.settings import Config
from training.families import FAMILIES


def recognise(weights: Mapping[str, Tensor], origin: str) -> Config:
    """Return the configuration of a published network: AFSD for THUMOS14 or ActivityNet, RGB or flow, or A2Net.

    Each family looks for its own entries (`recognise` in `training/<family>/family.py`); `load_weights` checks that all
    entries fit.

    Raises:
        CheckpointError: Kinetics weights, or a network of another kind; `origin` is the file of the weights.
    """
    found = (family.recognise(weights, origin) for family in FAMILIES.values())
    config = next((config for config in found if config is not None), None)
    if config is None:
        some = ", ".join(list(weights)[:LISTED])
        raise CheckpointError(
            f"{origin}: a state dict of no published network (got {some} …); name its own with --config"
        )
    return config
