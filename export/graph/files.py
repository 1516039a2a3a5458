"""Read and write ONNX files of this project: sealed with a digest when written, verified before anything is derived."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from export.graph.carried_spec import read_carried_spec, write_carried_spec
from runtime.engines.artifact import read_artifact
from runtime.engines.seal import ONNX_DIGEST_KEY, ONNX_SEAL, write_seal
from runtime.errors import EngineError
from runtime.spec.model import METADATA_KEY, SCHEMA


def load_graph(path: Path, *, verify: bool = True) -> onnx.ModelProto:
    """Load an ONNX file of this project, verified and without its digest.

    Raises:
        EngineError: not an ONNX file, or weights that are not finite or not of their shape, by name.
        SpecError: no ModelSpec, or a file that is damaged.
    """
    read_artifact(path, verify=verify)
    try:
        graph = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own exception
        raise EngineError(f"{path}: not an ONNX file ({' '.join(str(error).split())}); export it again") from None
    _drop_digest(graph)
    require_weights(graph, str(path))
    return graph


def save_graph(graph: onnx.ModelProto, path: Path) -> str:
    """Write a graph that carries a ModelSpec as a sealed file, and return its digest."""
    _drop_digest(graph)
    if any(entry.key == METADATA_KEY for entry in graph.metadata_props):
        spec = read_carried_spec(graph, str(path))
        if spec.schema != SCHEMA:  # read from a file of an older release
            write_carried_spec(graph, replace(spec, schema=SCHEMA))
    onnx.save(graph, path)
    return write_seal(path, ONNX_SEAL)


def require_weights(graph: onnx.ModelProto, origin: str) -> None:
    """Check that every initialiser has as many values as its shape says, and that floating-point values are finite.

    Raises:
        EngineError: one is not so, by name; its values lie in another file, which this project never writes.
    """
    for tensor in graph.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise EngineError(
                f"{origin}: {tensor.name} lies in another file, which no export of this project does; export it again"
            )
        try:
            values = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError):
            raise EngineError(
                f"{origin}: {tensor.name} does not have the values of its shape {list(tensor.dims)}; export it again"
            ) from None
        if values.dtype.kind not in "iub" and not np.isfinite(values.astype(np.float32, copy=False)).all():
            raise EngineError(f"{origin}: {tensor.name} holds NaN or infinite weights; export it again")


def _drop_digest(graph: onnx.ModelProto) -> None:
    """Remove the digest of the file that a graph was read from."""
    for index in reversed(range(len(graph.metadata_props))):
        if graph.metadata_props[index].key == ONNX_DIGEST_KEY:
            del graph.metadata_props[index]
