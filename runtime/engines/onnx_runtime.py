"""ONNX Runtime behind the engine protocol: the portable default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines.checks import Shape, check_fit, check_inputs
from runtime.engines.options import EngineOptions
from runtime.errors import EngineError, InputError, MissingDependencyError, SpecError
from runtime.spec import METADATA_KEY, ModelSpec, spec_from_json

LOG_ERRORS_ONLY = 3
"""Severity from which ONNX Runtime prints to the terminal."""


class OnnxRuntimeEngine:
    """An .onnx file on the CPU or one CUDA device."""

    def __init__(self, path: Path, options: EngineOptions) -> None:
        """Load the file.

        Raises:
            EngineError: not a loadable model, or the device asked for is not available.
            SpecError: no ModelSpec in its metadata, or one that does not fit.
            MissingDependencyError: onnxruntime is not installed.
        """
        try:
            import onnxruntime
        except ImportError:
            raise MissingDependencyError("onnxruntime", "", "running an .onnx file") from None
        if options.precision is not None:
            raise InputError(
                f"precision {options.precision}: an .onnx file runs in the precision it was exported in; "
                "choose it at export, or use an OpenVINO file"
            )
        provider = _provider(onnxruntime, options)
        self._path = path
        self._session: Any = _session(onnxruntime, path, provider, options)
        self._spec = self._read_spec()
        self._output_names = [tensor.name for tensor in self._spec.outputs]
        self._library = f"onnxruntime {onnxruntime.__version__}"
        self._device = "cpu" if options.device_kind == "cpu" else f"cuda:{options.device_index}"

    @property
    def spec(self) -> ModelSpec:
        """What the network takes and gives."""
        return self._spec

    @property
    def library(self) -> str:
        """Name and version of the library."""
        return self._library

    @property
    def device(self) -> str:
        """The device it runs on: "cpu" or "cuda:INDEX"."""
        return self._device

    @property
    def precision(self) -> str:
        """Arithmetic it runs in: what the file was exported in."""
        return self._spec.precision

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run one batch; see `runtime.engines.base.Engine.infer`.

        Raises:
            InputError: arrays that do not fit the ModelSpec.
            EngineError: the engine is closed, or the run failed.
        """
        check_inputs(self._spec, inputs)
        if self._session is None:
            raise EngineError(f"{self._path}: the engine is closed; open it again")
        try:
            values = self._session.run(self._output_names, dict(inputs))
        except Exception as error:  # ONNX Runtime's own exceptions derive from Exception directly
            raise EngineError(f"{self._path}: the run failed: {_first_line(error)}") from error
        return dict(zip(self._output_names, values, strict=True))

    def close(self) -> None:
        """Release the network."""
        self._session = None

    def _read_spec(self) -> ModelSpec:
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise SpecError(f"{self._path}: holds no ModelSpec; export it with export/to_onnx.py")
        spec = spec_from_json(text, str(self._path))
        check_fit(spec, _shapes(self._session.get_inputs()), _shapes(self._session.get_outputs()), str(self._path))
        return spec


def _provider(onnxruntime: Any, options: EngineOptions) -> str:
    name = "CPUExecutionProvider" if options.device_kind == "cpu" else "CUDAExecutionProvider"
    if name not in onnxruntime.get_available_providers():
        raise EngineError(
            f"device {options.device!r}: this onnxruntime {onnxruntime.__version__} has no {name}; "
            "uninstall onnxruntime and pip install 'afsd[gpu]', or use device 'cpu'"
        )
    return name


def _session(onnxruntime: Any, path: Path, provider: str, options: EngineOptions) -> Any:
    """A session on exactly the provider asked for; ONNX Runtime by itself would fall back to the CPU."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = LOG_ERRORS_ONLY
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    arguments = {} if options.device_kind == "cpu" else {"device_id": options.device_index}
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=[(provider, arguments)])
    except Exception as error:  # ONNX Runtime's own exceptions derive from Exception directly
        raise EngineError(f"{path}: ONNX Runtime cannot load it: {_first_line(error)}") from error
    if provider not in session.get_providers():
        raise EngineError(
            f"device {options.device!r}: ONNX Runtime could not start {provider} and would run on the CPU; "
            "check the driver and CUDA libraries, or use device 'cpu'"
        )
    return session


def _shapes(tensors: Any) -> dict[str, Shape]:
    return {t.name: tuple(size if isinstance(size, int) else None for size in t.shape) for t in tensors}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
