"""Initialise a first layer with filters that respond to motion, for networks trained from scratch.

Random filters respond mostly to static appearance: video changes little from frame to frame, so motion is a small part
of their response, and batch norm scales it away. The motion energy model (Adelson and Bergen, 1985) gives filters that
respond to motion instead: waves in space and time under a Gaussian window, in pairs a quarter period apart.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SPATIAL_CYCLES = (0.05, 0.18)
"""Range of spatial frequencies, cycles per pixel."""
TEMPORAL_CYCLES = (0.06, 0.22)
"""Range of temporal frequencies, cycles per frame: periods of about 5 to 17 frames."""
STATIC_SHARE = 0.25
"""Share of filters without temporal frequency, which respond to appearance."""
WINDOW = 0.6
"""Standard deviation of the Gaussian window, as a fraction of half the kernel."""


@torch.no_grad()
def set_motion_energy_filters(convolution: nn.Conv3d) -> None:
    """Replace the weights [O,C,t,h,w] of a first convolution by filters drawn from PyTorch's global generator."""
    weight = convolution.weight
    pairs = -(-weight.shape[0] // 2)
    static = round(STATIC_SHARE * pairs)
    waves = []
    for k in range(pairs):
        direction = 2 * math.pi * (k + float(torch.rand(()))) / pairs
        speed = 0.0 if k % max(1, pairs // max(static, 1)) == 0 and static else _between(TEMPORAL_CYCLES)
        colour = torch.randn(weight.shape[1]) + 1.0
        for phase in (0.0, math.pi / 2):
            wave = _wave(tuple(weight.shape[2:]), direction, _between(SPATIAL_CYCLES), speed, phase)
            waves.append(colour[:, None, None, None] * wave)
    stacked = torch.stack(waves)[: weight.shape[0]]
    stacked -= stacked.mean(dim=(2, 3, 4), keepdim=True)  # no response to mean brightness
    norm = stacked.flatten(1).norm(dim=1).clamp(min=1e-6)
    weight.copy_(stacked / norm[:, None, None, None, None])


def _wave(kernel: tuple[int, ...], direction: float, cycles: float, speed: float, phase: float) -> Tensor:
    """Compute one windowed wave [t,h,w]."""
    t, y, x = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in kernel), indexing="ij")
    along = cycles * (math.cos(direction) * x + math.sin(direction) * y)
    window = torch.ones(kernel)
    for axis, n in zip((t, y, x), kernel, strict=True):
        window = window * torch.exp(-0.5 * (axis / (WINDOW * n / 2)) ** 2)
    return window * torch.cos(2 * math.pi * (along + speed * t) + phase)


def _between(limits: tuple[float, float]) -> float:
    low, high = limits
    return low + (high - low) * float(torch.rand(()))
