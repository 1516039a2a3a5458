"""The network of a configuration: AFSD, or A2Net where the configuration has that section."""

from __future__ import annotations

from training.config import Config
from training.models.a2net import A2Net
from training.models.afsd import AFSD

Network = AFSD | A2Net


def build_network(config: Config) -> Network:
    """The network with its initial weights; its number of classes and its width of features must be known."""
    return AFSD(config.model) if config.a2net is None else A2Net(config.a2net)
