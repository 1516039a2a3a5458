"""Run one training step's forward pass of A2Net: windows of features through the network, and all losses."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from training.a2net.config import A2NetLossConfig
from training.a2net.losses import a2net_losses
from training.a2net.network import A2Net
from training.data.dataset import Batch
from training.networks.normalisation import mask_features


class A2NetStepLosses(NamedTuple):
    """Holds the weighted total and its terms, each unweighted, scalars; see `A2NetLosses`."""

    total: Tensor
    point_classification: Tensor
    point_regression: Tensor
    anchor_classification: Tensor
    anchor_overlap: Tensor
    anchor_location: Tensor


class A2NetTrainingStep(nn.Module):
    """Joins network and criterion in one module, so that a distributed wrapper sees a single forward."""

    def __init__(self, model: A2Net, config: A2NetLossConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, batch: Batch) -> A2NetStepLosses:
        """Compute all losses of a batch; easy negatives are drawn anew in every call, from PyTorch's global
        generator."""
        output = self.model(mask_features(batch.frames, batch.valid))
        losses = a2net_losses(output, batch.targets, self.model.config.layout, self.config)
        return A2NetStepLosses(losses.total(self.config), *losses)
