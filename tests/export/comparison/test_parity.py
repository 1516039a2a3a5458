"""The gate before every export: a graph slightly beyond the documented tolerance is refused, one within it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.comparison.parity import OutputParity, compare, require_parity
from export.graph.trace import seeded_batches
from export.to_onnx import save_onnx
from runtime.errors import ExportError
from runtime.spec.decoding_constants import Decoding
from runtime.spec.model import fuse_specs
from tests.tiny import OUTPUT_WIDTHS, TinyEngine, tiny_spec, write_tiny_onnx

COARSE, REFINED, MOVED = 1e-4, 1e-3, 0.05
"""As docs/engines.md has them."""

TOLERANCES = {"loc": COARSE, "conf": COARSE, "prop_loc": REFINED, "prop_conf": REFINED, "center": REFINED}


def largest(name: str) -> float:
    """Largest absolute value of an output of the tiny network over the windows of the comparison."""
    engine = TinyEngine()
    return max(float(np.abs(engine.infer(inputs)[name]).max()) for inputs in seeded_batches(engine.spec))


def graph_off_by(folder: Path, name: str, amount: float) -> onnx.ModelProto:
    """The tiny network as a graph that adds `amount` to one output."""
    model = onnx.load(write_tiny_onnx(folder / "right.onnx", None))
    (node,) = (node for node in model.graph.node if name in node.output)
    node.output[0] = f"{name}_before"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(amount), "wrong"))
    model.graph.node.append(helper.make_node("Add", [f"{name}_before", "wrong"], [name]))
    return model


@pytest.mark.parametrize("name", OUTPUT_WIDTHS)
def test_a_graph_beyond_the_tolerance_is_refused_and_one_within_is_written(name: str, tmp_path: Path) -> None:
    tolerance, out = TOLERANCES[name] * largest(name), tmp_path / "out"
    with pytest.raises(ExportError, match=rf"differs from numpy: {name} by .* nothing was written"):
        save_onnx(graph_off_by(tmp_path, name, 1.2 * tolerance), TinyEngine(), out / "model.onnx", print)
    assert list(out.iterdir()) == []
    save_onnx(graph_off_by(tmp_path, name, 0.8 * tolerance), TinyEngine(), out / "model.onnx", print)
    assert {file.name for file in out.iterdir()} == {"model.onnx", "model.onnx.parity.json"}


class Changed(TinyEngine):
    """The tiny network with one number more in the first locations of an output, counted over all windows."""

    def __init__(self, name: str, locations: int, amount: float) -> None:
        super().__init__()
        self._name, self._left, self._amount = name, locations, amount

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        outputs = super().infer(inputs)
        values = outputs[self._name].reshape(-1, OUTPUT_WIDTHS[self._name])
        count = min(self._left, len(values))
        values[:count, -1] += np.float32(self._amount)
        self._left -= count
        return outputs


@pytest.mark.parametrize("name", ["prop_loc", "prop_conf", "center"])
@pytest.mark.parametrize("windows", [2, 20])
def test_the_share_of_refined_locations_that_may_move(name: str, windows: int) -> None:
    """Three batches of windows with 7 locations each; a location moves as soon as one of its numbers does."""
    locations = 3 * windows * 7
    allowed = int(MOVED * locations)
    assert allowed / locations <= MOVED < (allowed + 1) / locations
    for moved, passed in ((allowed, True), (allowed + 1, False)):
        report = compare(TinyEngine(), Changed(name, moved, 100.0), windows, windows)
        (output,) = (output for output in report.outputs if output.name == name)
        assert (output.moved, output.locations, output.passed, report.passed) == (moved, locations, passed, passed)
        assert output.max_error == pytest.approx(100, rel=1e-5)
        assert output.relative == 0  # the others are equal
    with pytest.raises(ExportError, match=f"{name} by 0.0e.00 relative, {allowed + 1} of {locations} locations moved"):
        require_parity(report)


@pytest.mark.parametrize("name", ["loc", "conf"])
def test_no_location_of_a_coarse_output_may_move(name: str) -> None:
    report = compare(TinyEngine(), Changed(name, 1, 100.0), 20, 20)
    (output,) = (output for output in report.outputs if not output.passed)
    assert (output.name, output.coarse, output.moved, output.locations) == (name, True, 0, 420)
    assert output.relative == pytest.approx(output.max_error / output.largest)


@pytest.mark.parametrize("name", OUTPUT_WIDTHS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_single_number_that_is_none_is_refused(name: str, wrong: float) -> None:
    report = compare(TinyEngine(), Changed(name, 1, wrong), 20, 20)
    assert [output.name for output in report.outputs if not output.passed] == [name]
    assert report.outputs[list(OUTPUT_WIDTHS).index(name)].max_error == np.inf


@pytest.mark.parametrize(("fusion", "coarse"), [("mean", True), ("geometric", False)])
def test_segments_of_a_geometric_fusion_may_move(fusion: str, coarse: bool) -> None:
    decoding = Decoding(fusion=fusion)  # type: ignore[arg-type]
    spec = fuse_specs(tiny_spec(decoding=decoding), tiny_spec("flow", decoding=decoding))
    reference, engine = TinyEngine(spec), Changed("loc", 1, 100.0)
    report = compare(reference, engine, 20, 20)
    (loc,) = (output for output in report.outputs if output.name == "loc")
    assert (loc.coarse, loc.moved, report.passed) == (coarse, 0 if coarse else 1, not coarse)
    assert compare(TinyEngine(tiny_spec(decoding=decoding)), engine, 20, 20).outputs[0].coarse


def test_the_table_and_the_failing_output_that_is_named() -> None:
    report = compare(TinyEngine(), Changed("center", 30, 100.0), 2, 2)
    lines = report.table().splitlines()
    assert lines[0] == "parity of numpy on cpu with numpy"
    assert lines[1].split() == ["output", "largest", "max", "error", "relative", "moved"]
    assert [line.split()[0] for line in lines[2:]] == list(OUTPUT_WIDTHS)
    assert lines[-1].split()[2:] == ["1.00e+02", "0.0e+00", "30", "of", "42"]
    with pytest.raises(ExportError, match=r"center by 0.0e\+00 relative, 30 of 42 .* 0.0001 coarse, 0.001 refined, 5%"):
        require_parity(report)


@pytest.mark.parametrize(("coarse", "tolerance"), [(True, COARSE), (False, REFINED)])
def test_what_is_at_the_tolerance_passes(coarse: bool, tolerance: float) -> None:
    output = OutputParity("x", coarse, 1.0, tolerance, tolerance, 0, 10)
    assert output.passed
    assert not replace(output, relative=float(np.nextafter(tolerance, 1))).passed


def test_batches_of_one_and_two_windows_are_compared() -> None:
    """As an engine with a dynamic batch takes them."""
    engine = TinyEngine()
    report = compare(TinyEngine(), engine)
    assert set(engine.batches) == {1, 2}
    assert report.passed
    assert {output.locations for output in report.outputs} == {7 * sum(engine.batches)}
