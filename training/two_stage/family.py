"""Define the two-stage detector as an entry of the table of families."""

from __future__ import annotations

from runtime.decoding.two_stage import TWO_STAGE_OUTPUTS
from training.a2net.config import A2NetConfig
from training.config.settings import Config
from training.networks.family import FamilySpec, TrainingFamily, name_outputs
from training.two_stage.config import TwoStageConfig
from training.two_stage.network import TwoStage
from training.two_stage.step import TwoStageLosses, TwoStageTrainingStep


def build(config: Config) -> TwoStage:
    """Build both stages with their initial weights."""
    return TwoStage(*_settings(config), config.a2net_decoding)


def describe(config: Config) -> FamilySpec:
    """Describe the outputs of the second stage, and their decoding."""
    first, second = _settings(config)
    return FamilySpec(
        outputs=name_outputs(TWO_STAGE_OUTPUTS, [(second.proposals, w) for w in (2, 1, second.num_classes, 2)]),
        level_lengths=first.layout.level_lengths,
        decoding=config.decoding,
        two_stage=second.decoding,
    )


TWO_STAGE_FAMILY = TrainingFamily(
    build=build,
    make_step=lambda network, config: TwoStageTrainingStep(network, config.a2net_loss, config.two_stage_loss),
    losses=TwoStageLosses._fields,
    describe=describe,
    takes_lengths=True,
    has_proposals=True,
)


def _settings(config: Config) -> tuple[A2NetConfig, TwoStageConfig]:
    assert config.a2net is not None  # ensured by `Config.family`
    assert config.two_stage is not None
    return config.a2net, config.two_stage
