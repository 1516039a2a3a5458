"""Where a network is quantised: the layers whose arithmetic becomes 8-bit, and the points where numbers are rounded.

A convolution reads 8-bit numbers. Max-pools and concatenations move numbers as they are, so the rounding stands
*before* them, at what they read; all branches of a concatenation share one range. So an Inception block stays in 8 bit
from end to end. The convolutions that give the network's outputs stay in floating point, as in half precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.graph.precision import output_convolutions, precision_of
from runtime.errors import ExportError

PASSED = ("MaxPool", "Concat")
"""Operators that 8-bit numbers go through unchanged."""


@dataclass(frozen=True)
class Layer:
    """One convolution of the model, however often it is applied (a head is applied to every pyramid level)."""

    name: str
    """Place in the model, as in "backbone._model.Mixed_3b.b1a.conv3d"."""
    weight: str
    """Initializer [out,in,…]."""
    bias: str
    """Initializer [out]; empty: none."""
    nodes: tuple[str, ...]
    """Conv nodes that apply it."""
    multiply_adds: int
    """Of one window, over all its nodes."""


@dataclass(frozen=True)
class Point:
    """Tensors that are rounded alike, since they meet in a concatenation (or one tensor alone)."""

    name: str
    """The first tensor's."""
    tensors: tuple[str, ...]
    nodes: tuple[str, ...]
    """Quantised Conv nodes that read them, at once or behind pools and concatenations."""


class Layout:
    """Layers and points of a float32 graph written by this project's exporters.

    Raises:
        ExportError: the graph is not float32, or has nothing to quantise.
    """

    def __init__(self, graph: onnx.ModelProto, source: str) -> None:
        found = precision_of(graph)
        if found != "fp32":
            raise ExportError(f"{source}: is {found} already; calibrate the float32 ONNX file")
        self.graph = graph = _complete(graph, source)
        self.weights: Mapping[str, onnx.TensorProto] = {w.name: w for w in graph.graph.initializer}
        self.producers = {name: node for node in graph.graph.node for name in node.output}
        self._islands = output_convolutions(graph)
        self.layers = tuple(self._layers())
        if not self.layers:
            raise ExportError(f"{source}: has no convolution to quantise")
        self.points = tuple(self._points())

    @cached_property
    def layer_of(self) -> Mapping[str, Layer]:
        """Conv node → layer."""
        return {node: layer for layer in self.layers for node in layer.nodes}

    @cached_property
    def point_of(self) -> Mapping[str, Point]:
        """Quantised Conv node → the point it reads."""
        return {node: point for point in self.points for node in point.nodes}

    @cached_property
    def convolutions(self) -> Mapping[str, onnx.NodeProto]:
        """Conv nodes that can be quantised, by name, in the graph's order."""
        return {n.name: n for n in self.graph.graph.node if n.op_type == "Conv" and n.name not in self._islands}

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Tensor → its sizes; 0 where one is dynamic (the batch)."""
        graph = self.graph.graph
        return {
            value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
            for value in (*graph.value_info, *graph.input, *graph.output)
        }

    @cached_property
    def sha256(self) -> str:
        """Hash over names and values of all weights: what a table of ranges belongs to."""
        digest = sha256()
        for name in sorted(self.weights):
            values = np.ascontiguousarray(numpy_helper.to_array(self.weights[name]))
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()

    def weight(self, layer: Layer) -> NDArray[np.float32]:
        """Values [out,in,…] of a layer's weight."""
        return np.asarray(numpy_helper.to_array(self.weights[layer.weight]))

    def sources(self, tensor: str) -> list[str]:
        """The tensors whose numbers arrive in `tensor` unchanged."""
        node = self.producers.get(tensor)
        if node is None or node.op_type not in PASSED:
            return [tensor]
        return [source for name in node.input for source in self.sources(name)]

    def _layers(self) -> Iterable[Layer]:
        nodes: dict[str, list[onnx.NodeProto]] = {}
        for node in self.convolutions.values():
            if node.input[1] in self.weights:
                nodes.setdefault(node.input[1], []).append(node)
        for weight, users in nodes.items():
            yield Layer(
                weight.removeprefix("model.").removesuffix(".weight"),
                weight,
                users[0].input[2] if len(users[0].input) > 2 else "",
                tuple(node.name for node in users),
                sum(self._multiply_adds(node) for node in users),
            )

    def _multiply_adds(self, node: onnx.NodeProto) -> int:
        """Of one Conv node and one window: outputs × (inputs / groups × kernel)."""
        positions = math.prod(self.shapes[node.output[0]][2:])
        return int(positions * math.prod(self.weights[node.input[1]].dims))

    def _points(self) -> Iterable[Point]:
        """Tensors that reach one convolution together belong together; so do groups with a tensor in common."""
        root: dict[str, str] = {}

        def find(tensor: str) -> str:
            while root.setdefault(tensor, tensor) != tensor:
                tensor = root[tensor]
            return tensor

        readers: dict[str, list[str]] = {}
        for layer in self.layers:
            for name in layer.nodes:
                first, *others = self.sources(self.convolutions[name].input[0])
                readers.setdefault(first, []).append(name)
                find(first)
                for other in others:
                    root[find(other)] = find(first)
        groups: dict[str, list[str]] = {}
        for tensor in root:
            groups.setdefault(find(tensor), []).append(tensor)
        for tensors in groups.values():
            yield Point(tensors[0], tuple(tensors), tuple(n for t in tensors for n in readers.get(t, ())))


def _complete(graph: onnx.ModelProto, source: str) -> onnx.ModelProto:
    """The graph with a name for every node and the sizes of what convolutions give, as our exporters write it.

    Raises:
        ExportError: the sizes cannot be told.
    """
    named = {node.name for node in graph.graph.node}
    known = {value.name for value in (*graph.graph.value_info, *graph.graph.output)}
    results = {node.output[0] for node in graph.graph.node if node.op_type == "Conv"}
    if "" not in named and len(named) == len(graph.graph.node) and results <= known:
        return graph
    model = onnx.shape_inference.infer_shapes(graph)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    known = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    if missing := sorted(results - known):
        raise ExportError(f"{source}: the size of {missing[0]} is not told; export it with export/to_onnx.py")
    return model
