"""Turn pixels or features into the network's input; training and deployment share these functions."""

from __future__ import annotations

import torch
from torch import Tensor


def normalise(frames: Tensor, valid: Tensor | None = None) -> Tensor:
    """Scale pixels 0–255 to x/255·2 − 1, float32, for RGB and flow; no mean, no deviation.

    Args:
        frames: uint8 (or any number) [B,C,T,H,W].
        valid: bool [B,T]; frames where it is false become 0, mid-grey, as the published test code pads.
    """
    values = frames.float() / 255 * 2 - 1
    return values if valid is None else values * valid[:, None, :, None, None].to(values.dtype)


def mask_features(features: Tensor, valid: Tensor) -> Tensor:
    """Convert features [B,C,T] to float32 and set steps where `valid` (bool [B,T]) is false to 0."""
    return features.float() * valid[:, None].to(torch.float32)


def prepare_input(values: Tensor, valid: Tensor, stream: str) -> Tensor:
    """Turn a batch of clips and its valid frames into the input of a network of "rgb", "flow" or "features"."""
    return mask_features(values, valid) if stream == "features" else normalise(values, valid)
