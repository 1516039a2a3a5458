"""Run the .xml and .bin of a streaming network with OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from runtime.engines.artifact import read_artifact
from runtime.engines.base import Arrays
from runtime.engines.openvino.cache import compile_model
from runtime.engines.openvino.core import import_openvino, process_core
from runtime.engines.openvino.engine import (
    choose_device,
    last_line,
    require_precision,
    settings_of,
    shapes_of,
)
from runtime.engines.options import EngineOptions
from runtime.engines.streaming import Run, StreamingEngine, require_parts
from runtime.errors import EngineError
from runtime.spec.streaming import EDGE, HEAD, STEADY


class OpenVinoStreamingEngine(StreamingEngine):
    """Runs the step and the head, each compiled apart: the step inside a video for one length of chunks, without masks.

    A step waits for the one before, so each runs on all threads, whatever `EngineOptions.mode`. Fewer threads leave a
    processor to the decoder (docs/streaming.md has when that is faster).
    """

    def __init__(self, path: Path, options: EngineOptions) -> None:
        """Load the files; errors as those of `OpenVinoEngine`."""
        openvino = import_openvino()
        artifact = self._artifact = read_artifact(path, verify=options.verify)
        self._cache = Path(options.cache) if options.cache and options.verify else None  # see `OpenVinoEngine`
        spec, self._core = artifact.spec, process_core()
        self._device = choose_device(self._core, options)
        precision = options.precision or ("bf16" if spec.precision == "bf16" else "fp32")
        eight = [spec.precision] if spec.precision == "int8" else []
        super().__init__(
            spec,
            str(path),
            f"openvino {openvino.__version__.partition('-')[0]}",
            f"{self._device.lower()} ({'+'.join([*eight, precision])})",
            eight[0] if eight else precision,
        )
        self._settings = settings_of(replace(options, mode="latency"), precision, self._device)
        try:
            self._model: Any = self._core.read_model(str(artifact.path), str(artifact.weights))
        except Exception as error:  # OpenVINO raises RuntimeError and its own types
            raise EngineError(f"{path}: OpenVINO cannot load it: {last_line(error)}") from error
        require_parts(spec, shapes_of(self._model.inputs), (STEADY, EDGE), self._origin)
        self._parts: dict[tuple[str, int], Run] = {}
        compiled = self._compile(HEAD, 0)
        require_precision(compiled, precision, path)
        self._parts[HEAD, 0] = self._runner(compiled, HEAD)

    def close(self) -> None:
        """See `StreamingEngine`."""
        self._parts, self._model = {}, None

    def _part(self, part: str, length: int) -> Run:
        """See `StreamingEngine`; a step inside a video is compiled for one length, that at an end for any."""
        if self._model is None:
            raise self._closed()
        key = part, length if part == STEADY else 0
        if key not in self._parts:
            self._parts = {key: run for key, run in self._parts.items() if key[0] != part}
            self._parts[key] = self._runner(self._compile(part, length), part)
        return self._parts[key]

    def _compile(self, part: str, length: int) -> Any:
        """Compile the operations of one part."""
        name = f"{part} {length}"
        try:
            given = name, lambda: self._cut(part, length)
            return compile_model(self._core, self._artifact, self._device, self._settings, self._cache, given)
        except Exception as error:  # OpenVINO raises RuntimeError and its own types
            raise EngineError(f"{self._origin}: OpenVINO cannot load its part {part}: {last_line(error)}") from error

    def _cut(self, part: str, length: int) -> Any:
        """Return the operations of one part as a model, a step inside a video for chunks of one length."""
        import openvino

        def belongs(port: Any) -> bool:
            return any(name.startswith(f"{part}/") for name in port.get_names())

        model = openvino.Model(
            [result for result in self._model.get_results() if belongs(result.input(0).get_source_output())],
            [given for given in self._model.get_parameters() if belongs(given.output(0))],
            part,
        ).clone()
        if part == STEADY:
            shapes = {port: port.get_partial_shape() for port in model.inputs}
            frames = {port: shape for port, shape in shapes.items() if shape.is_dynamic}
            for shape in frames.values():
                shape[1] = length + self.streaming.overlap
            model.reshape(frames)
        return model

    def _runner(self, compiled: Any, part: str) -> Run:
        idle: list[Any] = []  # several threads may run a part at once, each in a request of its own
        names = {output.any_name: output.any_name.removeprefix(f"{part}/") for output in compiled.outputs}

        def run(inputs: Mapping[str, NDArray[Any]]) -> Arrays:
            try:
                request: Any = idle.pop()
            except IndexError:
                request = compiled.create_infer_request()
            try:
                found = request.infer({f"{part}/{name}": array for name, array in inputs.items()}, share_inputs=True)
            except Exception as error:  # OpenVINO raises RuntimeError and its own types
                raise EngineError(f"{self._origin}: the run failed: {last_line(error)}") from error
            idle.append(request)
            return {short: found[name] for name, short in names.items()}

        return run
