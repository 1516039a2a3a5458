"""Pixels or features to what the network sees; training and deployment share it."""

from __future__ import annotations

import torch
from torch import Tensor


def normalise(frames: Tensor, valid: Tensor | None = None) -> Tensor:
    """Pixels 0–255 → x/255·2 − 1, float32, for RGB and flow alike; no mean, no deviation.

    Args:
        frames: uint8 (or any number) [B,C,T,H,W].
        valid: bool [B,T]; frames where it is false become 0, mid-grey, as the published test code pads.
    """
    values = frames.float() / 255 * 2 - 1
    return values if valid is None else values * valid[:, None, :, None, None].to(values.dtype)


def mask_features(features: Tensor, valid: Tensor) -> Tensor:
    """Features [B,C,T] as float32, taken as they are; steps where `valid` (bool [B,T]) is false become 0."""
    return features.float() * valid[:, None].to(torch.float32)


def network_input(values: Tensor, valid: Tensor, stream: str) -> Tensor:
    """What a network of the stream ("rgb", "flow" or "features") sees of a batch of clips and its valid frames."""
    return mask_features(values, valid) if stream == "features" else normalise(values, valid)
