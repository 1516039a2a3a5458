"""Serve a network alone, where the server has no backend for its file: windows in, raw outputs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.text import one_line
from runtime.engines import open_engine
from runtime.errors import EngineError
from runtime.spec.tensors import BATCH
from runtime.triton.serving import Place, error_response


class TritonPythonModel:
    """Runs the engine on windows; Triton makes one for each instance."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the engine."""
        import triton_python_backend_utils as pb_utils

        self._pb = pb_utils
        place = Place.of(args)
        settings = place.settings
        self._engine = open_engine(
            place.folder / settings.engine,
            device=settings.device if place.gpu is None else f"gpu:{place.gpu}",
            threads=settings.threads,
            precision=settings.precision,
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run the windows of all requests as one batch, and return the outputs of each request."""
        try:
            given = [self._inputs(request) for request in requests]
            found = self._infer(given)
        except Exception as error:  # whatever it is, the server goes on
            return [error_response(error, self._pb) for _ in requests]
        return [
            self._pb.InferenceResponse(output_tensors=[self._pb.Tensor(name, array) for name, array in outputs.items()])
            for outputs in found
        ]

    def finalize(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _inputs(self, request: Any) -> dict[str, NDArray[Any]]:
        """Return the inputs of a request in the shapes of the spec: Triton hands over `lengths` as [B,1]."""
        arrays = {}
        for tensor in self._engine.spec.inputs:
            array = np.asarray(self._pb.get_input_tensor_by_name(request, tensor.name).as_numpy())
            arrays[tensor.name] = array.reshape(-1) if len(tensor.shape) == 1 else array
        return arrays

    def _infer(self, given: Sequence[Mapping[str, NDArray[Any]]]) -> list[dict[str, NDArray[np.float32]]]:
        spec = self._engine.spec
        if any(tensor.shape[0] != BATCH for tensor in spec.inputs):
            return [self._engine.infer(one) for one in given]
        sizes = [len(one[spec.inputs[0].name]) for one in given]
        joined = {tensor.name: np.concatenate([one[tensor.name] for one in given]) for tensor in spec.inputs}
        found = self._engine.infer(joined)
        starts = np.cumsum([0, *sizes])
        if any(len(array) != starts[-1] for array in found.values()):
            raise EngineError(f"{one_line(self._engine.library)}: gave another number of windows than it was given")
        return [
            {name: np.ascontiguousarray(array[start:end]) for name, array in found.items()}
            for start, end in pairwise(starts)
        ]
