"""Count the multiply-adds of a network on shapes alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_multiply_adds(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> int:
    """Count the multiply-adds of one forward pass in convolutions and matrix products, without allocating weights.

    Args:
        build: makes the network; called on the meta device, where tensors have shapes only.
        shape: shape of the input, including the batch.
    """
    with torch.device("meta"):
        network = build().eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(shape))
    return int(counter.get_total_flops()) // 2
