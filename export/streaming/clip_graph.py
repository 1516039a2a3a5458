"""Read what streaming needs to know of a clip network's graph: shapes, rounding, the padding mask, kernels in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx
from onnx import helper

TIME = 2
"""Axis of time of a tensor [B,C,T,H,W]."""

COPYING = ("MaxPool", "Concat")
"""Operators that copy 8-bit numbers unchanged."""


class TemporalWindow(NamedTuple):
    """Holds a node's kernel, stride, and padding before and after, on the axis of time."""

    kernel: int
    stride: int
    before: int
    after: int

    @property
    def pointwise(self) -> bool:
        """Whether each position is computed from the same position."""
        return self.kernel == self.stride == 1


class ClipGraph:
    """Looks up nodes, shapes and types of a clip network's graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = onnx.shape_inference.infer_shapes(model).graph
        self.nodes = list(model.graph.node)
        self.inputs = [value.name for value in graph.input]
        self.outputs = [value.name for value in graph.output]
        self.weights = {weight.name: weight for weight in graph.initializer}
        self.producers = {name: node for node in self.nodes for name in node.output}
        values = {v.name: v.type.tensor_type for v in (*graph.value_info, *graph.input, *graph.output)}
        self.shapes = {name: tuple(size.dim_value for size in kind.shape.dim) for name, kind in values.items()}
        """Name of a tensor → its shape, with 0 for the batch."""
        self.types = {name: kind.elem_type for name, kind in values.items()}
        self._masks = self._made_of("lengths")

    def is_mask(self, tensor: str) -> bool:
        """Return whether a tensor depends on the lengths of the windows alone."""
        return tensor in self._masks

    def is_weight(self, tensor: str) -> bool:
        """Return whether a tensor depends on weights alone, as a dequantised weight does."""
        node = self.producers.get(tensor)
        return tensor in self.weights or (node is not None and all(map(self.is_weight, node.input)))

    def ancestors(self, tensors: Sequence[str]) -> list[onnx.NodeProto]:
        """Return the nodes that compute some tensors, in the graph's order, without those of the padding mask."""
        waiting, found = list(tensors), set[str]()
        while waiting:
            tensor = waiting.pop()
            node = self.producers.get(tensor)
            if node is None or tensor in found or self.is_mask(tensor):
                continue
            found.add(tensor)
            waiting.extend(node.input)
        return [node for node in self.nodes if node.output[0] in found]

    def quantiser(self, tensor: str) -> tuple[str, str] | None:
        """Return scale and zero point of the 8-bit numbers that a tensor holds; None for floating point."""
        node = self.producers.get(tensor)
        if node is None:
            return None
        if node.op_type == "DequantizeLinear":
            return node.input[1], node.input[2]
        return self.quantiser(node.input[0]) if node.op_type in COPYING else None

    def window(self, node: onnx.NodeProto) -> TemporalWindow:
        """Return what a node of [B,C,T,H,W] sees of time."""
        if node.op_type not in ("Conv", "MaxPool"):
            return TemporalWindow(1, 1, 0, 0)
        kernel = attribute(node, "kernel_shape") or list(self.shapes[node.input[1]][TIME:])
        pads, strides = attribute(node, "pads") or [0] * 6, attribute(node, "strides") or [1] * 3
        return TemporalWindow(kernel[0], strides[0], pads[0], pads[len(pads) // 2])

    def _made_of(self, name: str) -> set[str]:
        """Return the tensors computed from one input and constants alone."""
        found = {name}
        for node in self.nodes:
            others = [tensor for tensor in node.input if tensor and tensor not in self.weights]
            if others and found.issuperset(others):
                found.update(node.output)
        return found


def attribute(node: onnx.NodeProto, name: str) -> list[int]:
    """Return a list of integers that a node has as attribute; empty if it has none."""
    return next((list(helper.get_attribute_value(a)) for a in node.attribute if a.name == name), [])
