"""Check an engine file, and the arrays of a call, against the ModelSpec; shared by all engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runtime.errors import InputError, SpecError
from runtime.spec.model import ModelSpec
from runtime.spec.tensors import TensorSpec

Shape = tuple[int | None, ...]
"""Shape of a tensor in an engine file; None where the file leaves a size open."""


def check_fit(spec: ModelSpec, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], origin: str) -> None:
    """Compare the tensors of an engine file with those its ModelSpec declares; `origin` names the file in errors.

    Raises:
        SpecError: a tensor is missing on either side, or a size differs.
    """
    for kind, declared, found in (("input", spec.inputs, inputs), ("output", spec.outputs, outputs)):
        names = {tensor.name for tensor in declared}
        if names != set(found):
            raise SpecError(
                f"{origin}: its {kind}s are {_join(found)}, its ModelSpec says {_join(names)}; export it again"
            )
        for tensor in declared:
            if not _fits(found[tensor.name], tensor):
                raise SpecError(
                    f"{origin}: {kind} {tensor.name!r} is {_shape(found[tensor.name])}, its ModelSpec says "
                    f"{_shape(tensor.shape)}; export it again"
                )


def check_inputs(spec: ModelSpec, inputs: Mapping[str, Any], kinds: tuple[type[Any], ...] = (np.ndarray,)) -> None:
    """Compare the arrays of one call with the inputs of the ModelSpec.

    Args:
        spec: the model's.
        inputs: the arrays by name.
        kinds: types of arrays that the engine takes; each has a shape and a dtype.

    Raises:
        InputError: an input is missing or unknown, has another dtype or shape, or batch sizes differ.
    """
    names = {tensor.name for tensor in spec.inputs}
    if names != set(inputs):
        raise InputError(f"engine inputs: got {_join(inputs)}, expected {_join(names)}")
    batches: set[int] = set()
    for tensor in spec.inputs:
        array = inputs[tensor.name]
        if not isinstance(array, kinds) or array.dtype != np.dtype(tensor.dtype):
            got = array.dtype if isinstance(array, kinds) else type(array).__name__
            raise InputError(f"engine input {tensor.name!r}: got {got}, expected an array of {tensor.dtype}")
        if not _fits(array.shape, tensor) or 0 in array.shape:
            raise InputError(
                f"engine input {tensor.name!r}: got shape {_shape(array.shape)}, expected {_shape(tensor.shape)}"
            )
        batches.update(size for size, axis in zip(array.shape, tensor.shape, strict=True) if axis == "batch")
    if len(batches) > 1:
        raise InputError(f"engine inputs have batches of {' and '.join(map(str, sorted(batches)))}, expected one size")


def _fits(found: Sequence[int | None], tensor: TensorSpec) -> bool:
    """Whether all sizes that both sides fix are equal; an axis that the spec leaves open may be fixed or open."""
    if len(found) != len(tensor.shape):
        return False
    pairs = zip(found, tensor.shape, strict=True)
    return all(size is None or isinstance(axis, str) or size == axis for size, axis in pairs)


def _join(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"


def _shape(sizes: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in sizes) + "]"
