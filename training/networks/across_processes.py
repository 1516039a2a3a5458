"""Count and draw over all processes of a run, so that its losses are those of one process with the whole batch.

Each process computes the loss of its own clips, and the gradients of all are averaged. That is the gradient of the
whole batch where a loss is divided by what all processes have, not by what one has: `normaliser`. In a run of one
process every function here returns what it was given.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def count_processes() -> int:
    """Return the number of processes of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def total(count: Tensor) -> Tensor:
    """Return the sum of a number, or of each of several, over all processes; every process has to call it."""
    if count_processes() == 1:
        return count
    everywhere = count.clone()
    dist.all_reduce(everywhere)
    return everywhere


@torch.no_grad()
def largest(number: Tensor) -> Tensor:
    """Return the largest of a number over all processes; every process has to call it."""
    if count_processes() == 1:
        return number
    everywhere = number.clone()
    dist.all_reduce(everywhere, dist.ReduceOp.MAX)
    return everywhere


def normaliser(count: Tensor) -> Tensor:
    """Return what a process's sum of losses is divided by: the total of the count, at least 1, by the processes.

    The mean of the quotients over the processes is then the sum of all by the count of all.

    Args:
        count: number of terms in this process's sum, a scalar.
    """
    processes = count_processes()
    everywhere = total(count).clamp(min=1)
    return everywhere if processes == 1 else everywhere / processes


def mean(values: Tensor) -> Tensor:
    """Return the sum of values by their `normaliser`; 0, with gradient 0, if no process has any."""
    return values.sum() / normaliser(torch.tensor(values.numel(), device=values.device))


def draw_rows(rows: Tensor) -> Tensor:
    """Draw numbers in [0,1) for the rows of this process's part of a batch, as one process draws them for all of it.

    All generators are in the same state before and after, as in a run of one process. Row i of process r is row
    r + i·processes of the whole batch (`ClipOrder`).

    Args:
        rows: [B,…], of equal shape in all processes; gives shape, type and device.
    """
    processes = count_processes()
    if processes == 1:
        return torch.rand_like(rows)
    drawn = torch.rand((len(rows) * processes, *rows.shape[1:]), dtype=rows.dtype, device=rows.device)
    return drawn[dist.get_rank() :: processes]
