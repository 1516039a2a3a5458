"""Run one training step's forward pass of the two-stage detector: both stages and all losses (section III-G)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from training.a2net.config import A2NetLossConfig
from training.a2net.losses import a2net_losses
from training.data.dataset import Batch
from training.networks.across_processes import draw_rows, largest, normaliser, total
from training.networks.normalisation import mask_features
from training.networks.segments import segment_iou
from training.two_stage.config import TwoStageLossConfig
from training.two_stage.network import TwoStage


class TwoStageLosses(NamedTuple):
    """Holds the weighted total and its terms, scalars."""

    total: Tensor
    proposals: Tensor
    """Sum of the first stage's losses, weighted by `A2NetLossConfig`."""
    classification: Tensor
    """Cross-entropy of the classes over chosen proposals."""
    location: Tensor
    """Smooth L1 of (Δc, Δw) over positive proposals."""


class ProposalTargets(NamedTuple):
    """Holds the second stage's targets for each proposal."""

    labels: Tensor
    """Class of each proposal, int64 [B,N]; 0 = background."""
    offsets: Tensor
    """Offsets (Δc, Δw) [B,N,2]; undefined where the label is 0."""


class TwoStageTrainingStep(nn.Module):
    """Joins network and criterion in one module, so that a distributed wrapper sees a single forward."""

    def __init__(self, model: TwoStage, first: A2NetLossConfig, config: TwoStageLossConfig) -> None:
        super().__init__()
        self.model, self.first, self.config = model, first, config

    def forward(self, batch: Batch) -> TwoStageLosses:
        """Compute all losses of a batch; both stages draw negatives from PyTorch's global generator.

        Instances are pooled beside the proposals, so that the first optimiser steps have positives to learn from.
        """
        levels = self.model.first.levels(mask_features(batch.frames, batch.valid))
        output = self.model.first.predict(levels)
        actions = [torch.cat([clip[:, :2], torch.ones_like(clip[:, 2:])], dim=1) for clip in batch.targets]
        layout = self.model.first.config.layout
        proposing = a2net_losses(output, actions, layout, self.first).total(self.first)
        found = self.model.propose(output, batch.valid.sum(dim=1))
        truth = pad_sequence([clip[:, :2] for clip in batch.targets], batch_first=True).to(found.segments)
        segments = torch.cat([found.segments, _widen(truth)], dim=1)
        targets = assign_proposals(segments, batch.targets, self.config.positive_iou)
        logits, offsets = self.model.second(self.model.pool(levels, segments))
        chosen = choose_proposals(targets.labels, segments, self.config.negative_ratio)
        positive = targets.labels > 0
        classification = F.cross_entropy(logits[chosen], targets.labels[chosen], reduction="sum")
        classification = classification / normaliser(chosen.sum())
        location = F.smooth_l1_loss(offsets[positive], targets.offsets[positive], reduction="sum")
        location = location / normaliser(positive.sum())
        config = self.config
        total = config.proposals * proposing + config.classification * classification + config.location * location
        return TwoStageLosses(total, proposing, classification, location)


def _widen(segments: Tensor) -> Tensor:
    """Append empty segments to [B,N,2] until N is that of the process with most."""
    most = int(largest(torch.tensor(segments.shape[1], device=segments.device)))
    return F.pad(segments, (0, 0, 0, most - segments.shape[1]))


@torch.no_grad()
def assign_proposals(segments: Tensor, instances: Sequence[Tensor], positive_iou: float) -> ProposalTargets:
    """Assign every proposal [B,N,2] the instance of its largest tIoU (the first listed of equal ones), if large enough.

    Args:
        segments: start and end as fractions of the window; empty ones are background.
        instances: per clip [n,3]: start, end as fractions of the window, class index ≥ 1; n may be 0.
        positive_iou: smallest tIoU that is large enough.
    """
    labels = torch.zeros(segments.shape[:2], dtype=torch.int64, device=segments.device)
    matched = torch.zeros_like(segments)
    for b, clip in enumerate(instances):
        if len(clip):
            overlap, best = segment_iou(segments[b][:, None], clip[:, :2].to(segments)).max(dim=1)
            labels[b] = torch.where(overlap >= positive_iou, clip[best, 2].to(torch.int64), 0)
            matched[b] = clip[best, :2].to(segments)
    width = (segments[..., 1] - segments[..., 0]).clamp(min=1e-6)
    target_width = (matched[..., 1] - matched[..., 0]).clamp(min=1e-6)
    centre = (matched.sum(dim=-1) - segments.sum(dim=-1)) / 2
    return ProposalTargets(labels, torch.stack((centre / width, torch.log(target_width / width)), dim=-1))


@torch.no_grad()
def choose_proposals(labels: Tensor, segments: Tensor, negative_ratio: float) -> Tensor:
    """Choose the proposals [B,N] for the classification loss: all positives and a random part of the background.

    The part is drawn over the whole batch of all processes, about `negative_ratio` times the positives; all of the
    background in a batch without positives.
    """
    positive = labels > 0
    background = ~positive & (segments[..., 1] > segments[..., 0])
    positives, backgrounds = total(torch.stack((positive.sum(), background.sum())))
    share = negative_ratio * positives / backgrounds.clamp(min=1)
    share = torch.where(positives > 0, share, 1.0)
    return positive | (background & (draw_rows(segments[..., 0]) < share))
