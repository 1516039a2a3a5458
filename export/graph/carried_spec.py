"""Read and write the ModelSpec that an ONNX graph carries in its metadata."""

from __future__ import annotations

import onnx
from onnx import helper

from runtime.errors import SpecError
from runtime.spec.model import METADATA_KEY, ModelSpec, spec_from_json


def read_carried_spec(graph: onnx.ModelProto, origin: str) -> ModelSpec:
    """Read the ModelSpec of a graph, which errors call `origin` (SpecError: no ModelSpec, or a malformed one)."""
    carried = next((entry.value for entry in graph.metadata_props if entry.key == METADATA_KEY), None)
    if carried is None:
        raise SpecError(f"{origin}: holds no ModelSpec; export it with export/to_onnx.py")
    return spec_from_json(carried, origin)


def write_carried_spec(graph: onnx.ModelProto, spec: ModelSpec) -> None:
    """Write a ModelSpec into a graph, in place of the one that the graph carries; other metadata stays."""
    others = {entry.key: entry.value for entry in graph.metadata_props if entry.key != METADATA_KEY}
    helper.set_model_props(graph, {**others, METADATA_KEY: spec.to_json()})
