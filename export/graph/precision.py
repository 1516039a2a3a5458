"""Write half precision into a graph: convolutions, pooling and what lies between them in float16 or bfloat16.

Everything that computes positions in time stays float32, since at 256 frames two neighbouring float16 numbers are a
quarter apart and two bfloat16 numbers are two apart: GroupNorm's statistics, exp, distances, region arithmetic, the
convolutions that give the network's outputs, and the outputs themselves. They are the *float32 islands*; all other
convolutions, where practically all the work is, are in half precision.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graph.carried_spec import read_carried_spec, write_carried_spec
from runtime.errors import ExportError

Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8", "fp8")

QUANTISED = ("int8", "fp8")
"""Precisions that Q/DQ nodes give, whose ranges are measured by the package `calibration`."""

HALF: dict[Precision, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
"""Half precision → its ONNX type."""

BFLOAT16_OPSET = 22
"""First opset whose Conv and MaxPool take bfloat16."""

LARGEST = {"fp16": 65504.0, "bf16": 3.38e38}
"""Half precision → its largest finite number."""

COMPUTED_HALF = ("Conv", "Relu", "MaxPool", "boundary_max_pooling")
"""Operators that compute in half precision; of boundary pooling's inputs only the features do, never the regions."""

CARRIED = ("Concat", "Flatten", "Identity", "Pad", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")  # fmt: skip  # noqa: E501
"""Operators that copy numbers unchanged; they run in half precision if all their inputs are in half precision."""


def to_half(graph: onnx.ModelProto, precision: Literal["fp16", "bf16"]) -> onnx.ModelProto:
    """Return a copy of a graph in half precision with float32 islands; inputs and outputs keep their types.

    Args:
        graph: float32 model written by `export.graph.trace.to_graph`; it is not changed.
        precision: precision of the heavy layers, also written into the ModelSpec of the copy.

    Raises:
        ExportError: the graph is quantised or in half precision already, or a weight exceeds the type's range.
    """
    if precision_of(graph) != "fp32":
        raise ExportError(f"the graph is {precision_of(graph)} already; give a float32 model")
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    _Typing(model, precision).run()
    if precision == "bf16":
        for entry in (*model.opset_import, *(e for function in model.functions for e in function.opset_import)):
            entry.version = entry.version if entry.domain else max(entry.version, BFLOAT16_OPSET)
    _set_spec_precision(model, precision)
    onnx.checker.check_model(model)
    return model


def precision_of(graph: onnx.ModelProto) -> Precision:
    """Return the precision of a graph's heavy layers, read from its convolutions and QuantizeLinear nodes."""
    nodes = graph.graph.node
    weights = {w.name: w.data_type for w in graph.graph.initializer}
    for node in nodes:
        if node.op_type == "QuantizeLinear":
            zero = weights.get(node.input[2]) if len(node.input) > 2 else None
            return "fp8" if zero == TensorProto.FLOAT8E4M3FN else "int8"
    types = {weights.get(node.input[1]) for node in nodes if node.op_type == "Conv"}
    return next((name for name, kind in HALF.items() if kind in types), "fp32")


def output_convolutions(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the output heads: convolutions with no other convolution between them and a graph output."""
    producers = {name: node for node in graph.graph.node for name in node.output}
    heads: set[str] = set()
    waiting, seen = [value.name for value in graph.graph.output], set[str]()
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type == "Conv":
            heads.add(node.name)
        else:
            waiting.extend(node.input)
    return heads


def emulate_half_on_cpu(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a half-precision graph in float32 arithmetic with every half-precision result rounded, for CPU engines.

    A GPU's matrix units do the same: products of half-precision numbers are summed in float32 and rounded once.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    half = HALF[precision_of(graph)]
    for index, weight in enumerate(model.graph.initializer):
        if weight.data_type == half:
            wide = numpy_helper.to_array(weight).astype(np.float32)
            model.graph.initializer[index].CopyFrom(numpy_helper.from_array(wide, weight.name))
    for value in (*model.graph.value_info, *model.graph.output):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes = [piece for node in model.graph.node for piece in _round_result(node, half)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def require_symmetric(graph: onnx.ModelProto, origin: str) -> None:
    """Check that TensorRT takes a quantised graph: zero points of 0 only, biases in floating point.

    Raises:
        ExportError: the graph has other zero points, or dequantises a bias; `origin` names the graph.
    """
    advice = "calibrate for TensorRT (symmetric, no quantised bias)"
    constants = {weight.name: weight for weight in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        stored = constants.get(node.input[0])
        if stored is not None and stored.data_type == TensorProto.INT32:
            raise ExportError(f"{origin}: {node.name} dequantises an INT32 bias, which TensorRT refuses; {advice}")
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is not None and numpy_helper.to_array(zero).astype(np.int64).any():
            raise ExportError(f"{origin}: {node.name} has a zero point other than 0, which TensorRT refuses; {advice}")


def _round_result(node: onnx.NodeProto, half: int) -> list[onnx.NodeProto]:
    """Return a node, followed by two casts that round its result if that is newly computed in half precision."""
    to = next((a.i for a in node.attribute if a.name == "to"), None) if node.op_type == "Cast" else None
    if to == half:
        return _round_trip(node.input[0], node.output[0], half)
    if node.op_type != "Conv" or not node.input[1].endswith(_suffix(half)):
        return [node]
    exact = f"{node.output[0]}_exact"
    result = node.output[0]
    node.output[0] = exact
    return [node, *_round_trip(exact, result, half)]


def _round_trip(tensor: str, result: str, half: int) -> list[onnx.NodeProto]:
    narrow = f"{result}_rounded"
    return [
        helper.make_node("Cast", [tensor], [narrow], name=f"{result}_round", to=half),
        helper.make_node("Cast", [narrow], [result], name=f"{result}_widen", to=TensorProto.FLOAT),
    ]


def _suffix(half: int) -> str:
    return next(f"_{name}" for name, kind in HALF.items() if kind == half)


def _set_spec_precision(model: onnx.ModelProto, precision: Precision) -> None:
    write_carried_spec(model, replace(read_carried_spec(model, "the graph"), precision=precision))


@dataclass
class _Typing:
    """Gives every float tensor its type in one pass over the nodes in order, and adds casts where types meet."""

    model: onnx.ModelProto
    precision: Literal["fp16", "bf16"]
    types: dict[str, int] = field(default_factory=dict)
    """Floating-point tensor met so far → its ONNX type."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    casts: dict[tuple[str, int], str] = field(default_factory=dict)
    """(tensor, type) → name of the tensor in that type."""

    def run(self) -> None:
        graph = self.model.graph
        self.half = HALF[self.precision]
        self.weights = {w.name: w for w in graph.initializer if w.data_type == TensorProto.FLOAT}
        self.known = {
            v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)
        }  # fmt: skip
        islands = output_convolutions(self.model)
        for node in graph.node:
            self._type(node, wide=node.name in islands)
        self._outputs_in_float32()
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [w for w in graph.initializer if w.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        for value in graph.value_info:
            value.type.tensor_type.elem_type = self.types.get(value.name, value.type.tensor_type.elem_type)

    def _type(self, node: onnx.NodeProto, *, wide: bool) -> None:
        floats = [k for k, name in enumerate(node.input) if self._is_float(name)]
        if node.op_type == "boundary_max_pooling":
            floats = floats[:1]
        if node.op_type == "Cast":  # a Cast takes any type
            floats = []
        carried = node.op_type in CARRIED and floats and all(self.types.get(node.input[k]) == self.half for k in floats)
        kind = self.half if (node.op_type in COMPUTED_HALF and not wide) or carried else TensorProto.FLOAT
        for k in floats:
            node.input[k] = self._as(node.input[k], kind)
        self.nodes.append(node)
        for name in node.output:
            if self.known.get(name, TensorProto.FLOAT) == TensorProto.FLOAT and floats:
                self.types[name] = kind

    def _is_float(self, name: str) -> bool:
        return name in self.types or name in self.weights or self.known.get(name) == TensorProto.FLOAT

    def _as(self, name: str, kind: int) -> str:
        """Return the name of a tensor in a type, after adding a Cast, or a second copy of a weight."""
        if self.types.get(name, TensorProto.FLOAT) == kind:
            return name
        if (name, kind) not in self.casts:
            self.casts[name, kind] = result = f"{name}{_suffix(self.half) if kind == self.half else '_fp32'}"
            if name in self.weights:
                self.model.graph.initializer.append(self._half_weight(self.weights[name], result))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [result], name=f"cast_{result}", to=kind))
        return self.casts[name, kind]

    def _half_weight(self, weight: onnx.TensorProto, name: str) -> onnx.TensorProto:
        values = numpy_helper.to_array(weight)
        largest = float(np.abs(values).max(initial=0))
        if not largest <= LARGEST[self.precision]:
            raise ExportError(
                f"weight {weight.name} reaches {largest:.3g}, {self.precision} holds {LARGEST[self.precision]:g}; "
                "use bf16 or fp32"
            )
        return numpy_helper.from_array(_narrow(values, self.precision), name)

    def _outputs_in_float32(self) -> None:
        """Make every graph output float32 under its own name, with a Cast behind one in half precision."""
        for output in self.model.graph.output:
            if self.types.get(output.name) != self.half:
                continue
            inner = f"{output.name}{_suffix(self.half)}"
            for node in self.nodes:
                node.output[:] = [inner if name == output.name else name for name in node.output]
                node.input[:] = [inner if name == output.name else name for name in node.input]
            self.nodes.append(
                helper.make_node("Cast", [inner], [output.name], name=f"cast_{output.name}", to=TensorProto.FLOAT)
            )


def _narrow(values: NDArray[np.float32], precision: str) -> NDArray[np.generic]:
    return values.astype(np.float16 if precision == "fp16" else ml_dtypes.bfloat16)
