"""Run clips through a float network and collect histograms of inner tensors, with one clip in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from calibration.quantise.placement import Placement
from calibration.ranges.histogram import Histogram
from runtime.errors import InputError

Inputs = Mapping[str, NDArray[Any]]
"""Engine inputs by name, a batch of one."""


class TensorProbe:
    """Reads inner tensors of a float network, in ONNX Runtime on the CPU."""

    def __init__(self, graph: onnx.ModelProto, tensors: Sequence[str]) -> None:
        """Load the part of a network that the tensors depend on.

        Args:
            graph: network; it is not changed.
            tensors: names of the tensors to read.
        """
        import onnxruntime

        model = onnx.ModelProto()
        model.CopyFrom(graph)
        known = {value.name: value for value in (*model.graph.output, *model.graph.input)}
        outputs = [known.get(t, helper.make_tensor_value_info(t, TensorProto.FLOAT, None)) for t in tensors]
        nodes = _find_needed(model.graph, tensors)
        del model.graph.output[:], model.graph.node[:]
        model.graph.output.extend(outputs)
        model.graph.node.extend(nodes)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # it would keep memory for the largest clip
        if any(node.op_type == "QuantizeLinear" for node in nodes):  # round in float32, only at these nodes
            options.add_session_config_entry("session.disable_quant_qdq", "1")
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self.tensors = tuple(tensors)
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, inputs: Inputs) -> dict[str, NDArray[np.float32]]:
        """Return the values of the tensors by name."""
        return dict(zip(self.tensors, self._session.run(list(self.tensors), dict(inputs)), strict=True))


def _find_needed(graph: onnx.GraphProto, tensors: Sequence[str]) -> list[onnx.NodeProto]:
    """Return the nodes that the tensors depend on, in the graph's order."""
    wanted, nodes = set(tensors), []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def collect_histograms(
    placement: Placement, clips: Iterable[Inputs], say: Callable[[int], None] = lambda _: None
) -> dict[str, Histogram]:
    """Count the values of every point on every clip.

    Args:
        placement: placement of the float network.
        clips: engine inputs, one clip at a time.
        say: called with the number of clips that are done.

    Raises:
        InputError: no clip, or a tensor with NaN or infinite values.
    """
    inside = TensorProbe(placement.graph, [tensor for point in placement.points for tensor in point.tensors])
    histograms = {point.name: Histogram() for point in placement.points}
    done = 0
    for inputs in clips:
        try:
            values = inside(inputs)
        except Exception as error:  # ONNX Runtime's own type; it fails when a NaN becomes an index
            raise _explain_failure(placement, inputs, done, " ".join(str(error).split())) from None
        for point in placement.points:
            if not all(histograms[point.name].add(values.pop(tensor)) for tensor in point.tensors):
                raise _explain_failure(placement, inputs, done, "")
        done += 1
        say(done)
    if not done:
        raise InputError("calibration: got no clips, expected at least one")
    return histograms


def _explain_failure(placement: Placement, inputs: Inputs, done: int, reason: str) -> InputError:
    """Make the error that names the first layer whose input holds NaN or infinite numbers."""
    for point in placement.points:
        try:
            found = TensorProbe(placement.graph, point.tensors)(inputs).values()
        except Exception:  # this point lies behind the failure
            continue
        if not all(np.isfinite(values).all() for values in found):
            layer = placement.layer_of[point.nodes[0]].name
            return InputError(
                f"calibration: clip {done + 1} gives NaN or infinite numbers in front of {layer}; the network is "
                "broken (check the checkpoint), or the clip is not what it was trained on"
            )
    return InputError(f"calibration: the network fails on clip {done + 1}: {reason}; export it again")
