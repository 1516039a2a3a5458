"""AFSD's losses, each under the equation it comes from (section 3.4 and 3.5; weights as in the released code)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import LossConfig
from training.models.boundary_pooling import Backward, boundary_max_pooling
from training.models.pyramid import AfsdOutput, BoundaryFeatures
from training.models.regions import segment_regions
from training.targets import CoarseTargets, RefinedTargets, assign_refined, distance_iou

FOCAL_GAMMA = 2.0
FOCAL_ALPHA_BACKGROUND, FOCAL_ALPHA_ACTION = 0.25, 0.75
FOCAL_EPSILON = 1e-6
"""Added to the probability before the logarithm."""

MAP_WEIGHTS = (1.0, 0.1, 0.1)
"""Weights of the frame-level feature and the two branches' level-0 features in both consistency losses."""

TRIPLET_MARGIN = 1.0


class DetectionLosses(NamedTuple):
    """The five terms of the detection loss, unweighted scalars."""

    loss_l: Tensor
    """1 − tIoU of coarse proposals (Eq. 13)."""
    loss_c: Tensor
    """Focal loss of coarse classes."""
    loss_prop_l: Tensor
    """L1 of refined offsets (Eq. 15)."""
    loss_prop_c: Tensor
    """Focal loss of refined classes."""
    loss_ct: Tensor
    """Binary cross-entropy of the quality (Eq. 14)."""


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax focal loss summed over all locations: −α(1−p)² log p, α = ¼ background, ¾ actions.

    Args:
        logits: [...,K]; labels: [...] int64, 0 = background.
    """
    probability = logits.softmax(-1).gather(-1, labels[..., None])[..., 0] + FOCAL_EPSILON
    alpha = torch.where(labels == 0, FOCAL_ALPHA_BACKGROUND, FOCAL_ALPHA_ACTION).to(logits.dtype)
    return -(alpha * (1 - probability) ** FOCAL_GAMMA * probability.log()).sum()


def iou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Σ (1 − tIoU) over distances [P,2] (Eq. 13). Around one point the released code's GIoU has the same value."""
    return (1 - distance_iou(predicted, target)).sum()


def quality_target(loc: Tensor, prop_loc: Tensor, target: Tensor) -> Tensor:
    """tIoU of the refined proposals with their instances, ≥ 0 (Eq. 14); all [P,2] → [P]."""
    refined = loc + 0.5 * loc.sum(-1, keepdim=True) * prop_loc
    return distance_iou(refined, target).clamp(min=0)


def detection_losses(
    output: AfsdOutput, coarse: CoarseTargets, config: LossConfig, refined: RefinedTargets | None = None
) -> DetectionLosses:
    """The five detection terms, normalised by positives over the whole batch (Eq. 13–15 and focal losses).

    Args:
        output: raw outputs of B clips.
        coarse: their coarse targets.
        config: thresholds and variants.
        refined: refined targets; assigned from `output.loc` when None.
    """
    refined = refined or assign_refined(coarse, output.loc.detach(), config.refined_iou)
    positive, kept = coarse.labels > 0, refined.labels > 0
    count = positive.sum().clamp(min=1)
    refined_count = kept.sum().clamp(min=1)
    class_count = refined_count if config.refined_normaliser == "refined" else count
    quality = quality_target(output.loc[positive], output.prop_loc[positive], coarse.distances[positive])
    if config.quality_target == "detached":
        quality = quality.detach()
    return DetectionLosses(
        iou_loss(output.loc[positive], coarse.distances[positive]) / count,
        focal_loss(output.conf, coarse.labels) / count,
        (output.prop_loc[kept] - refined.offsets[kept]).abs().sum() / refined_count,
        focal_loss(output.prop_conf, refined.labels) / class_count,
        F.binary_cross_entropy_with_logits(output.center[positive][:, 0], quality, reduction="sum") / count,
    )


def activation_losses(features: BoundaryFeatures, start_map: Tensor, end_map: Tensor) -> tuple[Tensor, Tensor]:
    """Activation-guided consistency (section 3.4): channel means of tanh follow the boundary maps.

    Args:
        features: boundary features of B clips.
        start_map, end_map: [B,T] zeros and ones.

    Returns:
        The start's and the end's weighted sum over the three features, scalars.
    """
    sums = []
    for half, target in ((0, start_map), (1, end_map)):
        terms = [
            weight * _map_loss(feature.chunk(2, dim=1)[half], target)
            for weight, feature in zip(MAP_WEIGHTS, features, strict=True)
        ]
        sums.append(torch.stack(terms).sum())
    return sums[0], sums[1]


def boundary_activation(feature: Tensor) -> Tensor:
    """Mean over channels of tanh: features [B,c,t] after ReLU → [B,t] in [0,1) (section 3.4)."""
    return feature.float().tanh().mean(dim=1)


def _map_loss(feature: Tensor, target: Tensor) -> Tensor:
    step = target.shape[1] // feature.shape[2]
    return F.binary_cross_entropy(boundary_activation(feature), target[:, ::step].to(torch.float32))


def triplet_loss(features: BoundaryFeatures, segments: Tensor, backward: Backward = "correct") -> Tensor:
    """Boundary contrastive loss (Eq. 9): the end of A1 is closer to the start of A2 than to the moved background's.

    Args:
        features: boundary features of the rearranged clips.
        segments: [B,3,2] frames: A1, A2 and the background, start and end.
        backward: gradient of the boundary pooling.
    """
    regions = segment_regions(segments[..., 0], segments[..., 1])
    frames = features.frame.shape[2]
    terms = []
    for weight, feature in zip(MAP_WEIGHTS, features, strict=True):
        pooled = boundary_max_pooling(feature, regions / (frames // feature.shape[2]), backward)
        starts, ends = pooled.float().chunk(2, dim=1)
        anchor, positive, negative = ends[..., 0], starts[..., 1], starts[..., 2]
        terms.append(weight * F.triplet_margin_loss(anchor, positive, negative, margin=TRIPLET_MARGIN))
    return torch.stack(terms).sum()
