"""Take the raw outputs of one window, and refuse NaN: the checks that every decoder makes of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import EngineError, InputError


def take_output(
    outputs: Mapping[str, NDArray[Any]], name: str, index: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return one output of one window as float32, after checking its presence and shape.

    Args:
        outputs: raw outputs of a batch, by name, batch first.
        name: name of the output.
        index: index of the window in the batch.
        shape: [N,width] expected by the ModelSpec.

    Raises:
        InputError: the output is missing or has another shape.
    """
    if name not in outputs:
        raise InputError(f"outputs hold {', '.join(sorted(outputs)) or 'nothing'}, expected also {name!r}")
    array = outputs[name]
    if array.shape[1:] != shape or not 0 <= index < len(array):
        expected = ", ".join(map(str, (f"more than {index}", *shape)))
        raise InputError(f"output {name!r} has shape {array.shape}, expected ({expected}) for this ModelSpec")
    return np.asarray(array[index], np.float32)


def require_numbers(arrays: Sequence[NDArray[np.float32]], start_s: float) -> None:
    """Raise an EngineError if scores or segments of the window that starts at `start_s` hold NaN."""
    if any(np.isnan(array).any() for array in arrays):
        raise EngineError(
            f"the network gave NaN in the window at {start_s:g} s, expected finite numbers; "
            "run a model of higher precision or check its weights"
        )
