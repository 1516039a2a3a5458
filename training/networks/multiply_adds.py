"""Multiply-adds of a network, counted on shapes alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_multiply_adds(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> int:
    """Multiply-adds of one forward pass, counted over convolutions and matrix products by PyTorch; no weight is
    allocated.

    Args:
        build: makes the network; called where tensors have shapes only.
        shape: of the input, batch included.
    """
    with torch.device("meta"):
        network = build().eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(shape))
    return int(counter.get_total_flops()) // 2
