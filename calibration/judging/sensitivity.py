"""Measure what each layer costs: the drift of the network's outputs with that layer alone quantised, or alone float."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.quantise.placement import Layer, Placement
from calibration.quantise.qdq import insert_qdq
from calibration.ranges.choose import Quantiser
from calibration.ranges.collect import Inputs, TensorProbe
from export.comparison.drift import measure_output_drift
from runtime.common.tables import align

Way = Literal["alone", "restored"]
"""How a layer's cost is measured: "alone" quantises that layer only, "restored" quantises all layers but that one."""


@dataclass(frozen=True)
class Cost:
    """Holds the cost of one layer."""

    layer: str
    multiply_adds: int
    outputs: dict[str, float]
    """Name of a raw output → its drift (rms of the difference / rms) with the layer alone quantised, or the decrease of
    the drift with the layer alone restored."""
    total: float
    """Mean over the outputs, by which layers are sorted."""


def measure_sensitivity(
    placement: Placement,
    quantisers: Mapping[str, Quantiser],
    clips: Sequence[Inputs],
    *,
    way: Way = "alone",
    kept: Collection[str] = (),
    biases: Mapping[str, NDArray[np.float32]] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Cost, ...]:
    """Measure the cost of every layer, the most costly first, with rounding emulated in float arithmetic.

    Args:
        placement: placement of the float network.
        quantisers: quantiser of every point by name.
        clips: engine inputs on which outputs are compared.
        way: how the cost is measured, see `Way`.
        kept: names of layers that are float from the beginning, also when another layer alone is restored.
        biases: see `insert_qdq`.
        say: receives progress.
    """
    names = [value.name for value in placement.graph.graph.output]
    expected = _run(placement.graph, names, clips)
    every = {layer.name for layer in placement.layers}

    def drift(kept: Collection[str]) -> dict[str, float]:
        graph = insert_qdq(placement, quantisers, kept=kept, biases=biases)
        pairs = list(zip(expected, _run(graph, names, clips), strict=True))
        return {output.name: output.relative for output in measure_output_drift(pairs)}

    whole = drift(kept) if way == "restored" else {}
    costs = []
    for number, layer in enumerate(placement.layers, 1):
        say(f"sensitivity: {layer.name} ({number} of {len(every)})")
        if way == "alone":
            outputs = drift(every - {layer.name})
        else:
            outputs = {name: whole[name] - value for name, value in drift({layer.name, *kept}).items()}
        costs.append(_cost(layer, outputs))
    return tuple(sorted(costs, key=lambda cost: -cost.total))


def format_costs(costs: Sequence[Cost], count: int = 12) -> str:
    """Return the `count` most costly layers as a table: share of the work and drift of each output, in percent."""
    work = max(sum(cost.multiply_adds for cost in costs), 1)
    rows = [["layer", "work", *costs[0].outputs, "mean"]]
    rows += [
        [
            cost.layer,
            f"{cost.multiply_adds / work:.1%}",
            *(f"{v:.2%}" for v in cost.outputs.values()),
            f"{cost.total:.2%}",
        ]
        for cost in costs[:count]
    ]
    return align(rows)


def _cost(layer: Layer, outputs: dict[str, float]) -> Cost:
    return Cost(layer.name, layer.multiply_adds, outputs, float(np.mean(list(outputs.values()))))


def _run(graph: onnx.ModelProto, names: Sequence[str], clips: Sequence[Inputs]) -> list[dict[str, NDArray[np.float32]]]:
    inside = TensorProbe(graph, names)
    return [inside(inputs) for inputs in clips]
