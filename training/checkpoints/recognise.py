"""Which published network a bare state dict belongs to, by the names and shapes of its entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from runtime.errors import CheckpointError
from training.a2net.network import BASE_NAMES
from training.config.files import load_config
from training.config.settings import Config

FIRST_LAYER, FLOW_CHANNELS = "Conv3d_1a_7x7.conv3d.weight", 2
HEAD = "coarse_pyramid_detection."
"""Prefix of the entries of AFSD's pyramid and heads."""

LISTED = 5
"""How many names of a mismatch an error message shows."""


def recognise(weights: Mapping[str, Tensor], source: str) -> Config:
    """The configuration of a published network: AFSD's of THUMOS14 or ActivityNet, RGB or flow, or one of A2Net's.

    A2Net's two differ in the names of their base layers. Of AFSD, the first layer's channels tell the stream, and
    the kind of the second pyramid level the data set: a 3-D convolution stands on Mixed_4f and Mixed_5c, a 1-D one on
    Mixed_5c alone. Another number of classes is taken over; whether everything else fits is for `load_weights` to say.

    Raises:
        CheckpointError: Kinetics weights, or a network of another kind.
    """
    if FIRST_LAYER in weights and not any(name.startswith(HEAD) for name in weights):
        raise CheckpointError(f"{source}: Kinetics I3D weights without a head; train from them with run.init={source}")
    for kind, base in BASE_NAMES.items():
        if f"features.{base}.conv1.weight" in weights:
            return _recognise_a2net(kind, weights, source)
    kinds = {"thumos14": f"{HEAD}pyramids.1.0.conv3d.", "activitynet": f"{HEAD}pyramids.1.0.conv1d."}
    found = [kind for kind, entry in kinds.items() if any(name.startswith(entry) for name in weights)]
    if len(found) != 1:
        some = ", ".join(list(weights)[:LISTED])
        raise CheckpointError(
            f"{source}: a state dict of no published network (it holds {some} …); name its own with --config"
        )
    first = weights.get(f"backbone._model.{FIRST_LAYER}")
    flow = first is not None and first.ndim == 5 and first.shape[1] == FLOW_CHANNELS
    config = load_config(f"{found[0]}_flow" if flow else found[0])
    logits = weights.get(f"{HEAD}conf_head.conv1d.bias")
    if logits is None or logits.ndim != 1 or len(logits) in (0, 1, config.model.num_classes):
        return config
    model = replace(config.model, num_classes=len(logits))
    return replace(config, model=model, data=replace(config.data, classes=()))


def _recognise_a2net(kind: str, weights: Mapping[str, Tensor], source: str) -> Config:
    """The released network of those names, with the channels, levels, classes and modules that the shapes tell."""
    config = load_config(f"a2net_{kind}")
    released = config.a2net
    assert released is not None
    logits, anchors = weights.get("af.pred.cls_branch.pred.bias"), _outputs(weights, "ab.pred")
    if logits is None and not anchors:
        raise CheckpointError(f"{source}: features of A2Net without a module behind them; expected af… or ab…")
    base = f"features.{BASE_NAMES[kind]}.conv"
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
        a2net = replace(released, **changes)  # type: ignore[arg-type]
    except ValueError as error:
        raise CheckpointError(f"{source}: its shapes are those of no A2Net: {error}") from None
    known = a2net.num_classes == released.num_classes
    return replace(config, a2net=a2net, data=config.data if known else replace(config.data, classes=()))


def _outputs(weights: Mapping[str, Tensor], prefix: str) -> list[int]:
    """Output channels of the convolutions `prefix`1, `prefix`2, … as far as they go."""
    channels: list[int] = []
    while (name := f"{prefix}{len(channels) + 1}.weight") in weights:
        channels.append(weights[name].shape[0])
    return channels
