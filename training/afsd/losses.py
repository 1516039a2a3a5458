"""Compute AFSD's losses, each with its equation (sections 3.4 and 3.5; weights as in the released code)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from training.afsd.boundary_pooling import boundary_max_pooling
from training.afsd.config import LossConfig, ModelConfig
from training.afsd.pyramid import AfsdOutput, BoundaryFeatures
from training.afsd.regions import segment_regions
from training.afsd.targets import CoarseTargets, RefinedTargets, assign_refined, centerness, distance_iou
from training.networks.across_processes import count_processes, normaliser

Quality = Literal["quality", "centerness", "none"]
Normaliser = Literal["tanh", "clip", "min-max"]

FOCAL_GAMMA = 2.0
FOCAL_ALPHA_BACKGROUND, FOCAL_ALPHA_ACTION = 0.25, 0.75
FOCAL_EPSILON = 1e-6
"""Constant added to the probability before the logarithm."""

MAP_WEIGHTS = (1.0, 0.1, 0.1)
"""Weights of the frame-level feature and the two branches' level-0 features in both consistency losses."""

TRIPLET_MARGIN = 1.0


class DetectionLosses(NamedTuple):
    """Holds the five terms of the detection loss, unweighted scalars."""

    loss_l: Tensor
    """Mean 1 − tIoU of coarse proposals (Eq. 13)."""
    loss_c: Tensor
    """Focal loss of coarse classes."""
    loss_prop_l: Tensor
    """L1 of refined offsets (Eq. 15)."""
    loss_prop_c: Tensor
    """Focal loss of refined classes."""
    loss_ct: Tensor
    """Binary cross-entropy of the quality (Eq. 14)."""


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum the softmax focal loss over all locations: −α(1−p)² log p, α = ¼ background, ¾ actions.

    Args:
        logits: [...,K]; labels: [...] int64, 0 = background.
    """
    probability = logits.softmax(-1).gather(-1, labels[..., None])[..., 0] + FOCAL_EPSILON
    alpha = torch.where(labels == 0, FOCAL_ALPHA_BACKGROUND, FOCAL_ALPHA_ACTION).to(logits.dtype)
    return -(alpha * (1 - probability) ** FOCAL_GAMMA * probability.log()).sum()


def iou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Sum 1 − tIoU over distances [P,2] (Eq. 13); around one point the released code's GIoU has the same value."""
    return (1 - distance_iou(predicted, target)).sum()


def quality_target(loc: Tensor, prop_loc: Tensor, target: Tensor) -> Tensor:
    """Return the tIoU of the refined proposals with their instances, ≥ 0 (Eq. 14); all [P,2] → [P]."""
    refined = loc + 0.5 * loc.sum(-1, keepdim=True) * prop_loc
    return distance_iou(refined, target).clamp(min=0)


def detection_losses(
    output: AfsdOutput, coarse: CoarseTargets, config: LossConfig, quality: Quality = "quality"
) -> DetectionLosses:
    """Compute the five detection terms (Eq. 13–15, focal), normalised by the positives of the batch or of each clip.

    The batch is that of all processes of the run: the mean of a term over them is that of one process with all clips.

    Args:
        output: raw outputs of B clips.
        coarse: coarse targets of the clips.
        config: thresholds and variants.
        quality: target of the quality head.
    """
    refined = assign_refined(coarse, output.loc.detach(), config.refined_iou, keep_best=config.keep_best_refined)
    if config.average_over == "batch":
        return _detection_losses(output, coarse, refined, config, quality, normaliser)
    clips = [
        _detection_losses(
            AfsdOutput(*(value[k : k + 1] for value in output)),
            CoarseTargets(*(value[k : k + 1] for value in coarse)),
            RefinedTargets(*(value[k : k + 1] for value in refined)),
            config,
            quality,
            _at_least_one,
        )
        for k in range(len(output.loc))
    ]
    return DetectionLosses(*(torch.stack(term).mean() for term in zip(*clips, strict=True)))


def _at_least_one(count: Tensor) -> Tensor:
    return count.clamp(min=1)


def _detection_losses(
    output: AfsdOutput,
    coarse: CoarseTargets,
    refined: RefinedTargets,
    config: LossConfig,
    quality: Quality,
    normalise: Callable[[Tensor], Tensor],
) -> DetectionLosses:
    """Compute `detection_losses` with one normaliser for all clips given."""
    positive, kept = coarse.labels > 0, refined.labels > 0
    count = normalise(positive.sum())
    refined_count = normalise(kept.sum())
    class_count = refined_count if config.refined_normaliser == "refined" else count
    offsets, wanted = output.prop_loc[kept], refined.offsets[kept]
    difference = F.smooth_l1_loss if config.offset_loss == "smooth-l1" else F.l1_loss
    return DetectionLosses(
        iou_loss(output.loc[positive], coarse.distances[positive]) / count,
        focal_loss(output.conf, coarse.labels) / count,
        difference(offsets, wanted, reduction="sum") / refined_count,
        focal_loss(output.prop_conf, refined.labels) / class_count,
        _quality_loss(output, coarse, config, quality) / count,
    )


def _quality_loss(output: AfsdOutput, coarse: CoarseTargets, config: LossConfig, quality: Quality) -> Tensor:
    """Sum the quality head's binary cross-entropy over coarse positives (Eq. 14, or centerness of Table 2 b)."""
    positive = coarse.labels > 0
    if quality == "none":
        return output.loc.new_zeros(())
    if quality == "centerness":
        target = centerness(coarse.distances[positive])
    else:
        target = quality_target(output.loc[positive], output.prop_loc[positive], coarse.distances[positive])
        target = target.detach() if config.quality_target == "detached" else target
    return F.binary_cross_entropy_with_logits(output.center[positive][:, 0], target, reduction="sum")


def activation_losses(
    features: BoundaryFeatures, start_map: Tensor, end_map: Tensor, normaliser: Normaliser = "tanh"
) -> tuple[Tensor, Tensor]:
    """Compute activation-guided consistency (section 3.4), which makes channel means of tanh follow the boundary maps.

    Args:
        features: boundary features of B clips.
        start_map, end_map: [B,T] zeros and ones.
        normaliser: scales features to 0..1.

    Returns:
        The start's and the end's weighted sum over the features that are not None, scalars.
    """
    sums = []
    for half, target in ((0, start_map), (1, end_map)):
        terms = [
            weight * _map_loss(boundary_activation(feature.chunk(2, dim=1)[half], normaliser), target)
            for weight, feature in zip(MAP_WEIGHTS, features, strict=True)
            if feature is not None
        ]
        sums.append(torch.stack(terms).sum())
    return sums[0], sums[1]


def boundary_activation(feature: Tensor, normaliser: Normaliser = "tanh") -> Tensor:
    """Scale features [B,c,t] ≥ 0 to 0..1 and average over channels → [B,t] (section 3.4, Table 2 a).

    tanh as published; clip cuts at 1; min-max stretches each channel over its clip's smallest and largest value.
    """
    feature = feature.float()
    if normaliser == "tanh":
        return feature.tanh().mean(dim=1)
    if normaliser == "clip":
        return feature.clamp(0, 1).mean(dim=1)
    low, high = feature.aminmax(dim=2, keepdim=True)
    return ((feature - low) / (high - low).clamp(min=torch.finfo(feature.dtype).eps)).mean(dim=1)


def _map_loss(activation: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross-entropy of an activation [B,t] with a map [B,T] read every T/t frames; NaN of NaN.

    PyTorch's raises an error of its own at NaN, and on a GPU ends the process, before the loop sees that it diverged.
    """
    if activation.isnan().any():
        return activation.sum()
    step = target.shape[1] // activation.shape[1]
    return F.binary_cross_entropy(activation, target[:, ::step].to(torch.float32))


REFERENCE_DIVISOR = 4
"""Frames per cell of the level-0 features in the released triplet loss, whatever the stride of level 0."""


def triplet_loss(features: BoundaryFeatures, segments: Tensor, model: ModelConfig, divisors: str = "stride") -> Tensor:
    """Compute the boundary contrastive loss (Eq. 9): A1's end is closer to A2's start than to the moved background's.

    The features are read by boundary max pooling, whatever pooling the refinement uses. The loss is the mean over the
    rearranged clips of this process; see `share_of_rearranged` for those of all.

    Args:
        features: boundary features of the rearranged clips.
        segments: [B,3,2] start and end of A1, A2 and the background, frames.
        model: proportions of the regions and gradient of the pooling.
        divisors: `LossConfig.triplet_divisors`.
    """
    regions = segment_regions(segments[..., 0], segments[..., 1], model.region_divisors)
    terms = []
    for weight, feature in zip(MAP_WEIGHTS, features, strict=True):
        if feature is None:
            continue
        stride = model.clip_length // feature.shape[2]
        frames_per_cell = min(stride, REFERENCE_DIVISOR) if divisors == "reference" else stride
        pooled = boundary_max_pooling(feature, regions / frames_per_cell, model.pooling_backward)
        starts, ends = pooled.float().chunk(2, dim=1)
        anchor, positive, negative = ends[..., 0], starts[..., 1], starts[..., 2]
        terms.append(weight * F.triplet_margin_loss(anchor, positive, negative, margin=TRIPLET_MARGIN))
    return torch.stack(terms).sum()


def share_of_rearranged(segments: Tensor) -> Tensor | float:
    """Return the factor on this process's triplet loss that makes the processes' mean that over all rearranged clips.

    Processes have different numbers of them, also none; every process has to call it.

    Args:
        segments: [M,3,2], M rearranged clips of this process.
    """
    if count_processes() == 1:
        return 1.0
    count = torch.tensor(len(segments), device=segments.device)
    return count / normaliser(count)
