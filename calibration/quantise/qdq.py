"""Write quantisation into a graph: QuantizeLinear and DequantizeLinear where numbers are rounded, weights as integers.

Every engine computes a convolution with this pair at its input in 8 bit. OpenVINO keeps 8-bit numbers through pools and
concatenations. TensorRT-RTX 1.7 does not keep them through three-dimensional max-pools, so for TensorRT the pair is
repeated behind the pools, which changes no number since rounded numbers round to themselves. Weights have a scale per
output channel and no zero point; biases stay in floating point (TensorRT refuses INT32 biases).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.quantise.placement import PASS_THROUGH, Layer, Placement
from calibration.ranges.choose import FP8_LARGEST, Numbers, Quantiser
from export.graph.carried_spec import read_carried_spec, write_carried_spec
from runtime.spec.model import Quantization

FP8_OPSET = 19
"""First opset whose QuantizeLinear supports FP8."""

ZERO: Mapping[Numbers, type[np.generic]] = {
    "uint8": np.uint8,
    "int8": np.int8,
    "fp8": ml_dtypes.float8_e4m3fn,
}
"""Type of the activations → NumPy type of the zero point, which sets the stored type."""


def insert_qdq(
    placement: Placement,
    quantisers: Mapping[str, Quantiser],
    *,
    kept: Collection[str] = (),
    biases: Mapping[str, NDArray[np.float32]] | None = None,
    half: Literal["fp16"] | None = None,
    record: Quantization | None = None,
) -> onnx.ModelProto:
    """Return a copy of the graph with QuantizeLinear and DequantizeLinear nodes.

    Args:
        placement: placement of the float32 graph, which is not changed.
        quantisers: quantiser of every point by name, all of one type of numbers.
        kept: names of layers that stay in floating point. A kept layer reads unrounded numbers, unless they come from
            a pool or concatenation that a quantised layer reads as well.
        biases: name of a bias → values that replace it if its layer is quantised.
        half: type of the kept layers: "fp16" with casts around them, or None for float32.
        record: entry about the quantisation for the ModelSpec.
    """
    model = onnx.ModelProto()
    model.CopyFrom(placement.graph)
    _Writer(placement, quantisers, frozenset(kept), half).write(model)
    plain = {layer.bias for layer in placement.layers if layer.name in kept}
    for weight in model.graph.initializer:
        if biases and weight.name in biases and weight.name not in plain:
            weight.CopyFrom(numpy_helper.from_array(np.asarray(biases[weight.name], np.float32), weight.name))
    numbers = next(iter(quantisers.values())).numbers
    if numbers == "fp8":
        for entry in (*model.opset_import, *(e for function in model.functions for e in function.opset_import)):
            entry.version = entry.version if entry.domain else max(entry.version, FP8_OPSET)
    precision = "fp8" if numbers == "fp8" else "int8"
    spec = read_carried_spec(model, "the graph")
    write_carried_spec(model, replace(spec, precision=precision, quantization=record))
    onnx.checker.check_model(model)
    return model


def compute_weight_scales(values: NDArray[np.float32], numbers: Numbers) -> NDArray[np.float32]:
    """Return the scale of every output channel [out] of a weight [out,in,…]; 1 where a channel is all zero."""
    largest = np.abs(values.reshape(len(values), -1)).max(axis=1)
    steps = np.float32(FP8_LARGEST if numbers == "fp8" else 127)
    return np.where(largest > 0, largest / steps, 1).astype(np.float32)


def quantise_weight(values: NDArray[np.float32], scales: NDArray[np.float32], numbers: Numbers) -> NDArray[np.generic]:
    """Quantise a weight [out,in,…] to int8 or FP8 with a scale [out] per output channel."""
    scaled = values / scales.reshape(-1, *[1] * (values.ndim - 1))
    if numbers == "fp8":
        return np.asarray(np.clip(scaled, -FP8_LARGEST, FP8_LARGEST).astype(ml_dtypes.float8_e4m3fn))
    return np.asarray(np.clip(np.rint(scaled), -127, 127).astype(np.int8))


def round_weight(values: NDArray[np.float32], numbers: Numbers) -> NDArray[np.float32]:
    """Return a weight [out,in,…] after quantisation and dequantisation."""
    scales = compute_weight_scales(values, numbers)
    stored = quantise_weight(values, scales, numbers).astype(np.float32)
    return np.asarray(stored * scales.reshape(-1, *[1] * (values.ndim - 1)), np.float32)


@dataclass
class _Writer:
    """Writes Q/DQ nodes in one pass over the nodes in order."""

    placement: Placement
    quantisers: Mapping[str, Quantiser]
    kept: frozenset[str]
    half: Literal["fp16"] | None
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    """Names of initializers that are written already; a layer may be applied several times."""

    def write(self, model: onnx.ModelProto) -> None:
        """Replace the nodes of `model` and remove the weights that are no longer read."""
        layers = self.placement.layer_of
        active = [node for node in layers if layers[node].name not in self.kept]
        passing, rounded = self._trace_inputs(active)
        again = next(iter(self.quantisers.values())).numbers != "uint8"
        pooled = {n.output[0] for n in model.graph.node if again and n.op_type == "MaxPool" and n.name in passing}
        for name in rounded.keys() & {value.name for value in model.graph.input}:
            self._round(name, rounded[name])
        for node in model.graph.node:
            if node.name in active or node.name in passing:
                count = 1 if node.op_type == "Conv" else len(node.input)
                node.input[:count] = [f"{t}_dq" if t in rounded or t in pooled else t for t in node.input[:count]]
            if node.name in active:
                node.input[1] = self._weight(
                    layers[node.name], self.quantisers[self.placement.point_of[node.name].name]
                )
                self.nodes.append(node)
            elif self.half and node.name in layers:
                self._in_half(node)
            else:
                self.nodes.append(node)
            for tensor in node.output:
                if tensor in rounded:
                    self._round(tensor, rounded[tensor])
                elif tensor in pooled:
                    self._round(tensor, passing[node.name])
        graph = model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [weight for weight in (*graph.initializer, *self.initializers) if weight.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)

    def _trace_inputs(self, active: list[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Map the nodes that copy numbers to a quantised convolution, and the tensors to round, to their points."""
        passing: dict[str, str] = {}
        rounded: dict[str, str] = {}
        for name in active:
            waiting = [self.placement.convolutions[name].input[0]]
            while waiting:
                tensor = waiting.pop()
                node = self.placement.producers.get(tensor)
                if node is not None and node.op_type in PASS_THROUGH:
                    passing[node.name] = self.placement.point_of[name].name
                    waiting.extend(node.input)
                else:
                    rounded[tensor] = self.placement.point_of[name].name
        return passing, rounded

    def _round(self, tensor: str, point: str) -> None:
        quantiser = self.quantisers[point]
        scale, zero = f"{point}_scale", f"{point}_zero_point"
        if scale not in self.written:
            self.written.add(scale)
            self.initializers.append(numpy_helper.from_array(np.asarray(quantiser.scale, np.float32), scale))
            self.initializers.append(
                numpy_helper.from_array(np.asarray(quantiser.zero_point, ZERO[quantiser.numbers]), zero)
            )
        self.nodes += [
            helper.make_node("QuantizeLinear", [tensor, scale, zero], [f"{tensor}_q"], name=f"quantize_{tensor}"),
            helper.make_node(
                "DequantizeLinear", [f"{tensor}_q", scale, zero], [f"{tensor}_dq"], name=f"dequantize_{tensor}"
            ),
        ]

    def _weight(self, layer: Layer, quantiser: Quantiser) -> str:
        """Write a layer's weight once; return the name of the output of its DequantizeLinear."""
        name = layer.weight
        if name not in self.written:
            self.written.add(name)
            numbers: Numbers = "fp8" if quantiser.numbers == "fp8" else "int8"
            values = self.placement.weight(layer)
            scales = compute_weight_scales(values, numbers)
            parts = {
                f"{name}_q": quantise_weight(values, scales, numbers),
                f"{name}_scale": scales,
                f"{name}_zero_point": np.zeros(len(scales), ZERO[numbers]),
            }
            self.initializers += [numpy_helper.from_array(part, key) for key, part in parts.items()]
            self.nodes.append(
                helper.make_node("DequantizeLinear", list(parts), [f"{name}_dq"], name=f"dequantize_{name}", axis=0)
            )
        return f"{name}_dq"

    def _in_half(self, node: onnx.NodeProto) -> None:
        """Write a convolution in float16 between casts."""
        for name in node.input[1:]:
            if f"{name}_half" not in self.written:
                self.written.add(f"{name}_half")
                values = numpy_helper.to_array(self.placement.weights[name]).astype(np.float16)
                self.initializers.append(numpy_helper.from_array(values, f"{name}_half"))
        read, result = node.input[0], node.output[0]
        node.input[:] = [f"{node.name}_in", *(f"{name}_half" for name in node.input[1:])]
        node.output[0] = f"{node.name}_out"
        self.nodes += [
            helper.make_node("Cast", [read], [f"{node.name}_in"], name=f"cast_{node.name}_in", to=TensorProto.FLOAT16),
            node,
            helper.make_node("Cast", [f"{node.name}_out"], [result], name=f"cast_{node.name}", to=TensorProto.FLOAT),
        ]
