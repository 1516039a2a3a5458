"""Compute the targets of A2Net: assignment of points, matching of anchors, choice of negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from runtime.spec.anchors import A2NetLayout, default_anchors, level_points
from training.a2net.config import A2NetLossConfig
from training.networks.across_processes import draw_rows, total
from training.networks.segments import segment_iou


class PointTargets(NamedTuple):
    """Holds the targets of the anchor-free module."""

    labels: Tensor
    """Class of each point, int64 [B,N]; 0 = background."""
    distances: Tensor
    """Units from the point to start and end of its instance [B,N,2]; undefined where the label is 0."""


class AnchorPredictions(NamedTuple):
    """Holds raw anchor outputs split into parts and decoded, with gradient."""

    logits: Tensor | None
    """Class logits [B,M,K]; None if an anchor predicts its overlap alone."""
    overlap: Tensor
    """Predicted tIoU [B,M], before any squashing."""
    encoded: Tensor | None
    """Encoded boxes (r_x, r_w) [B,M,2]; None if an anchor predicts its overlap alone."""
    boxes: Tensor
    """Start and end [B,M,2] as fractions of the window, not clamped to the window; default anchors if none are
    encoded."""


class AnchorMatches(NamedTuple):
    """Holds the instance that each anchor is matched with."""

    scores: Tensor
    """Largest tIoU with any instance [B,M]; 0 without instances."""
    positive: Tensor
    """Whether the anchor is positive, bool [B,M]."""
    labels: Tensor
    """Class of the instance, int64 [B,M]; 0 where not positive."""
    boxes: Tensor
    """Start and end of the instance [B,M,2]; undefined where not positive."""


class AnchorSamples(NamedTuple):
    """Holds the anchors in the loss as three disjoint masks, bool [B,M]."""

    positive: Tensor
    hard: Tensor
    """Negatives whose predicted overlap is high."""
    easy: Tensor
    """Other negatives, drawn at random."""


def length_ranges(levels: int, half_open: bool) -> list[tuple[float, float]]:
    """Return the lengths of instances, in units, that each level is trained for; see `A2NetLossConfig.point_ranges`."""
    ranges = [(2.0 ** (level - 1), 2.0**level) for level in range(1, levels + 1)]
    ranges[0] = (0.0, ranges[0][1])
    if half_open:
        ranges[-1] = (ranges[-1][0], float("inf"))
    return ranges


@torch.no_grad()
def assign_points(instances: Sequence[Tensor], layout: A2NetLayout, config: A2NetLossConfig) -> PointTargets:
    """Assign every point the first listed instance that covers it and has a length of the point's level.

    Borders count as covered. An instance shorter than a unit may lie between two points and is then assigned to none.

    Args:
        instances: per clip [n,3]: start, end as fractions of the window, class index ≥ 1; n may be 0.
        layout: levels and their points.
        config: the ranges of lengths.
    """
    half_open = config.point_ranges == "half-open"
    points = [torch.from_numpy(p) for p in level_points(layout)]
    counts = torch.tensor([len(p) for p in points])
    ranges = torch.tensor(length_ranges(len(points), half_open), dtype=torch.float64).repeat_interleave(counts, dim=0)
    assigned = [_assign_clip(clip, torch.cat(points), ranges, layout.units, half_open) for clip in instances]
    return PointTargets(torch.stack([a[0] for a in assigned]), torch.stack([a[1] for a in assigned]))


def _assign_clip(
    instances: Tensor, points: Tensor, ranges: Tensor, units: int, half_open: bool
) -> tuple[Tensor, Tensor]:
    points, ranges = points.to(instances), ranges.to(instances)
    if not len(instances):
        return points.new_zeros(len(points), dtype=torch.int64), points.new_zeros(len(points), 2)
    start, end = instances[:, 0] * units, instances[:, 1] * units
    length = end - start
    fits = (length >= ranges[:, :1]) & ((length < ranges[:, 1:]) if half_open else (length <= ranges[:, 1:]))
    distances = torch.stack((points[:, None] - start, end - points[:, None]), dim=-1)
    taken = fits & (distances >= 0).all(dim=-1)
    order = torch.arange(len(instances), 0, -1, device=taken.device)  # the first listed has the highest
    highest, first = (taken * order).max(dim=1)
    labels = torch.where(highest > 0, instances[first, 2].to(torch.int64), 0)
    return labels, distances[torch.arange(len(points), device=first.device), first]


def decode_anchors(ab: Tensor, layout: A2NetLayout) -> AnchorPredictions:
    """Split raw anchor outputs [B,M,width] and decode boxes: x = x_a + α·w_a·r_x, w = w_a·exp(β·r_w)."""
    centre, width = torch.from_numpy(default_anchors(layout)).to(ab).unbind(-1)
    if layout.anchor_outputs == "overlap":
        return AnchorPredictions(None, ab[..., 0], None, _boxes(centre, width).expand(len(ab), -1, -1))
    encoded = ab[..., -2:]
    x = centre + layout.offset_scale * width * encoded[..., 0]
    w = width * torch.exp(layout.width_scale * encoded[..., 1])
    return AnchorPredictions(ab[..., :-3], ab[..., -3], encoded, _boxes(x, w))


def default_boxes(layout: A2NetLayout) -> Tensor:
    """Return start and end of the default anchors as fractions of the window, float64 [M,2]; some exceed the window."""
    return _boxes(*torch.from_numpy(default_anchors(layout)).unbind(-1))


def _boxes(centre: Tensor, width: Tensor) -> Tensor:
    """Convert centre and width [...] to start and end [...,2]."""
    return torch.stack((centre - width / 2, centre + width / 2), dim=-1)


def encode_boxes(boxes: Tensor, layout: A2NetLayout) -> Tensor:
    """Encode `boxes` [...,M,2] (fractions of the window) as (r_x, r_w) of the default anchors; inverts the decoding."""
    anchors = torch.from_numpy(default_anchors(layout)).to(boxes)
    width = (boxes[..., 1] - boxes[..., 0]).clamp(min=torch.finfo(boxes.dtype).eps)
    r_x = ((boxes[..., 0] + boxes[..., 1]) / 2 - anchors[:, 0]) / (layout.offset_scale * anchors[:, 1])
    r_w = torch.log(width / anchors[:, 1]) / layout.width_scale
    return torch.stack((r_x, r_w), dim=-1)


def match_anchors(boxes: Tensor, instances: Sequence[Tensor], config: A2NetLossConfig) -> AnchorMatches:
    """Match boxes [B,M,2] (fractions of the window) with the instances of their clip.

    An anchor is matched with the instance of its largest tIoU (the first listed of equal ones), and is positive where
    that tIoU is above `match_iou`. With `force_match` the best anchor of an instance that no anchor reaches is positive
    too. Only the scores carry gradient, unless they are detached.

    Args:
        boxes: start and end.
        instances: see `assign_points`.
        config: threshold and variants.
    """
    boxes = boxes.detach() if config.match_score == "detached" else boxes
    clips = [_match_clip(b, clip.to(b), config) for b, clip in zip(boxes, instances, strict=True)]
    return AnchorMatches(*(torch.stack(parts) for parts in zip(*clips, strict=True)))


def _match_clip(boxes: Tensor, instances: Tensor, config: A2NetLossConfig) -> AnchorMatches:
    if not len(instances):
        nothing = torch.zeros_like(boxes[:, 0], dtype=torch.bool)
        return AnchorMatches(torch.zeros_like(boxes[:, 0]), nothing, nothing.long(), torch.zeros_like(boxes))
    iou = segment_iou(boxes[:, None], instances[:, :2])
    scores, best = iou.max(dim=1)
    positive = scores > config.match_iou
    if config.force_match:
        reach = iou.amax(dim=0)
        best_of = (iou == reach) & (reach > 0) & (reach <= config.match_iou)
        forced = best_of.any(dim=1) & ~positive
        best = torch.where(forced, torch.where(best_of, iou, -1.0).argmax(dim=1), best)
        positive = positive | forced
    labels = torch.where(positive, instances[best, 2].to(torch.int64), 0)
    return AnchorMatches(scores, positive, labels, instances[best, :2])


@torch.no_grad()
def choose_anchors(
    matches: AnchorMatches, overlap: Tensor, config: A2NetLossConfig, draws: Tensor | None = None
) -> AnchorSamples:
    """Choose positives, hard negatives and random easy negatives, balanced over the whole batch of all processes.

    Easy negatives are taken with probability r = min(1, ratio·#positives / #easy), or `share_without_positives` in a
    batch without positives: those whose draw is above 1 − r.

    Args:
        matches: matches of the batch.
        overlap: [B,M] predicted overlap.
        config: threshold and variants.
        draws: [B,M] numbers in [0,1); None: drawn at random.
    """
    draws = draw_rows(overlap) if draws is None else draws
    positive = matches.positive
    hard = (matches.scores <= config.match_iou) & (overlap > config.match_iou)
    if config.forced_positives == "kept":
        hard = hard & ~positive
    positives, hard_count, anchors = total(
        torch.stack((positive.sum(), hard.sum(), hard.new_tensor(positive.numel(), dtype=torch.int64)))
    )
    wanted = config.negative_ratio * positives
    rest = anchors - positives - hard_count
    balanced = config.hard_negatives == "balanced"
    easy_wanted = (wanted - hard_count).clamp(min=0) if balanced else wanted
    share = torch.where(positives > 0, easy_wanted / rest.clamp(min=1), config.share_without_positives)
    easy = (draws > 1 - share) & ~positive & ~hard
    twice = positive & hard
    if balanced:
        hard = hard & ((draws > 1 - wanted / hard_count.clamp(min=1)) | (positives == 0))
    return AnchorSamples(positive & ~twice, hard & ~twice, easy)
