"""The protocol behind which every engine stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from runtime.spec.model import ModelSpec

Arrays = dict[str, NDArray[Any]]


@runtime_checkable
class Engine(Protocol):
    """A loaded network. One call is one forward of a batch of windows; calls are not concurrent."""

    @property
    def spec(self) -> ModelSpec:
        """What the network takes and gives."""
        ...

    @property
    def library(self) -> str:
        """Name and version of the engine library, for reports (e.g. "onnxruntime 1.31.1")."""
        ...

    @property
    def device(self) -> str:
        """Device that runs it, for reports."""
        ...

    @property
    def precision(self) -> str:
        """Arithmetic of the heavy layers: fp32, fp16, bf16 or int8."""
        ...

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run one batch. Keys and shapes are those of `spec.inputs` and `spec.outputs`.

        A frame model takes `frames` uint8 [B,T,H,W,C] and `lengths` int32 [B].
        """
        ...

    def close(self) -> None:
        """Release the network; later calls to `infer` are errors."""
        ...
