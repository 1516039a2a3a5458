"""Compare segments of a training batch."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the tIoU of segments [...,2] (start, end) in one unit; leading axes broadcast, disjoint or inverted give
    0."""
    inter = (torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])).clamp(min=0)
    union = a[..., 1] - a[..., 0] + b[..., 1] - b[..., 0] - inter
    return inter / union.clamp(min=torch.finfo(union.dtype).eps)
