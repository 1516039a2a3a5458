"""Define the protocol of all engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from runtime.spec.model import ModelSpec

Arrays = dict[str, NDArray[Any]]


@runtime_checkable
class Engine(Protocol):
    """Runs a loaded network: one call is one forward pass of a batch of windows. Not for concurrent use."""

    @property
    def spec(self) -> ModelSpec:
        """Inputs, outputs and facts of the network."""
        ...

    @property
    def library(self) -> str:
        """Name and version of the engine library, for reports (e.g. "onnxruntime 1.31.1")."""
        ...

    @property
    def device(self) -> str:
        """Device that runs the network, for reports."""
        ...

    @property
    def precision(self) -> str:
        """Number type of the heavy layers: fp32, fp16, bf16 or int8."""
        ...

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run one batch; keys and shapes are those of `spec.inputs` and `spec.outputs`.

        A model on frames takes `frames` uint8 [B,T,H,W,C] and `lengths` int32 [B].
        """
        ...

    def close(self) -> None:
        """Release the network; `infer` raises EngineError from then on."""
        ...
