"""Pixels to what the network sees; training and deployment share it."""

from __future__ import annotations

from torch import Tensor


def normalise(frames: Tensor, valid: Tensor | None = None) -> Tensor:
    """Pixels 0–255 → x/255·2 − 1, float32, for RGB and flow alike; no mean, no deviation.

    Args:
        frames: uint8 (or any number) [B,C,T,H,W].
        valid: bool [B,T]; frames where it is false become 0, mid-grey, as the published test code pads.
    """
    values = frames.float() / 255 * 2 - 1
    return values if valid is None else values * valid[:, None, :, None, None].to(values.dtype)
