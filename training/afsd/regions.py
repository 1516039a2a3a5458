"""Compute the boundary regions around a coarse proposal that the refinement reads (AFSD section 3.3, Eq. 3).

A region reaches width/10 outside and width/4 inside the proposal's boundary (δb = 10, δa = 4, as in
the paper's ablation and the released code; its Eq. 3 swaps the names), and never less than one cell. Other proportions
are an ablation (Table 2 c): `divisors` are (inside, outside) everywhere here.
"""

from __future__ import annotations

import torch
from torch import Tensor

Divisors = tuple[float, float]
"""Divisors of the proposal's width that give the region's reach inside and outside the boundary."""

PUBLISHED: Divisors = (4.0, 10.0)


def location_priors(level_lengths: tuple[int, ...]) -> Tensor:
    """Return the centres of all locations, levels concatenated, as fractions of the clip: (c + 0.5) / t, float32
    [N]."""
    return torch.cat([(torch.arange(t, dtype=torch.float32) + 0.5) / t for t in level_lengths])


def boundary_regions(start: Tensor, end: Tensor, width: Tensor, divisors: Divisors = PUBLISHED) -> Tensor:
    """Return the four numbers of Eq. 3 for `start`, `end` and `width`, all [...] in cells → [...,4], rounded.

    Order: start − outside, start + inside, end − inside, end + outside.
    """
    inside = (width / divisors[0]).clamp(min=1.0)
    outside = (width / divisors[1]).clamp(min=1.0)
    return torch.stack((start - outside, start + inside, end - inside, end + outside), dim=-1).round()


def level_regions(distances: Tensor, clip_length: int, divisors: Divisors = PUBLISHED) -> Tensor:
    """Return regions [B,t,4] in cells of a pyramid level, from the level's coarse distances [B,t,2] in frames.

    The centre is the cell's index (no half-cell offset), and the width is l' + r'.
    """
    cells = distances.shape[1]
    centre = torch.arange(cells, dtype=distances.dtype, device=distances.device)
    left, right = (distances * (cells / clip_length)).unbind(-1)
    return boundary_regions(centre - left, centre + right, left + right, divisors)


def frame_regions(distances: Tensor, priors: Tensor, clip_length: int, divisors: Divisors = PUBLISHED) -> Tensor:
    """Return regions [B,N,4] in frames, from coarse distances [B,N,2] in frames and priors [N].

    Unlike in `level_regions` the centre has its half-cell offset, and the width counts both end frames: b − a + 1.
    """
    left, right = distances.unbind(-1)
    centre = priors * clip_length
    return segment_regions(centre - left, centre + right, divisors)


def segment_regions(start: Tensor, end: Tensor, divisors: Divisors = PUBLISHED) -> Tensor:
    """Return the frame-scale regions [...,4] of segments with boundaries [...] in frames; width = end − start + 1."""
    return boundary_regions(start, end, end - start + 1.0, divisors)
