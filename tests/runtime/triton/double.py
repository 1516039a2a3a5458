"""A double of Triton's module `triton_python_backend_utils`, of its requests, and of what it hands to a model."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.runtime.triton.text_format import parameters, read


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        assert isinstance(array, np.ndarray)
        assert array.flags.c_contiguous
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class TritonError(Exception):
    UNKNOWN, INTERNAL, INVALID_ARG, CANCELLED = range(4)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        super().__init__(message)
        self.text, self.code = message, code

    def message(self) -> str:
        return self.text


class Response:
    def __init__(self, output_tensors: list[Tensor], error: TritonError | None = None) -> None:
        self._outputs, self._error = output_tensors, error

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error

    def output_tensors(self) -> list[Tensor]:
        return self._outputs

    def arrays(self) -> dict[str, Any]:
        """The outputs by name."""
        assert self._error is None, self._error
        return {tensor.name(): tensor.as_numpy() for tensor in self._outputs}


class Sender:
    def __init__(self) -> None:
        self.responses: list[Response] = []
        self.cancelled = False
        self.ended = threading.Event()

    def send(self, response: Response | None = None, flags: int = 0) -> None:
        assert not self.ended.is_set(), "a response after the last"
        if response is not None:
            self.responses.append(response)
        if flags:
            self.ended.set()

    def is_cancelled(self) -> bool:
        return self.cancelled


class Request:
    """What a client sends: inputs by name, and the id of its sequence."""

    def __init__(self, inputs: Mapping[str, Any], sequence: int | str = 0) -> None:
        self.tensors = {name: Tensor(name, np.asarray(array)) for name, array in inputs.items() if array is not None}
        self.sender = Sender()
        self._sequence = sequence
        self.asked = 0
        self.cancelled_at = 0
        """Number of the question whether it is cancelled that is answered by yes; 0: it never is."""

    def is_cancelled(self) -> bool:
        self.asked += 1
        return 0 < self.cancelled_at <= self.asked

    def correlation_id(self) -> int | str:
        return self._sequence

    def get_response_sender(self) -> Sender:
        return self.sender


def utilities(run: Callable[[str, dict[str, np.ndarray]], Response] | None = None) -> SimpleNamespace:
    """The module; `run` answers a request to a model of the server by its name and inputs."""

    class InferenceRequest:
        def __init__(self, model_name: str, requested_output_names: list[str], inputs: list[Tensor], **_: Any) -> None:
            self._model, self._inputs = model_name, {tensor.name(): tensor.as_numpy() for tensor in inputs}

        def exec(self) -> Response:
            assert run is not None
            return run(self._model, self._inputs)

    return SimpleNamespace(
        Tensor=Tensor,
        TritonError=TritonError,
        InferenceResponse=Response,
        InferenceRequest=InferenceRequest,
        PreferredMemory=lambda *_: None,
        TRITONSERVER_MEMORY_CPU=0,
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
        get_input_tensor_by_name=lambda request, name: request.tensors.get(name),
    )


def initial(model: Path, kind: str = "CPU") -> dict[str, str]:
    """What Triton hands to `initialize` for a model's folder."""
    config = read((model / "config.pbtxt").read_text(encoding="utf-8"))
    entries = {key: {"string_value": value} for key, value in parameters(config).items()}
    return {
        "model_config": json.dumps({"name": config["name"][0], "parameters": entries}),
        "model_name": config["name"][0],
        "model_repository": str(model),
        "model_version": "1",
        "model_instance_kind": kind,
        "model_instance_device_id": "0",
    }
