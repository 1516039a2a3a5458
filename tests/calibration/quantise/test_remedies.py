"""Equalisation, searched ranges, corrected biases; what layers cost; and the path to a budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

from calibration.judging import budget
from calibration.judging.budget import Step, restore_layers, restored_counts
from calibration.judging.plot import CHOSEN, HEIGHT, WIDTH, draw_path
from calibration.judging.sensitivity import Cost, format_costs, measure_sensitivity
from calibration.quantise.placement import Placement
from calibration.quantise.qdq import insert_qdq
from calibration.quantise.remedies import correct_biases, equalise, measure_layer_errors, search_ranges
from calibration.ranges.choose import Quantiser, make_quantiser
from calibration.ranges.collect import Inputs, TensorProbe, collect_histograms
from calibration.ranges.table import PointMeasurement, RangeTable
from export.comparison.drift import DetectionDrift
from tests.quantise import quantisers_of

NOTHING = DetectionDrift("all", 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0)
"""No detections to compare."""


@pytest.fixture(scope="module")
def rounding(placement: Placement, windows: list[Inputs]) -> dict[str, Quantiser]:
    return quantisers_of(placement, "uint8", windows)


def channel_spread(graph: onnx.ModelProto, tensor: str, inputs: Inputs) -> float:
    values = TensorProbe(graph, [tensor])(inputs)[tensor]
    largest = values.max(axis=(0, *range(2, values.ndim)))
    largest = largest[largest > 0]
    return float(largest.max() / np.median(largest))


def test_equalised_is_the_same_function(placement: Placement, windows: list[Inputs]) -> None:
    graph = equalise(placement, windows)
    names = [value.name for value in placement.graph.graph.output]
    before, after = TensorProbe(placement.graph, names)(windows[0]), TensorProbe(graph, names)(windows[0])
    for name in names:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-3, atol=1e-4 * np.abs(before[name]).max())
    changed = [
        a.name for a, b in zip(placement.graph.graph.initializer, graph.graph.initializer, strict=True) if a != b
    ]
    assert any("b1a" in name for name in changed)
    assert not any("tower" in name for name in changed)  # normalised by GroupNorm, not behind a plain ReLU


def test_equalising_brings_channels_near_each_other(placement: Placement, windows: list[Inputs]) -> None:
    """One channel of a unit made a hundred times larger, its readers a hundred times smaller: undone."""
    graph = onnx.ModelProto()
    graph.CopyFrom(placement.graph)
    node = next(n for n in placement.convolutions.values() if "Mixed_4b.b1a" in n.input[1])
    reader = next(n for n in placement.convolutions.values() if "Mixed_4b.b1b" in n.input[1])
    for weight in graph.graph.initializer:
        values = np.array(numpy_helper.to_array(weight))
        if weight.name in node.input[1:]:
            values[0] *= 100
        elif weight.name == reader.input[1]:
            values[:, 0] /= 100
        else:
            continue
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    tensor = reader.input[0]
    skewed = channel_spread(graph, tensor, windows[0])
    even = channel_spread(equalise(Placement(graph, "skewed"), windows), tensor, windows[0])
    assert even < skewed / 5


@pytest.mark.slow
def test_corrected_biases_take_the_shift_out(
    placement: Placement, rounding: dict[str, Quantiser], windows: list[Inputs]
) -> None:
    errors = measure_layer_errors(placement, rounding, windows)
    biases = correct_biases(placement, rounding, windows)
    layer = next(layer for layer in placement.layers if "Mixed_4b.b1b" in layer.name)
    shift = np.asarray(numpy_helper.to_array(placement.weights[layer.bias])) - biases[layer.bias]
    np.testing.assert_allclose(shift, errors[layer.nodes[0]].shift, atol=1e-6)
    # of the layer by itself, all others float: the mean over the clips is the float network's
    output = placement.convolutions[layer.nodes[0]].output[0]
    others = [other.name for other in placement.layers if other.name != layer.name]
    mine = {layer.bias: biases[layer.bias]}
    inside = [
        TensorProbe(graph, [output])
        for graph in (placement.graph, *(insert_qdq(placement, rounding, kept=others, biases=b) for b in ({}, mine)))
    ]
    means = [np.mean([run(w)[output].mean(axis=(0, 2, 3, 4)) for w in windows], axis=0) for run in inside]
    assert np.abs(means[2] - means[0]).max() < 0.02 * np.abs(means[1] - means[0]).max()
    assert not correct_biases(placement, rounding, windows, [layer.name]).keys() & {layer.bias}


@pytest.mark.parametrize("name", ["Mixed_4b.b1b", "Mixed_5c.b0", "conf_tower.1.0"])
def test_a_layers_error_is_that_of_rounding_it_alone(
    placement: Placement, rounding: dict[str, Quantiser], windows: list[Inputs], name: str
) -> None:
    """Shift and relative error against PyTorch's convolution of rounded numbers, over both clips together."""
    layer = next(layer for layer in placement.layers if name in layer.name)
    node = placement.convolutions[layer.nodes[0]]
    quantiser = rounding[placement.point_of[node.name].name]
    weight = torch.from_numpy(np.array(numpy_helper.to_array(placement.weights[layer.weight]))).double()
    step = weight.abs().flatten(1).amax(1).clamp(min=1e-30) / 127
    step = step.reshape(-1, *[1] * (weight.dim() - 1))
    rounded_weight = (weight / step).round().clamp(-127, 127) * step
    pads = next((list(a.ints) for a in node.attribute if a.name == "pads"), [0] * 2 * (weight.dim() - 2))
    convolve = {3: functional.conv1d, 5: functional.conv3d}[weight.dim()]
    shifts, error, energy = [], 0.0, 0.0
    for inputs in windows:
        x = torch.from_numpy(TensorProbe(placement.graph, [node.input[0]])(inputs)[node.input[0]]).double()
        levels = (x / quantiser.scale).round() + quantiser.zero_point
        rounded = (levels.clamp(0, 255) - quantiser.zero_point) * quantiser.scale
        plain = convolve(x, weight, padding=tuple(pads[: len(pads) // 2]))
        difference = convolve(rounded, rounded_weight, padding=tuple(pads[: len(pads) // 2])) - plain
        bias = np.array(numpy_helper.to_array(placement.weights[layer.bias])) if layer.bias else np.zeros(len(weight))
        output = plain + torch.from_numpy(bias).reshape(1, -1, *[1] * (weight.dim() - 2))
        shifts.append(difference.mean(dim=(0, *range(2, weight.dim()))).numpy())
        error += float((difference**2).sum())
        energy += float((output**2).sum())
    found = measure_layer_errors(placement, rounding, windows)[node.name]
    assert found.relative == pytest.approx(error / energy, rel=0.02)
    np.testing.assert_allclose(found.shift, np.mean(shifts, axis=0), atol=0.05 * np.abs(np.mean(shifts, axis=0)).max())


def table_of(placement: Placement, windows: Sequence[Inputs]) -> RangeTable:
    histograms = collect_histograms(placement, windows)
    points = {
        name: PointMeasurement((name,), (), h.low, h.high, h.width, -len(h.counts) // 2, tuple(map(int, h.counts)))
        for name, h in histograms.items()
    }
    return RangeTable(placement.sha256, False, 0, (), "", {}, points)


@pytest.mark.slow
def test_searched_ranges_give_smaller_errors_than_full_ones(placement: Placement, windows: list[Inputs]) -> None:
    table = table_of(placement, windows)
    found = search_ranges(placement, table, "int8", windows)
    assert found.keys() == table.points.keys()
    full = {name: make_quantiser(p.low, p.high, "int8") for name, p in table.points.items()}
    searched = {name: make_quantiser(*r, "int8") for name, r in found.items()}
    before, after = (measure_layer_errors(placement, steps, windows) for steps in (full, searched))
    for point in placement.points:
        mine = [sum(errors[node].relative for node in point.nodes) for errors in (before, after)]
        assert mine[1] <= mine[0] * (1 + 1e-6)


@pytest.mark.slow  # a network for each of its layers
def test_the_dearest_layer_is_found(
    placement: Placement, rounding: dict[str, Quantiser], windows: list[Inputs]
) -> None:
    """A point whose steps are far too coarse makes its readers the dearest, by both ways of asking."""
    victim = next(layer for layer in placement.layers if "pyramids.1.0" in layer.name)
    point = placement.point_of[victim.nodes[0]]
    coarse = rounding | {point.name: Quantiser("uint8", 200 * rounding[point.name].scale, 0)}
    said: list[str] = []
    alone = measure_sensitivity(placement, coarse, windows[:1], say=said.append)
    restored = measure_sensitivity(placement, coarse, windows[:1], way="restored")
    assert alone[0].layer == restored[0].layer == victim.name
    assert alone[0].total > 3 * alone[1].total
    assert {cost.layer for cost in alone} == {layer.name for layer in placement.layers}
    assert said[-1].startswith("sensitivity: ")
    table = format_costs(alone, 3).splitlines()
    assert len(table) == 4
    assert table[1].startswith(victim.name)
    # the drift of it alone is that of the whole network with all others kept
    assert alone[0].outputs.keys() == {value.name for value in placement.graph.graph.output}


def test_numbers_of_layers_that_are_tried() -> None:
    assert list(restored_counts(10)) == [0, 1, 2, 3, 4, 6, 9, 10]
    assert list(restored_counts(1)) == [0, 1]


class Scale:
    """Judges by how many layers are restored: 100 − (7 − 2 · layers) points, no lower than 100."""

    map, labelled = 1.0, True


@pytest.mark.parametrize(
    ("max_drop", "whole", "tried", "chosen", "met"),
    [
        (None, False, 1, 0, True),
        (7.0, False, 1, 0, True),
        (4.0, False, 3, 2, True),
        (0.0, False, 5, 4, True),
        (4.0, True, 6, 2, True),
        (-1.0, False, 6, 4, False),
    ],
)
def test_layers_are_restored_until_the_drop_is_inside(
    placement: Placement,
    monkeypatch: pytest.MonkeyPatch,
    max_drop: float,
    whole: bool,
    tried: int,
    chosen: int,
    met: bool,
) -> None:
    def step(_: object, graph: tuple[str, ...], restored: tuple[str, ...], *__: object) -> Step:
        assert graph == restored
        drop = max(0.0, 7.0 - 2 * len(restored))
        return Step(restored, 1.0, 1 - drop / 100, drop, 0.01, NOTHING, 2.0 - 0.1 * len(restored))

    asked: list[int] = []

    def costs() -> list[Cost]:
        asked.append(1)
        return [Cost(name, 1, {}, 1.0) for name in "abcdef"]

    monkeypatch.setattr(budget, "_step", step)
    monkeypatch.setattr(budget, "restored_counts", lambda _: iter([0, 1, 2, 3, 4, 6]))
    path = restore_layers(placement, lambda r: r, Scale(), costs, max_drop=max_drop, whole=whole, timed=False)  # type: ignore[arg-type, return-value]
    assert len(path.steps) == tried
    assert asked == ([1] if tried > 1 else [])  # layers are weighed only when one has to be restored
    assert path.chosen.restored == tuple("abcdef"[:chosen])
    assert path.met == met
    rows = path.table().splitlines()
    assert len(rows) == tried + 3
    assert rows[3 + [len(s.restored) for s in path.steps].index(chosen)].endswith("chosen")


def test_the_picture_shows_every_step(tmp_path: Path) -> None:
    steps = tuple(Step(("x",) * k, 1 - k / 10, 0.9, 3.0 - k, 0.0, NOTHING, 3 - k / 4) for k in range(4))
    image = draw_path(budget.BudgetPath(0.93, True, 0.5, steps), "title")
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert (image == np.array(CHOSEN, np.uint8)).all(axis=2).sum() > 100
    same = tuple(Step((), 1.0, 0.9, 0.0, 0.0, NOTHING, 0.0) for _ in range(1))  # nothing to scale by
    assert draw_path(budget.BudgetPath(0.9, False, None, same), "title").shape == (HEIGHT, WIDTH, 3)
