"""Reduce the error of quantisation after training, at no cost at run time.

- *Equalisation*: a channel of small numbers uses few of the 256 levels that its tensor shares. Behind a ReLU a channel
  may be multiplied by any positive factor if the next layers' weights are divided by it; the factors bring the
  channels' ranges near each other (Nagel et al., ICCV 2019, use weights alone; here activations are measured as in
  SmoothQuant, since weights have a scale per output channel).
- *Range search by output error*: of several ranges, take the one with the smallest output error of the layers that read
  the tensor.
- *Bias correction*: rounding shifts the mean of a layer's output; the shift is measured and subtracted from the bias.

Range search and bias correction measure each layer by itself, on the float network's numbers, so that one run through
the clips measures all layers at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from calibration.quantise.placement import Placement
from calibration.quantise.qdq import FP8_OPSET, ZERO, round_weight
from calibration.ranges.choose import Numbers, Quantiser, clip_ranges, make_quantiser
from calibration.ranges.collect import Inputs, TensorProbe
from calibration.ranges.table import RangeTable

SHARES = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
"""Shares of the full range that the search tries."""


@dataclass(frozen=True)
class LayerError:
    """Holds the error that rounding input and weight causes in the output of one Conv node."""

    shift: NDArray[np.float64]
    """Mean of (rounded − float) for each channel [out]."""
    relative: float
    """Mean square of (rounded − float), divided by the mean square of the float output."""


def measure_layer_errors(
    placement: Placement, quantisers: Mapping[str, Quantiser], clips: Iterable[Inputs], kept: Collection[str] = ()
) -> dict[str, LayerError]:
    """Measure the error of every quantised Conv node by name, each on the float network's numbers.

    Args:
        placement: placement of the float network.
        quantisers: quantiser of every point by name.
        clips: engine inputs.
        kept: names of layers to leave out.
    """
    nodes = [node for node in placement.point_of if placement.layer_of[node].name not in kept]
    probe = TensorProbe(
        _probe_graph(placement, quantisers, nodes), [f"{node}_{part}" for node in nodes for part in _PARTS]
    )
    shift: dict[str, NDArray[np.float64]] = dict.fromkeys(nodes, np.zeros(1))
    error, energy, done = dict.fromkeys(nodes, 0.0), dict.fromkeys(nodes, 0.0), 0
    for inputs in clips:
        values = probe(inputs)
        done += 1
        for node in nodes:
            shift[node] = shift[node] + np.float64(values[f"{node}_shift"]).ravel()
            error[node] += float(values[f"{node}_error"].sum())
            energy[node] += float(values[f"{node}_energy"].sum())
    return {node: LayerError(shift[node] / done, error[node] / max(energy[node], 1e-30)) for node in nodes}


def correct_biases(
    placement: Placement, quantisers: Mapping[str, Quantiser], clips: Iterable[Inputs], kept: Collection[str] = ()
) -> dict[str, NDArray[np.float32]]:
    """Return the biases by initializer with the measured shift subtracted; arguments as in `measure_layer_errors`.

    For a layer that is applied to several pyramid levels the shift is the mean over all positions of all levels.
    """
    errors = measure_layer_errors(placement, quantisers, clips, kept)
    biases = {}
    for layer in placement.layers:
        if layer.name in kept or not layer.bias:
            continue
        outputs = [placement.convolutions[node].output[0] for node in layer.nodes]
        positions = np.array([np.prod(placement.shapes[name][2:]) for name in outputs], np.float64)
        shifts = np.stack([errors[node].shift for node in layer.nodes])
        mean = (positions[:, None] * shifts).sum(axis=0) / positions.sum()
        biases[layer.bias] = np.asarray(numpy_helper.to_array(placement.weights[layer.bias]) - mean, np.float32)
    return biases


def search_ranges(
    placement: Placement, table: RangeTable, numbers: Numbers, clips: Collection[Inputs]
) -> dict[str, tuple[float, float]]:
    """Search for every point the range with the smallest output error of the layers that read it (method "output").

    Args:
        placement: placement of the network that was measured.
        table: table with the points' histograms.
        numbers: type that rounds.
        clips: engine inputs, which are run once for each of SHARES.
    """
    candidates = {name: clip_ranges(point.histogram, SHARES) for name, point in table.points.items()}
    costs: dict[str, list[float]] = {name: [] for name in candidates}
    for k in range(len(SHARES)):
        quantisers = {name: make_quantiser(*ranges[k], numbers) for name, ranges in candidates.items()}
        errors = measure_layer_errors(placement, quantisers, clips)
        for point in placement.points:
            costs[point.name].append(sum(errors[node].relative for node in point.nodes))
    return {name: candidates[name][int(np.argmin(costs[name]))] for name in candidates}


def equalise(placement: Placement, clips: Iterable[Inputs]) -> onnx.ModelProto:
    """Return an equivalent network whose channels have similar ranges, where only convolutions read them.

    Args:
        placement: placement of the float network.
        clips: engine inputs on which the channels' largest values are measured.
    """
    pairs = dict(_equalisable(placement))
    inside = TensorProbe(placement.graph, list(pairs))
    largest: dict[str, NDArray[np.float64]] = dict.fromkeys(pairs, np.zeros(1))
    for inputs in clips:
        for tensor, values in inside(inputs).items():
            axes = (0, *range(2, values.ndim))
            largest[tensor] = np.maximum(largest[tensor], np.float64(values.max(axis=axes)))
    weights: dict[str, NDArray[np.float32]] = {}

    def values_of(name: str) -> NDArray[np.float32]:
        return weights.get(name, np.asarray(numpy_helper.to_array(placement.weights[name])))

    for tensor, (producer, readers) in pairs.items():
        incoming = np.max([_input_channels(values_of(reader.input[1])) for reader in readers], axis=0)
        alive = (largest[tensor] > 0) & (incoming > 0)
        if not alive.any():
            continue
        factor = np.ones(len(alive))
        factor[alive] = np.sqrt(largest[tensor][alive] / incoming[alive])
        factor[alive] /= np.exp(np.log(factor[alive]).mean())
        for name in producer.input[1:]:
            old = values_of(name)
            weights[name] = np.asarray(old / factor.reshape(-1, *[1] * (old.ndim - 1)), np.float32)
        for reader in readers:
            old = values_of(reader.input[1])
            weights[reader.input[1]] = np.asarray(old * factor.reshape(1, -1, *[1] * (old.ndim - 2)), np.float32)
    model = onnx.ModelProto()
    model.CopyFrom(placement.graph)
    for weight in model.graph.initializer:
        if weight.name in weights:
            weight.CopyFrom(numpy_helper.from_array(weights[weight.name], weight.name))
    return model


_PARTS = ("shift", "error", "energy")
"""Suffixes of the outputs that the probe has for each Conv node."""


def _probe_graph(placement: Placement, quantisers: Mapping[str, Quantiser], nodes: Collection[str]) -> onnx.ModelProto:
    """Return the float network with a twin of each convolution that has rounded input and weight, and their errors.

    Rounding the input of a convolution is equivalent to rounding before the pools and concatenations in front of it.
    """
    model = onnx.ModelProto()
    model.CopyFrom(placement.graph)
    graph = model.graph
    added: set[str] = set()

    def constant(name: str, values: NDArray[np.generic]) -> str:
        if name not in added:
            added.add(name)
            graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    for name in nodes:
        node, point = placement.convolutions[name], placement.point_of[name]
        rounding = quantisers[point.name]
        scale = constant(f"{point.name}_scale", np.asarray(rounding.scale, np.float32))
        zero = constant(f"{point.name}_zero", np.asarray(rounding.zero_point, ZERO[rounding.numbers]))
        layer = placement.layer_of[name]
        weight = constant(
            f"{layer.weight}_rounded",
            round_weight(placement.weight(layer), "fp8" if rounding.numbers == "fp8" else "int8"),
        )
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name, twin.output[0] = f"{name}_twin", f"{name}_twin_out"
        twin.input[0], twin.input[1] = f"{name}_dq", weight
        axes = constant(f"axes_{len(placement.shapes[node.input[0]])}", _axes(placement.shapes[node.input[0]], keep=1))
        every = constant(f"every_{len(placement.shapes[node.input[0]])}", _axes(placement.shapes[node.input[0]]))
        graph.node.extend(
            [
                helper.make_node("QuantizeLinear", [node.input[0], scale, zero], [f"{name}_q"]),
                helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"]),
                twin,
                helper.make_node("Sub", [twin.output[0], node.output[0]], [f"{name}_difference"]),
                helper.make_node("ReduceMean", [f"{name}_difference", axes], [f"{name}_shift"], keepdims=0),
                helper.make_node("ReduceSumSquare", [f"{name}_difference", every], [f"{name}_error"], keepdims=0),
                helper.make_node("ReduceSumSquare", [node.output[0], every], [f"{name}_energy"], keepdims=0),
            ]
        )
    if any(quantisers[p].numbers == "fp8" for p in quantisers):
        for entry in (*model.opset_import, *(e for function in model.functions for e in function.opset_import)):
            entry.version = entry.version if entry.domain else max(entry.version, FP8_OPSET)
    return model


def _axes(shape: tuple[int, ...], keep: int | None = None) -> NDArray[np.int64]:
    return np.array([axis for axis in range(len(shape)) if axis != keep], np.int64)


def _equalisable(placement: Placement) -> Iterable[tuple[str, tuple[onnx.NodeProto, list[onnx.NodeProto]]]]:
    """Yield (tensor, (Conv, readers)) for each tensor behind Conv and ReLU that only convolutions read, directly or
    behind max-pools."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in placement.graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for relu in placement.graph.graph.node:
        producer = placement.producers.get(relu.input[0]) if relu.op_type == "Relu" else None
        if producer is None or producer.op_type != "Conv" or len(readers[relu.input[0]]) > 1:
            continue
        found, waiting = [], [relu.output[0]]
        while waiting:
            for node in readers.get(waiting.pop(), []):
                found.append(node)
                waiting.extend(node.output if node.op_type == "MaxPool" else ())
        convolutions = [node for node in found if node.op_type != "MaxPool"]
        if convolutions and all(_used_once(placement, node) for node in (producer, *convolutions)):
            yield relu.output[0], (producer, convolutions)


def _used_once(placement: Placement, node: onnx.NodeProto) -> bool:
    """Return whether a node is a quantised convolution with one group whose weight no other node reads."""
    layer = placement.layer_of.get(node.name)
    grouped = any(a.name == "group" and a.i > 1 for a in node.attribute)
    return layer is not None and len(layer.nodes) == 1 and not grouped


def _input_channels(weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the largest magnitude in each input channel [in] of a weight [out,in,…]."""
    return np.asarray(np.abs(weight).max(axis=(0, *range(2, weight.ndim))), np.float64)
