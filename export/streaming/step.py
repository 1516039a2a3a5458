"""Rewrite the backbone of a clip network as a step: the next chunk of frames and the states in, features out.

Every convolution and max-pool that extends over time keeps the last positions of its input as a *state*, in place of
the zeros that a clip is padded with. Its output comes later by a *delay*. What the steps give is therefore the backbone
run over the whole video at once, each frame once. Before the first and after the last frame the network sees zeros at
the input of every such layer; a step that touches an end of the video sets them there by *masks*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.streaming.clip_graph import TIME, ClipGraph, TemporalWindow, attribute
from runtime.errors import ExportError
from runtime.spec.streaming import EDGES, StreamFeature, StreamState

POINTWISE = ("Add", "Cast", "DequantizeLinear", "Div", "Identity", "Mul", "QuantizeLinear", "Relu", "Sub", "Transpose")
"""Operators that compute each position in time from the same position."""

STATE_TYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
}  # fmt: skip
"""ONNX type → type of a `StreamState`. Numbers of other types, which NumPy has not, are kept as float32, which holds
them exactly."""


@dataclass(frozen=True)
class Clock:
    """Places the positions of a tensor in time."""

    rate: int
    """Frames per position."""
    delay: int
    """Number of positions by which the tensor is late: in a chunk that begins at frame f, its position p is position
    f / rate − delay + p of the video."""


@dataclass
class Step:
    """Holds the parts of the graph of a step, and what `runtime.spec.streaming` says of it."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    overlap: int = 0
    states: list[StreamState] = field(default_factory=list)
    features: list[StreamFeature] = field(default_factory=list)


def write_step(graph: ClipGraph, features: Sequence[str], part: str, *, masked: bool) -> Step:
    """Write the step that computes some tensors of a clip network.

    Args:
        graph: graph of the clip network.
        features: names of the tensors; a step gives them as `level_0`, `level_1`, …
        part: name of the part, put before all names but those of weights.
        masked: whether the step takes `EDGES`.

    Raises:
        ExportError: the network has an operator whose place in time is not known.
    """
    return _Writer(graph, features, f"{part}/", masked).write()


class _Writer:
    """Writes one step in one pass over the nodes in order."""

    def __init__(self, graph: ClipGraph, features: Sequence[str], prefix: str, masked: bool) -> None:
        self._graph, self._features, self._prefix, self._masked = graph, features, prefix, masked
        self._order = graph.ancestors(features)
        self._inputs = [name for name in graph.inputs if not graph.is_mask(name)]
        self._clocks = dict.fromkeys(self._inputs, Clock(1, 0))
        self._kept: dict[str, int] = {}
        """Tensor → number of its positions that are kept."""
        self._pixels = set(self._inputs)
        """Tensors computed pointwise from frames: in place of a state, chunks of frames overlap."""
        self._place()
        self._zeroed = {source for tensor in self._kept for source in self._sources(tensor)} if masked else set()
        self._masks: dict[tuple[Clock, int], str] = {}
        self._written: set[str] = set()
        self._step = Step(overlap=max((self._kept[t] for t in self._kept if t in self._pixels), default=0))

    def write(self) -> Step:
        step = self._step
        for name in self._inputs:
            sizes = [1, f"{step.overlap} + chunk", *self._graph.shapes[name][2:]]
            step.inputs.append(helper.make_tensor_value_info(self._named(name), TensorProto.UINT8, sizes))
        for name in EDGES if self._masked else ():
            step.inputs.append(helper.make_tensor_value_info(self._named(name), TensorProto.INT64, [1]))
        for node in self._order:
            self._write(node)
        for number, tensor in enumerate(self._features):
            self._give(tensor, f"level_{number}")
        return step

    def _place(self) -> None:
        """Find the clock of every tensor, and how many positions of it must be kept."""
        for node in self._order:
            read = [tensor for tensor in node.input if tensor in self._clocks]
            if not read:  # of weights alone
                continue
            window, clocks = self._graph.window(node), [self._clocks[tensor] for tensor in read]
            if not window.pointwise:
                delay = -(-(clocks[0].delay + window.after) // window.stride)
                clock = Clock(clocks[0].rate * window.stride, delay)
            elif node.op_type in (*POINTWISE, "Concat", "Conv", "MaxPool") and len({c.rate for c in clocks}) == 1:
                clock = Clock(clocks[0].rate, max(own.delay for own in clocks))
            else:
                raise ExportError(f"{node.name}: a {node.op_type} whose place in time is not known; it cannot stream")
            for tensor in read:
                if past := self._past(self._clocks[tensor], clock, window):
                    self._kept[tensor] = max(past, self._kept.get(tensor, 0))
            for tensor in node.output:
                self._clocks[tensor] = clock
                if node.op_type in POINTWISE and self._pixels.issuperset(read):
                    self._pixels.add(tensor)

    def _past(self, own: Clock, result: Clock, window: TemporalWindow) -> int:
        """Return the number of positions before the chunk that a node needs of an input."""
        return window.stride * result.delay + window.before - own.delay

    def _sources(self, tensor: str) -> Iterable[str]:
        """Yield the tensors that must be zeroed, before rounding, so that `tensor` is."""
        node = self._graph.producers.get(tensor)
        copied = node is not None and (
            node.op_type in ("Concat", "QuantizeLinear", "DequantizeLinear")
            or (node.op_type == "MaxPool" and self._graph.window(node).pointwise)
        )
        if node is None or not copied:
            yield tensor
            return
        for name in node.input if node.op_type == "Concat" else node.input[:1]:
            yield from self._sources(name)

    def _write(self, node: onnx.NodeProto) -> None:
        """Write one node of the clip network, reading what was kept of its inputs."""
        new = onnx.NodeProto()
        new.CopyFrom(node)
        if any(self._graph.is_mask(tensor) for tensor in node.input):  # the padding of a window: `valid` replaces it
            (pixels,) = (tensor for tensor in node.input if not self._graph.is_mask(tensor))
            new = helper.make_node("Identity", [pixels], node.output)
        window = self._graph.window(new)
        new.name = f"{self._prefix}{node.name}"
        new.input[:] = [self._read(tensor, node.output[0], window) for tensor in new.input]
        if not window.pointwise:
            pads = attribute(new, "pads") or [0] * 6
            pads[0] = pads[len(pads) // 2] = 0
            others = [a for a in new.attribute if a.name not in ("pads", "auto_pad")]
            del new.attribute[:]
            new.attribute.extend([*others, helper.make_attribute("pads", pads)])
        new.output[:] = [self._named(t) + ("_unmasked" if t in self._zeroed else "") for t in node.output]
        self._step.nodes.append(new)
        for tensor in node.output:
            if tensor in self._zeroed:
                self._zero(tensor)
            if tensor in self._kept and tensor not in self._pixels:
                self._keep(tensor)

    def _read(self, tensor: str, result: str, window: TemporalWindow) -> str:
        """Return the name under which a node reads a tensor: with as much of its past as the node needs."""
        if tensor not in self._clocks:
            return self._named(tensor)
        own, out = self._clocks[tensor], self._clocks[result]
        past = self._past(own, out, window)
        if not past:
            return self._named(tensor)
        whole, kept = (
            (self._named(tensor), self._step.overlap)
            if tensor in self._pixels
            else (f"{self._named(tensor)}_kept", self._kept[tensor])
        )
        dropped = out.delay - own.delay if window.pointwise else 0
        if kept == past and not dropped:
            return whole
        name = f"{whole}_{kept - past}_{dropped}"
        return name if name in self._written else self._slice(whole, name, kept - past, -dropped if dropped else None)

    def _keep(self, tensor: str) -> None:
        """Put the kept positions of a tensor before those of the chunk, and give the last ones out for the next.

        A state has the type of the numbers, 8-bit ones as they are stored, where `STATE_TYPES` has it.
        """
        quantiser, length, shape = self._graph.quantiser(tensor), self._kept[tensor], list(self._graph.shapes[tensor])
        kind = self._graph.types[tensor] if quantiser is None else self._graph.weights[quantiser[1]].data_type
        zero = 0
        if kind in STATE_TYPES and quantiser is not None:
            zero = int(numpy_helper.to_array(self._graph.weights[quantiser[1]]).item())
        stored = kind if kind in STATE_TYPES else TensorProto.FLOAT
        shape[0], shape[TIME] = 1, length
        name = f"state_{len(self._step.states)}"
        self._step.states.append(StreamState(tuple(shape), STATE_TYPES[stored], zero))  # type: ignore[arg-type]
        self._step.inputs.append(helper.make_tensor_value_info(self._prefix + name, stored, shape))
        self._step.outputs.append(helper.make_tensor_value_info(f"{self._prefix}next_{name}", stored, shape))
        past, whole, last = self._prefix + name, f"{self._named(tensor)}_kept", f"{self._prefix}next_{name}"
        if quantiser is None:
            if stored != kind:
                past = self._node("Cast", [past], f"{past}_cast", to=kind)
        else:
            if stored != kind:
                past = self._node("QuantizeLinear", [past, *quantiser], f"{past}_q")
            past = self._node("DequantizeLinear", [past, *quantiser], f"{past}_dq")
        self._node("Concat", [past, self._named(tensor)], whole, axis=TIME)
        if quantiser is not None and stored == kind:
            self._node("QuantizeLinear", [self._slice(whole, f"{last}_dq", -length, None), *quantiser], last)
        elif quantiser is None and stored != kind:
            self._node("Cast", [self._slice(whole, f"{last}_cast", -length, None)], last, to=TensorProto.FLOAT)
        else:
            self._slice(whole, last, -length, None)

    def _zero(self, tensor: str) -> None:
        """Set the positions of a tensor outside the video to zero."""
        name, kind = self._named(tensor), self._graph.types[tensor]
        clock = Clock(1, self._step.overlap) if tensor in self._pixels else self._clocks[tensor]
        if (clock, kind) not in self._masks:
            self._masks[clock, kind] = self._mask(f"{name}_unmasked", clock, kind)
        self._node("Mul", [f"{name}_unmasked", self._masks[clock, kind]], name)

    def _mask(self, tensor: str, clock: Clock, kind: int) -> str:
        """Write a mask [1,1,t,1,1], 1 within the video, for a tensor [1,C,t,H,W]; return its name."""
        stem = f"{self._prefix}mask_{clock.rate}_{clock.delay}_{kind}"

        def node(operator: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
            return self._node(operator, inputs, f"{stem}_{name}", **attributes)

        start, valid, end = (f"{self._prefix}{name}" for name in EDGES)
        rate, scalar = self._constant(clock.rate), self._constant(np.zeros(0, np.int64))
        length = node("Shape", [tensor], "length", start=TIME, end=TIME + 1)
        bounds = [node("Reshape", [bound, scalar], f"bound_{k}") for k, bound in enumerate((self._constant(0), length))]
        step = node("Reshape", [self._constant(1), scalar], "step")
        first = node("Sub", [node("Div", [start, rate], "begin"), self._constant(clock.delay)], "first")
        position = node("Add", [node("Range", [*bounds, step], "range"), first], "position")
        last = valid if clock.rate == 1 else node("Div", [end, rate], "last")
        after = node("GreaterOrEqual", [position, self._constant(0)], "after")
        inside = node("And", [after, node("Less", [position, last], "before")], "inside")
        number = node("Cast", [inside], "number", to=kind)
        return node("Reshape", [number, self._constant(np.array([1, 1, -1, 1, 1]))], "shaped")

    def _give(self, tensor: str, name: str) -> None:
        """Give a tensor out as float32, one without extent in space as [1,C,t]."""
        clock, shape, read = self._clocks[tensor], self._graph.shapes[tensor], self._named(tensor)
        out = f"{self._prefix}{name}"
        flat = all(size == 1 for size in shape[TIME + 1 :])
        if self._graph.types[tensor] != TensorProto.FLOAT:
            read = self._node("Cast", [read], f"{out}_float", to=TensorProto.FLOAT)
        if flat:
            self._node("Squeeze", [read, self._constant(np.array([3, 4]))], out)
        else:
            self._node("Identity", [read], out)
        sizes = [1, shape[1], f"chunk / {clock.rate}", *(() if flat else shape[TIME + 1 :])]
        self._step.outputs.append(helper.make_tensor_value_info(out, TensorProto.FLOAT, sizes))
        self._step.features.append(StreamFeature(name, shape[1], clock.rate, clock.delay))

    def _slice(self, tensor: str, out: str, begin: int, end: int | None) -> str:
        last = np.iinfo(np.int64).max if end is None else end
        return self._node("Slice", [tensor, *map(self._constant, (begin, last, TIME))], out)

    def _node(self, operator: str, inputs: Sequence[str], out: str, **attributes: object) -> str:
        self._step.nodes.append(helper.make_node(operator, inputs, [out], name=out, **attributes))
        self._written.add(out)
        return out

    def _constant(self, value: object) -> str:
        values = np.atleast_1d(np.asarray(value, np.int64))
        name = f"{self._prefix}int64_{'_'.join(map(str, values.tolist())) or 'none'}"
        self._step.constants[name] = numpy_helper.from_array(values, name)
        return name

    def _named(self, tensor: str) -> str:
        return tensor if tensor in self._graph.weights or not tensor else f"{self._prefix}{tensor}"
