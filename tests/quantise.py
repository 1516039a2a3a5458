"""A quantised graph without videos: ranges of seeded windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from calibration.quantise.placement import Placement
from calibration.quantise.qdq import insert_qdq
from calibration.ranges.choose import Method, Numbers, Quantiser, choose_range, make_quantiser
from calibration.ranges.collect import Inputs, collect_histograms


def quantisers_of(
    placement: Placement, numbers: Numbers, windows: Sequence[Inputs], method: Method = "minmax"
) -> dict[str, Quantiser]:
    """A quantiser for every point, from the windows."""
    histograms = collect_histograms(placement, windows)
    return {name: make_quantiser(*choose_range(h, method, numbers), numbers) for name, h in histograms.items()}


def quantised_graph(source: Path, numbers: Numbers, windows: Sequence[Inputs]) -> onnx.ModelProto:
    """An ONNX file quantised by the extremes of some windows."""
    placement = Placement(onnx.load(source), str(source))
    return insert_qdq(placement, quantisers_of(placement, numbers, windows))
