"""Keep the table of families: everything but the settings that differs between the networks that can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from training.a2net.family import A2NET_FAMILY
from training.afsd.family import AFSD_FAMILY
from training.config.settings import Config
from training.networks.family import TrainingFamily
from training.two_stage.family import TWO_STAGE_FAMILY

FAMILIES: Mapping[str, TrainingFamily[Any]] = {
    "afsd": AFSD_FAMILY,
    "a2net": A2NET_FAMILY,
    "two_stage": TWO_STAGE_FAMILY,
}


def family_of(config: Config) -> TrainingFamily[Any]:
    """Return the family of a configuration's network."""
    return FAMILIES[config.family]


def build_network(config: Config) -> nn.Module:
    """Build a network with its initial weights; the configuration must give number of classes and feature width."""
    network: nn.Module = family_of(config).build(config)
    return network
