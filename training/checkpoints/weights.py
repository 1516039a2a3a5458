"""Copy weights into a network; every entry must fit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from runtime.errors import CheckpointError
from training.networks.i3d import I3D

LISTED = 5
"""Number of names of a mismatch shown in an error message."""

BATCH_COUNTER = "num_batches_tracked"
"""Entry of batch norms that files of PyTorch 0.3, such as the Kinetics weights, lack; only training reads it."""


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Copy `weights` into `model`; names and shapes must match, and all weights be finite numbers.

    Raises:
        CheckpointError: entries missing, unknown, misshapen, integer or not finite, by name; `origin` is the file of
            the weights.
    """
    wanted = model.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in weights]
    problems += [f"{name} is not part of the network" for name in weights if name not in wanted]
    problems += [
        f"{name} has shape {list(weights[name].shape)}, expected {list(value.shape)}"
        for name, value in wanted.items()
        if name in weights and weights[name].shape != value.shape
    ]
    problems += [
        f"{name} {problem}" for name, value in weights.items() if (problem := find_fault(value, wanted.get(name)))
    ]
    if problems:
        more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise CheckpointError(
            f"{origin}: {len(problems)} entries do not fit the network, which has {len(wanted)}: "
            f"{'; '.join(problems[:LISTED])}{more}; use the configuration of the checkpoint"
        )
    model.load_state_dict(dict(weights))


def find_fault(value: Tensor, wanted: Tensor | None) -> str:
    """Return what is wrong with the numbers of an entry, where `wanted` is the network's; empty if nothing is."""
    if wanted is not None and value.is_floating_point() != wanted.is_floating_point():
        return f"has numbers of type {value.dtype}, expected {wanted.dtype}".replace("torch.", "")
    if value.is_floating_point() and value.device.type != "meta" and not bool(torch.isfinite(value).all()):
        return f"holds {int((~torch.isfinite(value)).sum())} values of {value.numel()} that are NaN or infinite"
    return ""


def load_i3d(network: I3D, weights: Mapping[str, Tensor], origin: str) -> tuple[str, ...]:
    """Copy Kinetics weights (`rgb_imagenet.pt`, `flow_imagenet.pt`) into an I3D.

    Returns:
        Names of the entries that were not loaded: the classifier, `logits.*`.

    Raises:
        CheckpointError: any other entry is missing, unknown or misshapen.
    """
    skipped = tuple(name for name in weights if name.startswith("logits."))
    counters = {k: v for k, v in network.state_dict().items() if k.endswith(BATCH_COUNTER)}  # absent before 0.4.1
    load_weights(network, {**counters, **{k: v for k, v in weights.items() if k not in skipped}}, origin)
    return skipped
