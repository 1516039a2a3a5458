"""Open what a Python model of the server runs, from its folder and its parameters, and answer with its errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import read_text
from runtime.common.text import one_line
from runtime.detector import Detector, DetectorOptions
from runtime.engines import open_engine
from runtime.engines.base import Arrays, Engine
from runtime.engines.streaming import StreamingEngine
from runtime.errors import AfsdError, InputError, RequestCancelledError, VideoError
from runtime.results.detections import Detections
from runtime.spec.model import ModelSpec, spec_from_json
from runtime.spec.streaming import LIVE_CHUNK, STREAMING_CHUNK
from runtime.triton.engine import TritonEngine
from runtime.triton.settings import Settings, from_parameters
from runtime.triton.shared import share

Role = Literal["engine", "flow_engine", "backbone", "flow_backbone"]
"""Place of a network in a detector; a field of `Settings`."""
NETWORKS: dict[Role, str] = {
    "engine": "network",
    "flow_engine": "flow_network",
    "backbone": "backbone",
    "flow_backbone": "flow_backbone",
}
"""Last part of the name of the server's model that runs the network alone."""

CODES = ((InputError, "INVALID_ARG"), (VideoError, "INVALID_ARG"), (RequestCancelledError, "CANCELLED"))
"""Names of Triton's codes for errors; others are INTERNAL."""


@dataclass(frozen=True)
class Place:
    """Holds where an instance of a Python model runs."""

    model: str
    """Name of the model."""
    folder: Path
    """Folder of the version, with the engines."""
    settings: Settings
    gpu: int | None
    """Number of the instance's GPU; None: it is on the CPU."""

    @classmethod
    def of(cls, arguments: Mapping[str, str]) -> Place:
        """Read what Triton hands to `initialize`.

        Raises:
            ConfigError: a parameter of the configuration does not fit.
        """
        model = arguments["model_name"]
        parameters = json.loads(arguments["model_config"]).get("parameters", {})
        on_gpu = arguments["model_instance_kind"] == "GPU"
        return cls(
            model,
            Path(arguments["model_repository"]) / arguments["model_version"],
            from_parameters(parameters, model),
            int(arguments["model_instance_device_id"]) if on_gpu else None,
        )


class Engines:
    """Holds the engines of an instance, by their roles; detectors are made of them."""

    def __init__(self, place: Place, pb_utils: Any, *, shared: bool = False) -> None:
        """Open the engines of the version's folder, or name the server's models that run them.

        Args:
            place: where the instance runs.
            pb_utils: Triton's module.
            shared: whether several threads use them.

        Raises:
            EngineError, SpecError, InputError, MissingDependencyError: see `open_engine`.
        """
        self._opened: list[Engine] = []
        self._engines: dict[Role, Engine] = {}
        for role in NETWORKS:
            if name := getattr(place.settings, role):
                engine = self._open(place, role, name, pb_utils)
                self._engines[role] = share(engine) if shared and not isinstance(engine, TritonEngine) else engine

    def detector(self, place: Place) -> Detector:
        """Return a detector on the engines, with the options of the settings.

        Raises:
            InputError: the models do not fit together, or not the options.
        """
        return make_detector(self._engines, place.settings.detector)

    def warm_up(self, options: DetectorOptions) -> None:
        """Run each own engine once, on zeros, so that a model that is ready answers at once.

        A streaming network is compiled for the chunks that a detector of these options takes.

        Raises:
            EngineError: the network fails on this machine.
        """
        for engine in self._opened:
            if isinstance(engine, StreamingEngine):
                engine.prepare(STREAMING_CHUNK if options.max_latency is None else LIVE_CHUNK)
            else:
                engine.infer(_zeros(engine.spec))

    def close(self) -> None:
        """Close the engines that were opened here."""
        for engine in [*self._engines.values(), *self._opened]:
            engine.close()

    def _open(self, place: Place, role: Role, name: str, pb_utils: Any) -> Engine:
        settings, path = place.settings, place.folder / name
        if settings.network:
            spec = spec_from_json(read_text(path), str(path))
            return TritonEngine(f"{settings.network}_{NETWORKS[role]}", spec, pb_utils)
        engine = open_engine(
            path,
            device=settings.device if place.gpu is None else f"gpu:{place.gpu}",
            threads=settings.threads,
            precision=settings.precision,
        )
        self._opened.append(engine)
        return engine


def _zeros(spec: ModelSpec) -> Arrays:
    """Return a batch of one window of zeros, whose frames are all valid."""
    return {
        tensor.name: np.full(
            [1 if isinstance(size, str) else size for size in tensor.shape],
            spec.window_length if tensor.name == "lengths" else 0,
            tensor.dtype,
        )
        for tensor in spec.inputs
    }


def make_detector(engines: Mapping[Role, Engine], options: DetectorOptions) -> Detector:
    """Return a detector on engines by their roles.

    Raises:
        InputError: the models do not fit together, or not the options.
    """
    backbones = [engines[role] for role in ("backbone", "flow_backbone") if role in engines]
    return Detector(
        engines["engine"], flow_engine=engines.get("flow_engine"), backbone=backbones or None, options=options
    )


def input_of(request: Any, name: str, pb_utils: Any) -> NDArray[Any] | None:
    """Return an input of a request as an array; None: the request has none of that name."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else np.asarray(tensor.as_numpy())


def text_of(request: Any, name: str, pb_utils: Any) -> str | None:
    """Return an input of one text.

    Raises:
        InputError: several texts, or no UTF-8.
    """
    array = input_of(request, name, pb_utils)
    if array is None:
        return None
    if array.size != 1:
        raise InputError(f"{name}: got {array.size} texts, expected one")
    value = array.reshape(-1)[0]
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise InputError(f"{name}: got bytes that are no text, expected UTF-8") from None


def number_of(request: Any, name: str, pb_utils: Any) -> float | None:
    """Return an input of one number (InputError: several)."""
    array = input_of(request, name, pb_utils)
    if array is None:
        return None
    if array.size != 1:
        raise InputError(f"{name}: got {array.size} numbers, expected one")
    return float(array.reshape(-1)[0])


def outputs_of(found: Detections, pb_utils: Any) -> list[Any]:
    """Return detections as the outputs LABELS, SCORES, SEGMENTS [N,2] and JSON of a response."""
    labels = np.array([one.label.encode() for one in found], np.object_)
    return [
        pb_utils.Tensor("LABELS", labels),
        pb_utils.Tensor("SCORES", np.ascontiguousarray(found.scores, np.float32)),
        pb_utils.Tensor("SEGMENTS", np.ascontiguousarray(found.segments, np.float32)),
        pb_utils.Tensor("JSON", np.array([found.to_json().encode(errors="backslashreplace")], np.object_)),
    ]


def cancellation_of(asked: Any) -> Callable[[], bool]:
    """Return the function that says whether a request, or the one of a sender of responses, was cancelled.

    Servers before 23.10 do not say: there none is.
    """
    return getattr(asked, "is_cancelled", lambda: False)


def error_response(error: Exception, pb_utils: Any) -> Any:
    """Return a response with an error in one line: what was asked wrongly, what failed here, or that nobody waits."""
    known = isinstance(error, AfsdError)
    line = one_line(error) if known else f"internal error ({type(error).__name__}: {one_line(error)})"
    codes = pb_utils.TritonError
    name = next((code for kind, code in CODES if isinstance(error, kind)), "INTERNAL")
    code = getattr(codes, name, None)  # servers before 23.08 have no codes
    return pb_utils.InferenceResponse(output_tensors=[], error=codes(line) if code is None else codes(line, code))
