"""Copy weights into a network; every entry must fit."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from runtime.errors import CheckpointError
from training.networks.i3d import I3D

LISTED = 5
"""How many names of a mismatch an error message shows."""

BATCH_COUNTER = "num_batches_tracked"
"""Entry of batch norms that files of PyTorch 0.3, as the Kinetics weights are, do not have; only training reads it."""


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Copy `weights` into `model`, whose names and shapes must be the same.

    Raises:
        CheckpointError: entries missing, left over or misshapen, by name; `origin` is the file they are from.
    """
    wanted = model.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in weights]
    problems += [f"{name} is not part of the network" for name in weights if name not in wanted]
    problems += [
        f"{name} has shape {list(weights[name].shape)}, expected {list(value.shape)}"
        for name, value in wanted.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise CheckpointError(
            f"{origin}: {len(problems)} entries do not fit the network, which has {len(wanted)}: "
            f"{'; '.join(problems[:LISTED])}{more}; is it of this configuration?"
        )
    model.load_state_dict(dict(weights))


def load_i3d(network: I3D, weights: Mapping[str, Tensor], origin: str) -> tuple[str, ...]:
    """Copy Kinetics weights (`rgb_imagenet.pt`, `flow_imagenet.pt`) into an I3D.

    Returns:
        Names that were not loaded: those of the classifier, `logits.*`.

    Raises:
        CheckpointError: any other entry missing, left over or misshapen.
    """
    skipped = tuple(name for name in weights if name.startswith("logits."))
    counters = {k: v for k, v in network.state_dict().items() if k.endswith(BATCH_COUNTER)}  # unknown before 0.4.1
    load_weights(network, {**counters, **{k: v for k, v in weights.items() if k not in skipped}}, origin)
    return skipped
