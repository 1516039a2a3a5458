"""Run .xml files with OpenVINO, the fastest engine on CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import PathLike
from runtime.common.processors import limited_cores, usable_cores
from runtime.engines.artifact import Artifact, read_artifact
from runtime.engines.checks import Shape, check_fit, check_inputs
from runtime.engines.openvino.cache import compile_model
from runtime.engines.openvino.core import import_openvino, process_core
from runtime.engines.options import EngineOptions
from runtime.errors import EngineError

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's names of `EngineOptions.precision`."""

MAX_STREAMS = 8
"""Most batches that run at once in the mode "throughput"; each takes the memory of one run."""
QUEUED = 1
"""Batches that wait behind those that run, so that none of the threads waits for the host."""


class OpenVinoEngine:
    """Runs an .xml and .bin pair on the CPU or an Intel GPU."""

    def __init__(self, path: Path, options: EngineOptions) -> None:
        """Verify, read and compile the files, or take what was compiled before (see `cache`).

        Raises:
            SpecError: the ModelSpec is missing or does not fit, or a file changed since its export.
            EngineError: the file is not a loadable model, or the device or precision is not available.
            MissingDependencyError: openvino is not installed.
        """
        openvino = import_openvino()
        self._path = path
        artifact = read_artifact(path, verify=options.verify)
        self.spec = artifact.spec
        core = process_core()
        cache = options.cache if options.verify else None  # the key is the digest, which has to be the files'
        device = choose_device(core, options)
        precision = options.precision or ("bf16" if self.spec.precision == "bf16" else "fp32")
        self._compiled: Any = _compile(core, artifact, device, settings_of(options, precision, device), cache)
        check_fit(self.spec, shapes_of(self._compiled.inputs), shapes_of(self._compiled.outputs), str(path))
        require_precision(self._compiled, precision, path)
        self.depth = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + QUEUED
        """Maximum number of batches in flight: those that run at once, and the next."""
        self.mode = options.mode
        """See `EngineOptions.mode`."""
        self._idle: list[Any] = []
        self.library = f"openvino {openvino.__version__.partition('-')[0]}"
        eight = [self.spec.precision] if self.spec.precision == "int8" else []
        self.device = f"{device.lower()} ({'+'.join([*eight, precision])})"
        """Device and precision: "cpu (fp32)", or "cpu (int8+bf16)" for 8-bit layers with all others in bf16."""
        self.precision = eight[0] if eight else precision

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run one batch; see `runtime.engines.base.Engine.infer`.

        Raises:
            InputError: arrays that do not fit the ModelSpec.
            EngineError: the engine is closed, or the run failed.
        """
        return self.collect(self.submit(inputs))

    def submit(self, inputs: Mapping[str, NDArray[Any]]) -> Any:
        """Begin one batch; see `runtime.engines.pipeline.OverlappingEngine`. Errors are those of `infer`."""
        check_inputs(self.spec, inputs)
        if self._compiled is None:
            raise EngineError(f"{self._path}: the engine is closed; open it again")
        try:
            request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
            request.start_async({k: np.ascontiguousarray(v) for k, v in inputs.items()}, share_inputs=True)
        except Exception as error:  # OpenVINO raises RuntimeError and its own types
            raise EngineError(f"{self._path}: the run failed: {last_line(error)}") from error
        return request

    def collect(self, ticket: Any) -> dict[str, NDArray[np.float32]]:
        """Wait for a batch; see `runtime.engines.pipeline.OverlappingEngine` (EngineError: the run failed)."""
        try:
            ticket.wait()
            results = ticket.results
        except Exception as error:  # OpenVINO raises RuntimeError and its own types
            raise EngineError(f"{self._path}: the run failed: {last_line(error)}") from error
        if self._compiled is not None:
            self._idle.append(ticket)
        return {tensor.name: results[tensor.name] for tensor in self.spec.outputs}

    def close(self) -> None:
        """Release the network; batches in flight may still be collected."""
        self._idle.clear()
        self._compiled = None


def choose_device(core: Any, options: EngineOptions) -> str:
    """Return OpenVINO's name of the device (EngineError: the device is not there)."""
    kind = options.device_kind.upper()
    available = [str(name) for name in core.available_devices]
    name = kind if options.device_index == 0 else f"{kind}.{options.device_index}"
    if name not in available and f"{name}.0" not in available:
        raise EngineError(
            f"device {options.device!r}: OpenVINO finds {', '.join(available) or 'no device'} here; "
            "use one of these (lower case), or install the device's driver"
        )
    return name


def settings_of(options: EngineOptions, precision: str, device: str) -> dict[str, Any]:
    """Return OpenVINO's settings for some options."""
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": options.mode.upper(),
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
    }
    threads = options.threads or limited_cores()
    if threads is not None and device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = threads
    if options.mode == "throughput" and device == "CPU":
        settings["NUM_STREAMS"] = min(options.threads or usable_cores(), MAX_STREAMS)
    return settings


def _compile(core: Any, artifact: Artifact, device: str, settings: dict[str, Any], cache: PathLike | None) -> Any:
    try:
        return compile_model(core, artifact, device, settings, None if cache is None else Path(cache))
    except Exception as error:  # OpenVINO raises RuntimeError and its own types
        raise EngineError(f"{artifact.path}: OpenVINO cannot load it: {last_line(error)}") from error


def require_precision(compiled: Any, precision: str, path: Path) -> None:
    """Raise if OpenVINO, which may ignore the precision hint, would compute in another precision."""
    effective = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if effective != PRECISION_HINTS[precision]:
        raise EngineError(
            f"{path}: asked for {precision}, OpenVINO would compute in {effective} on this device; "
            "choose another precision"
        )


def shapes_of(ports: Any) -> dict[str, Shape]:
    """Return the shapes of a model's tensors by name."""
    return {
        port.any_name: tuple(size.get_length() if size.is_static else None for size in port.partial_shape)
        for port in ports
    }


def last_line(error: Exception) -> str:
    """Return the last line of an OpenVINO message: the reason, after the positions in OpenVINO's code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
