"""A quantised graph without videos: ranges of seeded windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from calibration.quantise.placement import Layout
from calibration.quantise.qdq import quantised
from calibration.ranges.choose import Method, Numbers, Quantiser, choose_range, quantiser
from calibration.ranges.collect import Inputs, collect_histograms


def quantisers_of(
    layout: Layout, numbers: Numbers, windows: Sequence[Inputs], method: Method = "minmax"
) -> dict[str, Quantiser]:
    """A quantiser for every point, from the windows."""
    histograms = collect_histograms(layout, windows)
    return {name: quantiser(*choose_range(h, method, numbers), numbers) for name, h in histograms.items()}


def quantised_graph(source: Path, numbers: Numbers, windows: Sequence[Inputs]) -> onnx.ModelProto:
    """An ONNX file quantised by the extremes of some windows."""
    layout = Layout(onnx.load(source), str(source))
    return quantised(layout, quantisers_of(layout, numbers, windows))
