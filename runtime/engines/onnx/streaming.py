"""Run the .onnx file of a streaming network with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from runtime.engines.artifact import read_artifact
from runtime.engines.base import Arrays
from runtime.engines.onnx.engine import first_line, import_onnxruntime, list_providers, open_session, shapes_of
from runtime.engines.onnx.parts import cut_part
from runtime.engines.options import EngineOptions
from runtime.engines.streaming import Run, StreamingEngine, require_parts
from runtime.errors import EngineError
from runtime.spec.streaming import EDGE, HEAD


class OnnxStreamingEngine(StreamingEngine):
    """Runs the step with masks for all chunks, and the head: two sessions."""

    without_masks = False

    def __init__(self, path: Path, options: EngineOptions) -> None:
        """Load the file; errors as those of `OnnxRuntimeEngine`."""
        onnxruntime = import_onnxruntime(options)
        providers = list_providers(onnxruntime, options)
        spec = read_artifact(path, verify=options.verify).spec
        device = "cpu" if options.device_kind == "cpu" else f"cuda:{options.device_index}"
        super().__init__(spec, str(path), f"onnxruntime {onnxruntime.__version__}", device, spec.precision)
        self._parts: dict[str, Run] = {}
        found = {}
        for part in (EDGE, HEAD):
            session = open_session(onnxruntime, path, providers, options, cut_part(path, part))
            found.update(shapes_of(session.get_inputs()))
            self._parts[part] = self._runner(session, part)
        require_parts(spec, found, (EDGE,), str(path))

    def close(self) -> None:
        """See `StreamingEngine`."""
        self._parts = {}

    def _part(self, part: str, length: int) -> Run:
        """See `StreamingEngine`; the step with masks takes every chunk."""
        if not self._parts:
            raise self._closed()
        return self._parts[part]

    def _runner(self, session: Any, part: str) -> Run:
        names = [output.name for output in session.get_outputs()]

        def run(inputs: Mapping[str, NDArray[Any]]) -> Arrays:
            try:
                values = session.run(names, {f"{part}/{name}": array for name, array in inputs.items()})
            except Exception as error:  # ONNX Runtime's own exceptions derive from Exception directly
                raise EngineError(f"{self._origin}: the run failed: {first_line(error)}") from error
            return {name.removeprefix(f"{part}/"): value for name, value in zip(names, values, strict=True)}

        return run
