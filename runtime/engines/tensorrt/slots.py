"""Allocate the buffers of the batches in flight on the GPU, one slot per batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines.tensorrt.cuda import CudaDevice
from runtime.spec.model import ModelSpec
from runtime.spec.tensors import TensorSpec


@dataclass(frozen=True, eq=False)
class Ticket:
    """Identifies a batch in flight; returned by `submit`, taken by `collect`."""

    batch: int
    inputs: Any
    """The caller's arrays; arrays on the GPU must live, unchanged, until the batch is collected."""


@dataclass
class Slot:
    """Holds host and device memory for one batch of at most the largest size, and the events of its progress."""

    host: dict[str, NDArray[np.uint8]]
    """Pinned bytes of each tensor."""
    address: dict[str, int]
    """Device memory of each tensor."""
    uploaded: Any
    """Event after which the inputs are on the device."""
    computed: Any
    """Event after which the outputs are in device memory."""
    finished: Any
    """Event after which the outputs are in host memory."""
    ticket: Ticket | None = None
    """Batch in the slot; None: the slot is free."""
    warm: int = 0
    """Batch size of the slot's last run, for which a CUDA graph may be captured; 0 for none."""
    graph: Any = field(default=None, repr=False)
    """Executable CUDA graph for the batch size `warm`."""

    def view(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return the start of a tensor's pinned memory as an array."""
        kind = np.dtype(dtype)
        array: NDArray[Any] = self.host[name][: prod(shape) * kind.itemsize].view(kind).reshape(shape)
        return array


def make_slot(device: CudaDevice, spec: ModelSpec, batch: int) -> Slot:
    """Allocate a slot for batches of at most `batch` windows.

    Raises:
        EngineError: out of memory.
    """
    sizes = {t.name: prod(shape_of(t, batch)) * np.dtype(t.dtype).itemsize for t in (*spec.inputs, *spec.outputs)}
    return Slot(
        host={name: device.pinned(size) for name, size in sizes.items()},
        address={name: device.device_memory(size) for name, size in sizes.items()},
        uploaded=device.event(),
        computed=device.event(),
        finished=device.event(),
    )


def shape_of(tensor: TensorSpec, batch: int) -> tuple[int, ...]:
    """Return the shape of a tensor at a batch size."""
    return tuple(batch if isinstance(size, str) else size for size in tensor.shape)
