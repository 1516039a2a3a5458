"""Run clips through a float network and look at the numbers inside: histograms, one clip in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from calibration.quantise.placement import Layout
from calibration.ranges.histogram import Histogram
from runtime.errors import InputError

Inputs = Mapping[str, NDArray[Any]]
"""Engine inputs by name, a batch of one."""


class Inside:
    """A float network whose inner tensors can be read, in ONNX Runtime on the CPU."""

    def __init__(self, graph: onnx.ModelProto, tensors: Sequence[str]) -> None:
        """Load what the tensors need.

        Args:
            graph: network; it is not changed.
            tensors: to be read.
        """
        import onnxruntime

        model = onnx.ModelProto()
        model.CopyFrom(graph)
        known = {value.name: value for value in (*model.graph.output, *model.graph.input)}
        outputs = [known.get(t, helper.make_tensor_value_info(t, TensorProto.FLOAT, None)) for t in tensors]
        nodes = _needed(model.graph, tensors)
        del model.graph.output[:], model.graph.node[:]
        model.graph.output.extend(outputs)
        model.graph.node.extend(nodes)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # it would hold the room of the largest clip for good
        if any(node.op_type == "QuantizeLinear" for node in nodes):  # round in float, where the nodes say, nowhere else
            options.add_session_config_entry("session.disable_quant_qdq", "1")
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self.tensors = tuple(tensors)
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, inputs: Inputs) -> dict[str, NDArray[np.float32]]:
        """Values of the tensors."""
        return dict(zip(self.tensors, self._session.run(list(self.tensors), dict(inputs)), strict=True))


def _needed(graph: onnx.GraphProto, tensors: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes without which the tensors cannot be had, in their order."""
    wanted, nodes = set(tensors), []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def collect_histograms(
    layout: Layout, clips: Iterable[Inputs], say: Callable[[int], None] = lambda _: None
) -> dict[str, Histogram]:
    """Count the values of every point on every clip.

    Args:
        layout: of the float network.
        clips: engine inputs, one at a time.
        say: called with the number of clips that are done.

    Raises:
        InputError: no clip, or a tensor with NaN or infinity.
    """
    inside = Inside(layout.graph, [tensor for point in layout.points for tensor in point.tensors])
    histograms = {point.name: Histogram() for point in layout.points}
    done = 0
    for inputs in clips:
        try:
            values = inside(inputs)
        except Exception as error:  # ONNX Runtime's own; a NaN that becomes an index ends the run
            raise _broken(layout, inputs, done, " ".join(str(error).split())) from None
        for point in layout.points:
            if not all(histograms[point.name].add(values.pop(tensor)) for tensor in point.tensors):
                raise _broken(layout, inputs, done, "")
        done += 1
        say(done)
    if not done:
        raise InputError("calibration: got no clips, expected at least one")
    return histograms


def _broken(layout: Layout, inputs: Inputs, done: int, reason: str) -> InputError:
    """Names the first layer that meets a number which is none."""
    for point in layout.points:
        try:
            finite = all(np.isfinite(values).all() for values in Inside(layout.graph, point.tensors)(inputs).values())
        except Exception:  # the same failure; a point before it tells
            continue
        if not finite:
            return InputError(
                f"calibration: clip {done + 1} gives NaN or infinite numbers in front of "
                f"{layout.layer_of[point.nodes[0]].name}; the network is broken (check the checkpoint), or the clip is "
                "not what it was trained on"
            )
    return InputError(f"calibration: the network fails on clip {done + 1}: {reason}; export it again")
