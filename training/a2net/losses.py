"""Compute A2Net's five losses: classes and distances of points; classes, overlap and location of anchors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.spec.anchors import A2NetLayout
from training.a2net.config import A2NetLossConfig
from training.a2net.network import A2NetOutput
from training.a2net.targets import (
    AnchorMatches,
    AnchorPredictions,
    AnchorSamples,
    PointTargets,
    assign_points,
    choose_anchors,
    decode_anchors,
    default_boxes,
    encode_boxes,
    match_anchors,
)
from training.networks.across_processes import mean, total


class A2NetLosses(NamedTuple):
    """Holds the unweighted losses, scalars; 0 for modules that the network does not have."""

    point_classification: Tensor
    """Cross-entropy of the classes over all points."""
    point_regression: Tensor
    """Smooth L1 of the distances to start and end over positive points, in units."""
    anchor_classification: Tensor
    """Cross-entropy of the classes over chosen anchors."""
    anchor_overlap: Tensor
    """Loss of the predicted against the true tIoU, over chosen anchors."""
    anchor_location: Tensor
    """Loss of the positive anchors' boxes against their instances, in fractions of the window."""

    def total(self, config: A2NetLossConfig) -> Tensor:
        """Return the weighted sum that is minimised."""
        terms = [getattr(config, name) * value for name, value in self._asdict().items()]
        return torch.stack(terms).sum()


def a2net_losses(
    output: A2NetOutput,
    instances: Sequence[Tensor],
    layout: A2NetLayout,
    config: A2NetLossConfig,
    draws: Tensor | None = None,
) -> A2NetLosses:
    """Compute the losses of both modules, each averaged over the batch, that of all processes of the run.

    Args:
        output: raw outputs of B windows.
        instances: per window [n,3]: start, end as fractions of the window, class index ≥ 1; n may be 0.
        layout: places of the network's outputs.
        config: thresholds and variants.
        draws: [B,M] numbers in [0,1) that choose easy negatives; None: drawn at random.
    """
    points, anchors = _zeros(output, 2), _zeros(output, 3)
    if output.af_cls is not None and output.af_reg is not None:
        targets = assign_points(instances, layout, config)
        points = point_losses(output.af_cls, output.af_reg, targets, config)
    if output.ab is not None:
        predictions = decode_anchors(output.ab, layout)
        boxes = predictions.boxes
        if config.matching == "default":
            boxes = default_boxes(layout).to(boxes).expand_as(boxes)
        matches = match_anchors(boxes, instances, config)
        samples = choose_anchors(matches, predictions.overlap, config, draws)
        anchors = anchor_losses(predictions, matches, samples, layout, config)
    return A2NetLosses(*points, *anchors)


def point_losses(
    logits: Tensor, distances: Tensor, targets: PointTargets, config: A2NetLossConfig
) -> tuple[Tensor, Tensor]:
    """Compute the anchor-free losses: cross-entropy over all points, smooth L1 of both distances over positive points.

    Args:
        logits: [B,N,K]; distances: [B,N,2] in units.
        targets: targets of the points.
        config: its `empty_batch` sets the loss of a batch without positives.
    """
    classification = F.cross_entropy(logits.flatten(0, 1), targets.labels.flatten())
    positive = targets.labels > 0
    regression = _smooth_l1(distances[positive], targets.distances[positive])
    if config.empty_batch == "reference" and not total(positive.sum()):
        regression = regression * float("nan")
    return classification, regression


def anchor_losses(
    predictions: AnchorPredictions,
    matches: AnchorMatches,
    samples: AnchorSamples,
    layout: A2NetLayout,
    config: A2NetLossConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the anchor-based losses: classes (cross-entropy), overlap, location; each a mean, 0 without anchors."""
    chosen = samples.positive | samples.hard | samples.easy
    overlap = _overlap_loss(predictions.overlap, matches.scores, samples.positive, chosen, config)
    if predictions.logits is None or predictions.encoded is None:
        return overlap.new_zeros(()), overlap, overlap.new_zeros(())
    labels = matches.labels[chosen]
    classification = mean(F.cross_entropy(predictions.logits[chosen], labels, reduction="none"))
    positive = samples.positive
    if config.location_loss == "boundaries":
        location = _smooth_l1(predictions.boxes[positive], matches.boxes[positive])
    else:
        encoded = encode_boxes(matches.boxes, layout)
        location = _smooth_l1(predictions.encoded[positive], encoded[positive])
    return classification, overlap, location


def _overlap_loss(overlap: Tensor, scores: Tensor, positive: Tensor, chosen: Tensor, config: A2NetLossConfig) -> Tensor:
    """Compare the predicted overlap [B,M] with the true one: smooth L1 over chosen, or MSE over positive anchors."""
    if config.overlap_loss == "mse":
        return mean((scores[positive] - overlap[positive]).square())
    difference = F.smooth_l1_loss(scores[chosen], overlap[chosen], reduction="none")
    return mean(difference)


def _smooth_l1(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the smooth L1 (β = 1) of pairs [P,2]: the mean of the first plus that of the second; 0 without pairs."""
    return 2 * mean(F.smooth_l1_loss(predicted, target.to(predicted.dtype), reduction="none"))


def _zeros(output: A2NetOutput, terms: int) -> tuple[Tensor, ...]:
    """Return zero scalars for a module that the network does not have."""
    present = next(value for value in output if value is not None)
    return tuple(present.new_zeros(()) for _ in range(terms))
