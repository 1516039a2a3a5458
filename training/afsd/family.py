"""Define AFSD as an entry of the table of families."""

from __future__ import annotations

from dataclasses import replace

from runtime.decoding.afsd import AFSD_OUTPUTS
from runtime.errors import CheckpointError
from training.afsd.network import AFSD
from training.afsd.step import StepLosses, TrainingStep
from training.checkpoints.weights import load_i3d, load_weights
from training.config.files import load_config
from training.config.settings import Config, RunConfig
from training.networks.family import FamilySpec, TrainingFamily, Weights, name_outputs
from training.networks.i3d import FIRST_LAYER, Backbone

BACKBONE = "backbone."
"""Prefix of the backbone's entries in a state dict; entries of a Kinetics file have no prefix."""
HEAD = "coarse_pyramid_detection."
"""Prefix of the entries of pyramid and heads in a state dict."""
FLOW_CHANNELS = 2


def load_initial(network: AFSD, weights: Weights, run: RunConfig) -> str:
    """Load Kinetics weights, or a checkpoint: all of it, or its backbone alone (`run.init_part`).

    Raises:
        CheckpointError: entries do not fit, or the weights are an I3D's and the network is on features.
    """
    own = {name.removeprefix(BACKBONE): v for name, v in weights.items() if name.startswith(BACKBONE)}
    if not own:
        if not isinstance(network.backbone, Backbone):
            raise CheckpointError(
                f"{run.init}: weights of an I3D, but the network sees features; start from a checkpoint"
            )
        skipped = load_i3d(network.backbone._model, weights, run.init)
        return f"started the backbone from {run.init}; not loaded: {', '.join(skipped) or 'nothing'}"
    if run.init_part == "backbone":
        load_weights(network.backbone, own, run.init)
        return f"started the backbone from {run.init}"
    load_weights(network, weights, run.init)
    return f"started from {run.init}"


def recognise(weights: Weights, origin: str) -> Config | None:
    """Find the configuration of a released network: THUMOS14 or ActivityNet, RGB or flow.

    The first layer's channels decide the stream, and the second pyramid level the data set: a 3-D convolution for
    THUMOS14 (Mixed_4f and Mixed_5c), a 1-D one for ActivityNet (Mixed_5c). The number of classes is read from the
    logits.

    Raises:
        CheckpointError: Kinetics weights, which have no head.
    """
    if FIRST_LAYER in weights and not any(name.startswith(HEAD) for name in weights):
        raise CheckpointError(f"{origin}: Kinetics I3D weights without a head; train from them with run.init={origin}")
    kinds = {"thumos14": f"{HEAD}pyramids.1.0.conv3d.", "activitynet": f"{HEAD}pyramids.1.0.conv1d."}
    found = [kind for kind, entry in kinds.items() if any(name.startswith(entry) for name in weights)]
    if len(found) != 1:
        return None
    first = weights.get(f"{BACKBONE}_model.{FIRST_LAYER}")
    flow = first is not None and first.ndim == 5 and first.shape[1] == FLOW_CHANNELS
    config = load_config(f"{found[0]}_flow" if flow else found[0])
    logits = weights.get(f"{HEAD}conf_head.conv1d.bias")
    if logits is None or logits.ndim != 1 or len(logits) in (0, 1, config.num_classes):
        return config
    return replace(config, model=replace(config.model, num_classes=len(logits)), data=replace(config.data, classes=()))


def describe(config: Config) -> FamilySpec:
    """Describe outputs and decoding; without a quality head, decoding leaves the quality out."""
    model, locations = config.model, sum(config.model.level_lengths)
    return FamilySpec(
        outputs=name_outputs(AFSD_OUTPUTS, [(locations, width) for width in (2, model.num_classes) * 2 + (1,)]),
        level_lengths=model.level_lengths,
        decoding=replace(config.decoding, quality=config.decoding.quality and model.quality != "none"),
    )


AFSD_FAMILY = TrainingFamily(
    build=lambda config: AFSD(config.model),
    make_step=lambda network, config: TrainingStep(network, config.loss),
    losses=StepLosses._fields,
    describe=describe,
    recognise=recognise,
    load_initial=load_initial,
    uses_all_weights=True,
    needs_rearranged=lambda config: config.loss.consistency in ("triplet", "both"),
)
