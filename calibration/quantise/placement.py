"""Find where a network is quantised: the layers that compute in 8 bit, and the points where numbers are rounded.

A convolution reads 8-bit numbers. Max-pools and concatenations copy numbers unchanged, so rounding is placed *before*
them, on their inputs, and all branches of a concatenation share one range. An Inception block thus stays in 8 bit from
end to end. The convolutions that give the network's outputs stay in floating point, as in half precision.
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

PASS_THROUGH = ("MaxPool", "Concat")
"""Operators that copy 8-bit numbers unchanged."""


@dataclass(frozen=True)
class Layer:
    """Describes one convolution of the model, which may be applied several times (a head to every pyramid level)."""

    name: str
    """Name of the module in the model, as in "backbone._model.Mixed_3b.b1a.conv3d"."""
    weight: str
    """Name of the weight's initializer [out,in,…]."""
    bias: str
    """Name of the bias's initializer [out]; empty: no bias."""
    nodes: tuple[str, ...]
    """Names of the Conv nodes that apply the convolution."""
    multiply_adds: int
    """Number of multiply-adds for one window, over all nodes."""


@dataclass(frozen=True)
class Point:
    """Groups the tensors that share a range because they meet in a concatenation; often a single tensor."""

    name: str
    """Name of the first tensor."""
    tensors: tuple[str, ...]
    """Names of all tensors of the group."""
    nodes: tuple[str, ...]
    """Names of the quantised Conv nodes that read the tensors, directly or behind pools and concatenations."""


class Placement:
    """Finds the layers and points of a float32 graph written by this project's exporters.

    Raises:
        ExportError: the graph is not float32, or has nothing to quantise; `origin` names the graph.
    """

    def __init__(self, graph: onnx.ModelProto, origin: str) -> None:
        found = precision_of(graph)
        if found != "fp32":
            raise ExportError(f"{origin}: is {found} already; calibrate the float32 ONNX file")
        self.graph = graph = _complete_graph(graph, origin)
        self.weights: Mapping[str, onnx.TensorProto] = {w.name: w for w in graph.graph.initializer}
        self.producers = {name: node for node in graph.graph.node for name in node.output}
        self._islands = output_convolutions(graph)
        self.layers = tuple(self._layers())
        if not self.layers:
            raise ExportError(f"{origin}: has no convolution to quantise")
        self.points = tuple(self._points())

    @cached_property
    def layer_of(self) -> Mapping[str, Layer]:
        """Name of a Conv node → its layer."""
        return {node: layer for layer in self.layers for node in layer.nodes}

    @cached_property
    def point_of(self) -> Mapping[str, Point]:
        """Name of a quantised Conv node → the point that the node reads."""
        return {node: point for point in self.points for node in point.nodes}

    @cached_property
    def convolutions(self) -> Mapping[str, onnx.NodeProto]:
        """Name → Conv node that can be quantised, in the graph's order."""
        return {n.name: n for n in self.graph.graph.node if n.op_type == "Conv" and n.name not in self._islands}

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name of a tensor → its shape, with 0 for a dynamic size (the batch)."""
        graph = self.graph.graph
        return {
            value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
            for value in (*graph.value_info, *graph.input, *graph.output)
        }

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over names and values of all weights, by which a table of ranges knows its network."""
        digest = sha256()
        for name in sorted(self.weights):
            values = np.ascontiguousarray(numpy_helper.to_array(self.weights[name]))
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()

    def weight(self, layer: Layer) -> NDArray[np.float32]:
        """Return the values [out,in,…] of a layer's weight."""
        return np.asarray(numpy_helper.to_array(self.weights[layer.weight]))

    def origins(self, tensor: str) -> list[str]:
        """Return the names of the tensors whose numbers reach `tensor` unchanged."""
        node = self.producers.get(tensor)
        if node is None or node.op_type not in PASS_THROUGH:
            return [tensor]
        return [origin for name in node.input for origin in self.origins(name)]

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
        """Return the multiply-adds of a Conv node for one window: outputs × (inputs / groups × kernel)."""
        positions = math.prod(self.shapes[node.output[0]][2:])
        return int(positions * math.prod(self.weights[node.input[1]].dims))

    def _points(self) -> Iterable[Point]:
        """Yield the points: tensors that reach one convolution are one group, and groups that share a tensor merge."""
        root: dict[str, str] = {}

        def find(tensor: str) -> str:
            while root.setdefault(tensor, tensor) != tensor:
                tensor = root[tensor]
            return tensor

        readers: dict[str, list[str]] = {}
        for layer in self.layers:
            for name in layer.nodes:
                first, *others = self.origins(self.convolutions[name].input[0])
                readers.setdefault(first, []).append(name)
                find(first)
                for other in others:
                    root[find(other)] = find(first)
        groups: dict[str, list[str]] = {}
        for tensor in root:
            groups.setdefault(find(tensor), []).append(tensor)
        for tensors in groups.values():
            yield Point(tensors[0], tuple(tensors), tuple(n for t in tensors for n in readers.get(t, ())))


def _complete_graph(graph: onnx.ModelProto, origin: str) -> onnx.ModelProto:
    """Return the graph with a name for every node and the shapes of all convolutions' outputs.

    Raises:
        ExportError: a shape cannot be inferred.
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
        raise ExportError(f"{origin}: the shape of {missing[0]} is not known; export it with export/to_onnx.py")
    return model
