"""Write the tiny network as releases without digests did: an ONNX file, and an OpenVINO model of three files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from runtime.spec.model import METADATA_KEY
from tests.tiny import tiny_spec, write_tiny_onnx

OLD_SCHEMA = 3
"""Schema of the ModelSpec in those releases."""


def write_old_onnx(path: Path) -> Path:
    """Write <path> with a ModelSpec of the old schema and without a digest."""
    return write_tiny_onnx(path, None, {METADATA_KEY: tiny_spec(schema=OLD_SCHEMA).to_json()}, sealed=False)


def write_old_openvino(path: Path) -> Path:
    """Write <path>, an .xml as OpenVINO leaves it, its .bin, and the sidecar with the ModelSpec and both SHA-256."""
    openvino = pytest.importorskip("openvino")
    source = write_old_onnx(path.with_suffix(".source.onnx"))
    model = openvino.convert_model(str(source))
    openvino.save_model(model, str(path), compress_to_fp16=False)
    source.unlink()
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, path.with_suffix(".bin"))}
    content = {"spec": json.loads(tiny_spec(schema=OLD_SCHEMA).to_json()), "sha256": sums}
    path.with_suffix(".json").write_text(json.dumps(content))
    return path
