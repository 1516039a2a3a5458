"""What each layer costs: the drift of the network's outputs when it alone is quantised, or when it alone is not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.quantise.placement import Layer, Layout
from calibration.quantise.qdq import quantised
from calibration.ranges.choose import Quantiser
from calibration.ranges.collect import Inputs, Inside
from export.comparison.drift import measure_output_drift
from runtime.common.tables import align

Way = Literal["alone", "restored"]
"""Each layer alone quantised, all others float; or each alone restored to float, all others quantised."""


@dataclass(frozen=True)
class Cost:
    """One layer."""

    layer: str
    multiply_adds: int
    outputs: dict[str, float]
    """Drift of every raw output (rms of the difference / rms) with it alone quantised; or by how much the drift falls
    when it alone is restored."""
    total: float
    """Mean over the outputs: what layers are ordered by."""


def sensitivity(
    layout: Layout,
    quantisers: Mapping[str, Quantiser],
    clips: Sequence[Inputs],
    *,
    way: Way = "alone",
    kept: Collection[str] = (),
    biases: Mapping[str, NDArray[np.float32]] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Cost, ...]:
    """The cost of every layer, the dearest first; in float arithmetic that rounds as the integers would.

    Args:
        layout: of the float network.
        quantisers: of every point.
        clips: engine inputs on which outputs are compared.
        way: see `Way`.
        kept: layers that are float from the beginning; when one alone is restored, these are as well.
        biases: as in `quantised`.
        say: receives progress.
    """
    names = [value.name for value in layout.graph.graph.output]
    expected = _run(layout.graph, names, clips)
    every = {layer.name for layer in layout.layers}

    def drift(kept: Collection[str]) -> dict[str, float]:
        graph = quantised(layout, quantisers, kept=kept, biases=biases)
        pairs = list(zip(expected, _run(graph, names, clips), strict=True))
        return {output.name: output.relative for output in measure_output_drift(pairs)}

    whole = drift(kept) if way == "restored" else {}
    costs = []
    for number, layer in enumerate(layout.layers, 1):
        say(f"sensitivity: {layer.name} ({number} of {len(every)})")
        if way == "alone":
            outputs = drift(every - {layer.name})
        else:
            outputs = {name: whole[name] - value for name, value in drift({layer.name, *kept}).items()}
        costs.append(_cost(layer, outputs))
    return tuple(sorted(costs, key=lambda cost: -cost.total))


def format_costs(costs: Sequence[Cost], count: int = 12) -> str:
    """The dearest layers as a table: share of the work, drift of each output in percent."""
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
    inside = Inside(graph, names)
    return [inside(inputs) for inputs in clips]
