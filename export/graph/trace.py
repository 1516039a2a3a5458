"""Trace a trained network as an ONNX graph with boundary pooling's function, explicit pooling pads and ModelSpec."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import nn

from export.boundary_pooling.function import OPSET, attach_pooling_function
from export.graph.carried_spec import write_carried_spec
from runtime.spec.model import ModelSpec
from runtime.spec.tensors import TensorSpec

DTYPES = {"uint8": torch.uint8, "int32": torch.int32, "float32": torch.float32}
"""Type of a TensorSpec → PyTorch's type."""

IR_VERSION = 10
"""ONNX IR version of the files written; read by ONNX Runtime ≥ 1.18, OpenVINO ≥ 2024 and TensorRT ≥ 10."""


def to_graph(module: nn.Module, spec: ModelSpec) -> onnx.ModelProto:
    """Trace a network as one ONNX model with dynamic batch, its ModelSpec and the pooling function.

    Args:
        module: deployment view; the arguments of its `forward` have the names of the spec's inputs.
        spec: ModelSpec of the network.
    """
    batch = 2  # the tracer takes a size of 1 for a constant
    inputs = {t.name: torch.zeros((batch, *(int(n) for n in t.shape[1:])), dtype=DTYPES[t.dtype]) for t in spec.inputs}
    if "lengths" in inputs:
        inputs["lengths"] += spec.window_length
    with warnings.catch_warnings(), _quiet("torch.onnx"), _uncollected(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes={tensor.name: {0: "batch"} for tensor in spec.inputs},
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    strip_tracing_notes(model)
    name_domains_once(model)
    write_out_pool_pads(model)
    attach_pooling_function(model, spec.window_length)
    write_carried_spec(model, spec)
    onnx.checker.check_model(model, full_check=True)
    return model


def strip_tracing_notes(model: onnx.ModelProto) -> None:
    """Remove the tracer's notes about Python files, which double small files and name the author's folders."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]


def name_domains_once(model: onnx.ModelProto) -> None:
    """Keep the last import of every operator domain; the tracer imports boundary pooling's twice, once unversioned."""
    last = {entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, number) for domain, number in last.items())


def write_out_pool_pads(model: onnx.ModelProto) -> None:
    """Replace `ceil_mode` of max-pools by the equivalent end pads, which every engine reads the same way."""
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    for node in model.graph.node:
        if node.op_type != "MaxPool":
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if not attributes.get("ceil_mode"):
            continue
        size, out = shapes[node.input[0]][2:], shapes[node.output[0]][2:]
        front = attributes["pads"][: len(size)]
        back = [
            (n_out - 1) * stride + kernel - n - pad
            for n_out, stride, kernel, n, pad in zip(
                out, attributes["strides"], attributes["kernel_shape"], size, front, strict=True
            )
        ]
        kept = [a for a in node.attribute if a.name not in ("ceil_mode", "pads", "storage_order")]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("pads", [*front, *(max(0, pad) for pad in back)])])


SEEDS, BATCHES = (1, 2, 3), (1, 2, 1)
"""Seed and batch size of each batch of inputs on which engines are compared."""


def seeded_batches(spec: ModelSpec, smallest: int = 1, largest: int = 2) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the batches of windows on which engines are compared, each of `smallest` to `largest` windows."""
    for seed, batch in zip(SEEDS, BATCHES, strict=True):
        yield seeded_inputs(spec, seed, min(max(batch, smallest), largest))


def seeded_inputs(spec: ModelSpec, seed: int, batch: int) -> dict[str, NDArray[Any]]:
    """Return a batch of windows to compare engines on: moving waves with noise for frames, noise for features.

    The last window is only partly filled, unless the model is a backbone.
    """
    rng = np.random.default_rng(seed)
    inputs: dict[str, NDArray[Any]] = {
        tensor.name: _waves(rng, batch, tensor) for tensor in spec.inputs if tensor.dtype == "uint8"
    }
    for tensor in spec.inputs:
        if tensor.dtype == "float32":
            shape = (batch, *(int(size) for size in tensor.shape[1:]))
            inputs[tensor.name] = rng.standard_normal(shape).astype(np.float32)
    if spec.is_backbone:  # snippets are always whole
        return inputs
    lengths = np.full(batch, spec.window_length, np.int32)
    lengths[-1] = rng.integers(spec.window_length // 4, spec.window_length)
    return {**inputs, "lengths": lengths}


def _waves(rng: np.random.Generator, batch: int, tensor: TensorSpec) -> NDArray[np.uint8]:
    """Return moving waves with noise as frames or flow [batch,T,H,W,C] uint8."""
    length, height, width, channels = (int(size) for size in tensor.shape[1:])
    t, y, x = np.ogrid[:length, :height, :width]
    frames = np.empty((batch, length, height, width, channels), np.uint8)
    for window in range(batch):
        for channel in range(channels):
            speed, rows, columns = rng.uniform(0.05, 0.6), *rng.uniform(0.05, 0.5, 2)
            wave = np.sin(speed * t + rows * y + columns * x + rng.uniform(0, 6))
            frames[window, ..., channel] = 127.5 + 70 * wave + rng.uniform(-57, 57, wave.shape)
    return frames


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector still: the tracer makes half a million objects that stay, and searching them again
    and again takes a fifth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _quiet:  # noqa: N801 - a context manager that reads as a word
    """Silences a logger's warnings inside a `with` block."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def __enter__(self) -> None:
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)
