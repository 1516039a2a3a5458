"""Draw the order in which the clips of an epoch are taken."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class ClipOrder(Sampler[int]):
    """Draws a permutation of the clips per epoch from (seed, epoch), split over processes; can start at any batch."""

    def __init__(self, clips: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.clips, self.batch_size, self.seed, self.rank, self.world = clips, batch_size, seed, rank, world
        self.epoch, self.first_batch = 0, 0

    @property
    def batches(self) -> int:
        """Whole batches of an epoch on each process; left-over clips are dropped."""
        return self.clips // (self.batch_size * self.world)

    def __len__(self) -> int:
        return (self.batches - self.first_batch) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.clips, generator=generator).tolist()
        mine = order[self.rank : self.batches * self.batch_size * self.world : self.world]
        return iter(mine[self.first_batch * self.batch_size :])
