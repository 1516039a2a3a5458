"""Buffers of the batches in flight on the GPU: one slot each, allocated once."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines.tensorrt.cuda import CudaDevice
from runtime.spec.model import ModelSpec, TensorSpec


@dataclass(frozen=True, eq=False)
class Ticket:
    """A batch in flight: what `submit` gives and `collect` takes."""

    batch: int
    inputs: Any
    """The caller's arrays; those on the GPU must live, unchanged, until the batch is collected."""


@dataclass
class Slot:
    """Memory for one batch of up to the largest size, on both sides, and the marks of its way through the streams."""

    host: dict[str, NDArray[np.uint8]]
    """Pinned bytes of each tensor."""
    address: dict[str, int]
    """Device memory of each tensor."""
    uploaded: Any
    """Event: the inputs are on the device."""
    computed: Any
    """Event: the outputs are in device memory."""
    finished: Any
    """Event: the outputs are in host memory."""
    ticket: Ticket | None = None
    """The batch that is in it; None: the slot is free."""
    warm: int = 0
    """Batch size that it ran last, and that a CUDA graph may be captured of; 0 for none."""
    graph: Any = field(default=None, repr=False)
    """Executable CUDA graph of that batch size."""

    def view(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """The beginning of a tensor's pinned memory as an array."""
        kind = np.dtype(dtype)
        array: NDArray[Any] = self.host[name][: prod(shape) * kind.itemsize].view(kind).reshape(shape)
        return array


def make_slot(device: CudaDevice, spec: ModelSpec, batch: int) -> Slot:
    """A slot for batches of up to `batch` windows.

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
    """Sizes of a tensor at a batch size."""
    return tuple(batch if isinstance(size, str) else size for size in tensor.shape)
