"""Assemble a streaming network from a clip network: two steps of the backbone and the head, parts of one graph.

The parts share the weights and have no edges between them; the names of a part's tensors begin with its own name. The
backbone ends with the convolutions that reduce its endpoints over space (AFSD's first pyramid levels): they see one
position in time, so they too run once per frame, and windows of features are small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import onnx
from onnx import TensorProto, helper

from export.graph.carried_spec import read_carried_spec, write_carried_spec
from export.streaming.clip_graph import TIME, ClipGraph
from export.streaming.step import Step, write_step
from runtime.errors import ExportError
from runtime.spec.streaming import EDGE, HEAD, STEADY, Streaming


def to_streaming(model: onnx.ModelProto, origin: str) -> onnx.ModelProto:
    """Return the streaming network of a clip network.

    Args:
        model: clip network of AFSD on frames, of any precision, written by this project; it is not changed.
        origin: name of the network in errors.

    Raises:
        ExportError: the network does not run on windows of frames, or has a layer that cannot stream.
    """
    spec = read_carried_spec(model, origin)
    if spec.streaming is not None:
        raise ExportError(f"{origin}: a streaming network already; give the checkpoint or the clip network's ONNX file")
    if spec.family != "afsd" or spec.stream == "features" or spec.sampling != "fixed":
        raise ExportError(
            f"{origin}: a network of {spec.family} on {spec.stream}, sampling {spec.sampling}; only AFSD on windows of "
            "frames can stream"
        )
    graph = ClipGraph(model)
    features = find_features(graph)
    steps = [write_step(graph, features, part, masked=part == EDGE) for part in (STEADY, EDGE)]
    nodes, inputs, outputs, constants = _head(graph, features, steps[0])
    for step in reversed(steps):
        nodes, inputs, outputs = step.nodes + nodes, step.inputs + inputs, step.outputs + outputs
        constants = [*step.constants.values(), *constants]
    used = {name for node in nodes for name in node.input}
    weights = [weight for weight in model.graph.initializer if weight.name in used]
    made = helper.make_model(
        helper.make_graph(nodes, "streaming", inputs, outputs, [*weights, *constants]),
        opset_imports=model.opset_import,
        functions=model.functions,
        ir_version=model.ir_version,
    )
    step, work = steps[0], count_multiply_adds(graph, features)
    streaming = Streaming(step.overlap, tuple(step.states), tuple(step.features), work // spec.window_length)
    write_carried_spec(made, replace(spec, streaming=streaming, multiply_adds=max(spec.multiply_adds - work, 0)))
    onnx.checker.check_model(made, full_check=True)
    return made


PYRAMID = "coarse_pyramid_detection.pyramids."
"""Part of the names of the weights of pyramid levels, as in published checkpoints."""


def find_features(graph: ClipGraph) -> list[str]:
    """Return the tensors at which the backbone ends: the pyramid's convolutions of its endpoints [B,C,T,H,W]."""
    found = [
        node.output[0]
        for node in graph.nodes
        if node.op_type == "Conv" and PYRAMID in node.input[1] and len(graph.shapes[node.output[0]]) == TIME + 3
    ]
    if not found:
        raise ExportError("the network has no pyramid level on an endpoint of its backbone, so nothing to stream")
    return found


def count_multiply_adds(graph: ClipGraph, features: Sequence[str]) -> int:
    """Count the multiply-adds of the backbone's convolutions for one window."""
    total = 0
    for node in graph.ancestors(features):
        if node.op_type == "Conv":
            dequantised = graph.producers.get(node.input[1])
            weight = graph.weights[node.input[1] if dequantised is None else dequantised.input[0]]
            total += math.prod(weight.dims) * math.prod(graph.shapes[node.output[0]][TIME:])
    return total


def _head(
    graph: ClipGraph, features: Sequence[str], step: Step
) -> tuple[list[onnx.NodeProto], list[onnx.ValueInfoProto], list[onnx.ValueInfoProto], list[onnx.TensorProto]]:
    """Return nodes, inputs, outputs and constants of the head, which starts from windows of features [B,C,t]."""
    behind = {name for node in graph.ancestors(features) for name in node.output}
    below = graph.ancestors(graph.outputs)
    own = [node for node in below if not behind.intersection(node.output) or graph.is_weight(node.output[0])]
    nodes: list[onnx.NodeProto] = []
    inputs: list[onnx.ValueInfoProto] = []
    axes = helper.make_tensor(f"{HEAD}/space", TensorProto.INT64, [2], [3, 4])
    for feature, tensor in zip(step.features, features, strict=True):
        name, kind = f"{HEAD}/{feature.name}", graph.types[tensor]
        sizes = ["batch", feature.channels, graph.shapes[tensor][TIME]]
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))
        wide = f"{HEAD}/{tensor}" if kind == TensorProto.FLOAT else f"{name}_wide"
        nodes.append(helper.make_node("Unsqueeze", [name, axes.name], [wide], name=f"{name}_unsqueezed"))
        if kind != TensorProto.FLOAT:
            nodes.append(helper.make_node("Cast", [wide], [f"{HEAD}/{tensor}"], name=f"{name}_cast", to=kind))
    known = {*features}
    for node in own:
        new = onnx.NodeProto()
        new.CopyFrom(node)
        new.name = f"{HEAD}/{node.name}"
        new.input[:] = [t if t in graph.weights or not t else f"{HEAD}/{t}" for t in node.input]
        new.output[:] = [f"{HEAD}/{t}" for t in node.output]
        missing = [t for t in node.input if t and t not in graph.weights and t not in known]
        if missing:
            raise ExportError(f"{node.name}: reads {missing[0]} of the backbone beside its features; it cannot stream")
        known.update(node.output)
        nodes.append(new)
    outputs = [
        helper.make_tensor_value_info(f"{HEAD}/{name}", TensorProto.FLOAT, ["batch", *graph.shapes[name][1:]])
        for name in graph.outputs
    ]
    return nodes, inputs, outputs, [axes]
