"""Read arrays in GPU memory through `__cuda_array_interface__` (pycuda, CuPy, torch, Numba)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from runtime.errors import InputError

LEGACY_STREAM = 1
"""Number of the default stream in version 3 of the interface."""


@dataclass(frozen=True)
class DeviceArray:
    """Describes a C-contiguous array in device memory, and offers `__cuda_array_interface__` itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    address: int
    owner: Any
    """Object that keeps the memory alive."""
    stream: int | None = None
    """CUDA stream on which the array becomes valid; None: the array is valid now."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The array in version 3 of the interface."""
        return {
            "shape": self.shape, "typestr": self.dtype.str, "data": (self.address, True), "strides": None,
            "stream": self.stream, "version": 3,
        }  # fmt: skip


def is_device_array(value: object) -> bool:
    """Whether the object offers `__cuda_array_interface__`; a torch tensor on the CPU does not."""
    return hasattr(value, "__cuda_array_interface__")


def as_device_array(value: Any, name: str) -> DeviceArray:
    """Return the array that an object offers through `__cuda_array_interface__`.

    Args:
        value: object with the interface.
        name: name of the input in messages.

    Raises:
        InputError: the interface is malformed, or the array is masked or not C-contiguous.
    """
    interface = value.__cuda_array_interface__
    what = f"engine input {name!r}: its __cuda_array_interface__"
    try:
        shape = tuple(int(size) for size in interface["shape"])
        dtype = np.dtype(interface["typestr"])
        address = int(interface["data"][0])
        strides, stream = interface.get("strides"), interface.get("stream")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{what} is malformed ({type(error).__name__}: {error}); expected version 2 or 3") from None
    if interface.get("mask") is not None:
        raise InputError(f"{what} has a mask; expected an array without one")
    if strides is not None and not _contiguous(shape, tuple(strides), dtype.itemsize):
        raise InputError(f"{what} has strides {tuple(strides)}; expected a C-contiguous array: make a contiguous copy")
    if stream is not None and (not isinstance(stream, int) or stream < LEGACY_STREAM):
        raise InputError(f"{what} has stream {stream!r}; expected None, 1, 2 or a stream's address")
    return DeviceArray(shape, dtype, address, value, stream)


def wrap_device_arrays(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a call with every GPU array as a `DeviceArray`; others are returned as they are."""
    return {n: as_device_array(v, n) if is_device_array(v) else v for n, v in inputs.items()}


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...], item: int) -> bool:
    """Whether strides (bytes) are those of C order; axes of size 1 may have any stride."""
    if len(shape) != len(strides):
        return False
    expected = item
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
