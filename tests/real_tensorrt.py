"""The tiny network built by the real TensorRT for RTX, or by the full TensorRT on a machine that has it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from runtime.engines.sidecar import write_sidecar
from runtime.engines.tensorrt.build_facts import EngineBuild, TensorRtLibrary
from tests.tiny import tiny_spec, write_tiny_onnx

BATCH = (1, 2, 3)


def build_tiny(folder: Path, library: TensorRtLibrary, architecture: str) -> Path:
    """An engine for GPUs of one architecture (full TensorRT: this machine's); skips without the library."""
    module = pytest.importorskip(library.replace("-", "_"), exc_type=ImportError)
    builder = module.Builder(module.Logger(module.Logger.ERROR))
    strongly = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly)
    parser = module.OnnxParser(network, module.Logger(module.Logger.ERROR))
    onnx = write_tiny_onnx(folder / "source.onnx", None)
    assert parser.parse(onnx.read_bytes()), [str(parser.get_error(k)) for k in range(parser.num_errors)]
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for tensor in tiny_spec().inputs:
        profile.set_shape(tensor.name, *((size, *tensor.shape[1:]) for size in BATCH))
    config.add_optimization_profile(profile)
    if library == "tensorrt-rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(module.ComputeCapability, f"SM{architecture.replace('.', '')}"), 0)
    plan: Any = builder.build_serialized_network(network, config)
    assert plan is not None
    path = folder / "tiny.engine"
    path.write_bytes(bytes(plan))
    build = EngineBuild(
        library, importlib.import_module(module.__name__).__version__, (architecture,), "fp32", BATCH, "none"
    )
    write_sidecar(path, tiny_spec(), build)
    return path
