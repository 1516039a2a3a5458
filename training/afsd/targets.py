"""Assign instances to locations: coarse and refined targets, without gradient (AFSD section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class CoarseTargets(NamedTuple):
    """Holds the coarse targets of every location of a batch."""

    labels: Tensor
    """Class of each location, int64 [B,N]; 0 = background."""
    distances: Tensor
    """Frames to start and end of the assigned instance [B,N,2]; undefined where the label is 0."""


class RefinedTargets(NamedTuple):
    """Holds the targets of the refinement, given the coarse predictions."""

    labels: Tensor
    """Coarse label, int64 [B,N]; 0 where the coarse proposal misses its instance."""
    offsets: Tensor
    """Offsets [B,N,2]: (target − predicted distance) / (half the predicted width)."""


@torch.no_grad()
def assign_coarse(
    instances: list[Tensor], priors: Tensor, clip_length: int, ranges: Tensor | None = None
) -> CoarseTargets:
    """Assign every location the shortest instance that covers it, borders included.

    Args:
        instances: per clip [n,3]: start, end as fractions of the clip, class index ≥ 1; n may be 0.
        priors: [N] centres of the locations as fractions of the clip.
        clip_length: T, frames.
        ranges: [N,2] frames; a location gets an instance only if low < max(distances) ≤ high (`level_ranges`).

    Ties go to the instance listed first, as in current PyTorch (the released code leaves their order open).
    """
    centres = priors * clip_length
    assigned = [_assign_clip(clip.to(priors.dtype), centres, clip_length, ranges) for clip in instances]
    return CoarseTargets(torch.stack([a[0] for a in assigned]), torch.stack([a[1] for a in assigned]))


def level_ranges(ranges: Sequence[tuple[float, float]], level_lengths: Sequence[int]) -> Tensor | None:
    """Repeat the (low, high] of each level, in frames, for the level's locations → [N,2]; None without ranges."""
    if not ranges:
        return None
    return torch.tensor(ranges).repeat_interleave(torch.tensor(level_lengths), dim=0)


def _assign_clip(instances: Tensor, centres: Tensor, clip_length: int, ranges: Tensor | None) -> tuple[Tensor, Tensor]:
    if not len(instances):
        return centres.new_zeros(len(centres), dtype=torch.int64), centres.new_zeros(len(centres), 2)
    start, end = instances[:, 0] * clip_length, instances[:, 1] * clip_length
    left = centres[:, None] - start
    right = end - centres[:, None]
    outside = float(2 * clip_length)  # longer than any instance
    covered = (left >= 0) & (right >= 0)
    if ranges is not None:
        longer = torch.maximum(left, right)
        covered &= (longer > ranges[:, :1]) & (longer <= ranges[:, 1:])
    length = torch.where(covered, left + right, outside)
    shortest, best = length.min(dim=1)
    labels = torch.where(shortest < outside, instances[best, 2].to(torch.int64), 0)
    rows = torch.arange(len(centres), device=centres.device)
    return labels, torch.stack((left[rows, best], right[rows, best]), dim=-1)


def distance_iou(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the tIoU [...] of segments around one point, given by their distances [...,2] to start and end."""
    inter = torch.minimum(predicted, target).sum(-1)
    union = predicted.sum(-1) + target.sum(-1) - inter
    return inter / union.clamp(min=torch.finfo(union.dtype).eps)


@torch.no_grad()
def assign_refined(
    coarse: CoarseTargets, loc: Tensor, refined_iou: float, *, keep_best: bool = False
) -> RefinedTargets:
    """Keep a location's label where its coarse proposal `loc` [B,N,2] in frames has a tIoU of `refined_iou` or more.

    With `keep_best`, a clip's threshold is at most the tIoU of its best positive, which therefore stays positive.
    """
    overlap = distance_iou(loc, coarse.distances)
    threshold = torch.full_like(overlap[:, :1], refined_iou)
    if keep_best:
        best = torch.where(coarse.labels > 0, overlap, -1.0).amax(dim=1, keepdim=True)
        threshold = torch.where(best >= 0, torch.minimum(threshold, best), threshold)
    labels = torch.where(overlap < threshold, 0, coarse.labels)
    half_width = 0.5 * loc.sum(-1, keepdim=True)
    return RefinedTargets(labels, (coarse.distances - loc) / half_width)


def centerness(distances: Tensor) -> Tensor:
    """Return √(shorter / longer distance) of [P,2] → [P]: 1 in the middle of an instance, 0 at its ends (FCOS in
    1-D)."""
    shorter, longer = distances.amin(-1), distances.amax(-1)
    return (shorter.clamp(min=0) / longer.clamp(min=torch.finfo(longer.dtype).eps)).sqrt()
