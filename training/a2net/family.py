"""Define A2Net as an entry of the table of families."""

from __future__ import annotations

from dataclasses import replace

from runtime.decoding.a2net import A2NET_OUTPUTS
from runtime.errors import CheckpointError
from training.a2net.config import A2NetConfig
from training.a2net.network import BASE_NAMES, A2Net
from training.a2net.step import A2NetStepLosses, A2NetTrainingStep
from training.config.files import load_config
from training.config.settings import Config
from training.networks.family import FamilySpec, TrainingFamily, Weights, name_outputs


def recognise(weights: Weights, origin: str) -> Config | None:
    """Find the configuration of a released network, with channels, levels, classes and modules read from the shapes.

    THUMOS14 and ActivityNet differ in the names of their base layers.

    Raises:
        CheckpointError: the weights have no module, or shapes that no A2Net has.
    """
    kind = next((kind for kind, base in BASE_NAMES.items() if f"features.{base}.conv1.weight" in weights), None)
    if kind is None:
        return None
    config = load_config(f"a2net_{kind}")
    released = _settings(config)
    logits, anchors = weights.get("af.pred.cls_branch.pred.bias"), _outputs(weights, "ab.pred")
    if logits is None and not anchors:
        raise CheckpointError(f"{origin}: A2Net features without a predicting module; expected entries af… or ab…")
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
        raise CheckpointError(f"{origin}: shapes that no A2Net has: {error}") from None
    known = a2net.num_classes == released.num_classes
    return replace(config, a2net=a2net, data=config.data if known else replace(config.data, classes=()))


def describe(config: Config) -> FamilySpec:
    """Describe the outputs of the network's modules, and their decoding."""
    layout = _settings(config).layout
    points, anchors = layout.num_points, layout.num_anchors
    return FamilySpec(
        outputs=name_outputs(
            A2NET_OUTPUTS, [(points, layout.num_classes), (points, 2), (anchors, layout.anchor_width)]
        ),
        level_lengths=layout.level_lengths,
        decoding=config.decoding,
        a2net=layout,
        a2net_decoding=config.a2net_decoding,
    )


A2NET_FAMILY = TrainingFamily(
    build=lambda config: A2Net(_settings(config)),
    make_step=lambda network, config: A2NetTrainingStep(network, config.a2net_loss),
    losses=A2NetStepLosses._fields,
    describe=describe,
    recognise=recognise,
)


def _settings(config: Config) -> A2NetConfig:
    assert config.a2net is not None  # ensured by `Config.family`
    return config.a2net


def _outputs(weights: Weights, prefix: str) -> list[int]:
    """Return the output channels of the convolutions `prefix`1, `prefix`2, … in the state dict."""
    channels: list[int] = []
    while (name := f"{prefix}{len(channels) + 1}.weight") in weights:
        channels.append(weights[name].shape[0])
    return channels
