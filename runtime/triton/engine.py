"""Run a network that Triton serves as an engine of this project: one call is one request to the server, within it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.text import one_line
from runtime.engines.checks import check_inputs
from runtime.errors import EngineError
from runtime.spec.model import ModelSpec
from runtime.spec.tensors import BATCH, TensorSpec


class TritonEngine:
    """Runs a model of the server that this Python model is in ("business logic scripting").

    The server joins the windows of several requests to batches and chooses the instance. For use in several threads.
    """

    device = "as the server places it"

    def __init__(self, model: str, spec: ModelSpec, pb_utils: Any) -> None:
        """Name the model of the server; it need not be ready yet.

        Args:
            model: name of the model.
            spec: what it takes and gives.
            pb_utils: Triton's module `triton_python_backend_utils`.
        """
        self.spec, self.precision = spec, spec.precision
        self.library = f"Triton model {model}"
        self._model, self._pb = model, pb_utils
        self._closed = False

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Send one batch to the model of the server; see `Engine`.

        Raises:
            InputError: arrays that do not fit the spec.
            EngineError: the server refuses or fails, or the engine is closed.
        """
        if self._closed:
            raise EngineError(f"{self._model}: the engine is closed; open it again")
        check_inputs(self.spec, inputs)
        request = self._pb.InferenceRequest(
            model_name=self._model,
            requested_output_names=[tensor.name for tensor in self.spec.outputs],
            inputs=[self._pb.Tensor(tensor.name, _as_sent(inputs[tensor.name], tensor)) for tensor in self.spec.inputs],
            preferred_memory=self._pb.PreferredMemory(self._pb.TRITONSERVER_MEMORY_CPU, 0),
        )
        response = request.exec()
        if response.has_error():
            raise EngineError(f"the model {self._model} of this server failed: {one_line(response.error().message())}")
        found = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
        missing = [tensor.name for tensor in self.spec.outputs if tensor.name not in found]
        if missing:
            raise EngineError(
                f"the model {self._model} of this server gave no {', '.join(missing)}; write the repository again"
            )
        return {tensor.name: np.array(found[tensor.name], np.float32) for tensor in self.spec.outputs}

    def close(self) -> None:
        """End the use of the engine; the model stays in the server."""
        self._closed = True


def _as_sent(array: NDArray[Any], tensor: TensorSpec) -> NDArray[Any]:
    """Return an array as Triton takes it, in one piece of memory: where it splits the batch, [B] is [B,1]."""
    columns = tensor.shape == (BATCH,)
    return np.ascontiguousarray(array.reshape(-1, 1) if columns else array)
