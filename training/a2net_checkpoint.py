"""Published A2Net checkpoints: which network a file belongs to, and its weights, loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from runtime.errors import CheckpointError
from training.a2net_config import ACTIVITYNET, A2NetConfig
from training.checkpoint import LISTED, load_weights, published_weights
from training.models.a2net import BASE_NAMES, A2Net

RELEASED = {"thumos14": A2NetConfig(), "activitynet": ACTIVITYNET}
"""The released networks by the names of their entries."""


def load_released(path: str | Path, config: A2NetConfig | None = None) -> A2Net:
    """The network of a published file, in eval mode: `model_NN.pth` with epoch, model and optimizer, or a state dict.

    Args:
        path: the file.
        config: its network; None: recognised by names and shapes (see `recognise_a2net`).

    Raises:
        CheckpointError: no such file, pickled code, no A2Net, or entries missing, left over or misshapen.
    """
    weights = published_weights(path)
    network = A2Net(config or recognise_a2net(weights, str(path)))
    load_weights(network, weights, str(path))
    return network.eval()


def recognise_a2net(weights: Mapping[str, Tensor], source: str) -> A2NetConfig:
    """The released network whose names these are, with the channels, levels, classes and modules that the shapes tell.

    Raises:
        CheckpointError: the names of neither.
    """
    found = [kind for kind, base in BASE_NAMES.items() if f"features.{base}.conv1.weight" in weights]
    logits, anchors = weights.get("af.pred.cls_branch.pred.bias"), _outputs(weights, "ab.pred")
    if len(found) != 1 or (logits is None and not anchors):
        some = ", ".join(list(weights)[:LISTED])
        raise CheckpointError(f"{source}: a state dict of no A2Net (it holds {some} …); expected features.base…")
    released, base = RELEASED[found[0]], f"features.{BASE_NAMES[found[0]]}.conv"
    changes: dict[str, object] = {
        "in_channels": weights[f"{base}1.weight"].shape[1],
        "base_channels": _outputs(weights, base)[0],
        "level_channels": tuple(_outputs(weights, "features.conv")),
        "modules": "anchor-based" if logits is None else "both" if anchors else "anchor-free",
    }
    if logits is not None:
        reduced = _outputs(weights, "af.reduce_channels.conv")
        changes |= {"num_classes": len(logits), "reduced_channels": reduced[0] if reduced else 0}
    elif released.anchor_outputs == "all":  # class logits, overlap, r_x and r_w of each ratio
        changes["num_classes"] = anchors[0] // len(released.anchor_ratios[0]) - 3
    try:
        return replace(released, **changes)  # type: ignore[arg-type]
    except ValueError as error:
        raise CheckpointError(f"{source}: its shapes are those of no A2Net: {error}") from None


def _outputs(weights: Mapping[str, Tensor], prefix: str) -> list[int]:
    """Output channels of the convolutions `prefix`1, `prefix`2, … as far as they go."""
    channels: list[int] = []
    while (name := f"{prefix}{len(channels) + 1}.weight") in weights:
        channels.append(weights[name].shape[0])
    return channels
