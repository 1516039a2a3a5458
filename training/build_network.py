"""The network of a configuration: AFSD, or A2Net where the configuration has that section, with or without a second
stage."""

from __future__ import annotations

from training.a2net.network import A2Net
from training.afsd.network import AFSD
from training.config.settings import Config
from training.two_stage.network import TwoStage

Network = AFSD | A2Net | TwoStage


def build_network(config: Config) -> Network:
    """The network with its initial weights; its number of classes and its width of features must be known."""
    if config.a2net is None:
        return AFSD(config.model)
    if config.two_stage is None:
        return A2Net(config.a2net)
    return TwoStage(config.a2net, config.two_stage, config.a2net_decoding)
