"""Drift reports: closed forms, and two engines on one video."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from export.comparison.drift import (
    DriftReport,
    measure_detection_drift,
    measure_drift_on_videos,
    measure_output_drift,
    require_drift,
)
from export.comparison.quantisation import check_quantised
from runtime.decoding.afsd import AFSD_OUTPUTS
from runtime.errors import ExportError, InputError
from runtime.results.detections import Detections
from tests.tiny import TinyEngine, tiny_spec


def found(*rows: tuple[float, float, int, float]) -> Detections:
    """Detections of rows (start, end, label, score)."""
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Detections(table[:, :2], table[:, 2].astype(np.int32), table[:, 3], ("jump", "throw"), "video")


REFERENCE = found((0, 10, 0, 0.9), (20, 30, 1, 0.8), (40, 50, 0, 0.7), (60, 70, 0, 0.1))


@pytest.mark.parametrize(
    ("other", "lost", "gained", "moved", "largest"),
    [
        (REFERENCE, 0, 0, 0, 0.0),
        (found((0, 10.05, 0, 0.9), (20, 30, 1, 0.8), (40, 50, 0, 0.7)), 0, 0, 0, 0.05),
        (found((0, 10.2, 0, 0.9), (19.7, 30, 1, 0.8), (40, 50, 0, 0.7)), 0, 0, 2, 0.3),
        (found((0, 10, 1, 0.9), (20, 30, 1, 0.8), (40, 50, 0, 0.7)), 1, 1, 0, 0.0),  # of another class
        (found((4, 16, 0, 0.9), (20, 30, 1, 0.8), (40, 50, 0, 0.7)), 1, 1, 0, 0.0),  # tIoU 6/16
        (found(), 3, 0, 0, 0.0),
        (found((0, 10, 0, 0.9), (20, 30, 1, 0.8), (60, 70, 0, 0.7), (40, 50, 0, 0.2)), 0, 0, 0, 0.0),  # order alone
    ],
)  # fmt: skip
def test_detections_lost_gained_and_moved(
    other: Detections, lost: int, gained: int, moved: int, largest: float
) -> None:
    drift = measure_detection_drift([(REFERENCE, other)], best=3, name="video")
    assert (drift.followed, drift.lost, drift.gained, drift.moved) == (3, lost, gained, moved)
    assert drift.largest_shift_s == pytest.approx(largest)
    assert drift.best_unpaired == (0.9 if lost else 0.0)


def test_score_change_and_median_over_several_videos() -> None:
    pairs = [(found((0, 10, 0, 0.9)), found((0.3, 10, 0, 0.7))), (found((0, 5, 1, 0.5)), found((0, 5.1, 1, 0.6)))]
    drift = measure_detection_drift(pairs, best=200, name="all")
    assert (drift.followed, drift.moved) == (2, 1)
    assert drift.median_shift_s == pytest.approx(0.2)
    assert drift.median_score_change == pytest.approx(0.15)


def test_output_drift_is_relative_to_the_rms() -> None:
    expected = {name: np.full((1, 2, 2), 2.0, np.float32) for name in AFSD_OUTPUTS}
    other = {name: value + np.array([[[0.0, 0.2], [0.0, 0.0]]], np.float32) for name, value in expected.items()}
    for drift in measure_output_drift([(expected, other)]):
        assert (drift.rms, drift.worst) == (2.0, pytest.approx(0.2))
        assert drift.relative == pytest.approx(0.2 / 2 / 2)  # one of four elements, over an rms of 2
    other["conf"] = np.full((1, 2, 2), np.nan, np.float32)
    assert measure_output_drift([(expected, other)])[1].worst == np.inf


def two_stage(*proposals: tuple[float, float, float]) -> dict[str, NDArray[np.float32]]:
    """Outputs of one window whose proposals are (start, end, first class logit); the score falls by a tenth each."""
    table = np.array(proposals, np.float32).reshape(1, -1, 3)
    scores = np.where(
        table[..., 1:2] > 0, np.linspace(0.9, 0.9 - 0.1 * (len(proposals) - 1), len(proposals))[:, None], 0
    )
    logits = np.concatenate([table[..., 2:], -table[..., 2:]], axis=-1)
    return {"proposals": table[..., :2], "prop_score": scores, "cls": logits, "reg": table[..., :2] / 10}


def test_a_proposal_is_compared_with_its_partner_wherever_it_stands() -> None:
    expected = two_stage((0, 10, 1), (20, 40, 2), (50, 60, 4), (0, 0, 7))
    swapped = two_stage((20, 40, 2), (0, 10, 1), (50, 60, 4.5), (0, 0, -7))  # the last stands for no proposal
    drift = {output.name: output for output in measure_output_drift([(expected, swapped)])}
    assert (drift["proposals"].relative, drift["reg"].relative) == (0.0, 0.0)
    assert drift["cls"].worst == 0.5
    assert drift["cls"].relative == pytest.approx(0.5 / np.sqrt(1 + 4 + 16))
    assert {output.unpaired for output in drift.values()} == {0.0}


def test_proposals_that_are_others_are_counted_and_left_out() -> None:
    expected = two_stage((0, 10, 1), (20, 40, 2), (50, 60, 4), (70, 80, 8))
    other = two_stage((0, 10, 1), (20, 40, 2), (50, 60, 4), (90, 99, 8))
    drift = measure_output_drift([(expected, other), (expected, expected)])
    assert [(output.relative, output.unpaired) for output in drift] == [(0.0, 1 / 8)] * 4
    report = DriftReport("fp16", "fp32", 2, drift, ())
    assert "12.50% of the proposals have no partner and are left out" in report.table()
    assert require_drift(report, {"cls"}, 0.2, "fp16", "use another precision") == 0.0
    with pytest.raises(ExportError, match=r"fp16 proposes other segments than fp32 \(12.5% of them\), more than fp16"):
        require_drift(report, {"cls"}, 0.1, "fp16", "use another precision")
    nothing = measure_output_drift([(expected, two_stage((100, 110, 1)))])
    assert [(output.worst, output.unpaired) for output in nothing] == [(np.inf, 1.0)] * 4


def test_a_drift_beyond_the_limit_is_refused() -> None:
    expected = two_stage((0, 10, 1), (20, 40, 2))
    report = DriftReport("fp16", "fp32", 1, measure_output_drift([(expected, two_stage((0, 10, 1), (20, 40, 3)))]), ())
    with pytest.raises(
        ExportError, match=r"drifts from fp32 by 44.7% in its output cls, more than rounding .* \(30%\)"
    ):
        require_drift(report, {"cls", "proposals"}, 0.3, "rounding", "nothing was written")


class Shifted(TinyEngine):
    """The tiny network whose refined segments begin a quarter of their half-width earlier."""

    precision = "fp16"

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        outputs = super().infer(inputs)
        outputs["prop_loc"] = outputs["prop_loc"] + np.array([0.25, 0.0], np.float32)
        return outputs


def test_two_engines_on_a_video(tmp_path: Path) -> None:
    video = np.broadcast_to(np.random.default_rng(3).integers(0, 256, (60, 1, 1, 1), np.uint8), (60, 8, 10, 3))
    same = measure_drift_on_videos(TinyEngine(), TinyEngine(), [video, video])
    assert [d.video for d in same.detections][-1] == "all"
    total = same.detections[-1]
    assert total.followed > 0
    assert (total.lost, total.gained, total.moved, total.largest_shift_s) == (0, 0, 0, 0.0)
    assert all(output.relative == 0 for output in same.outputs)
    shifted = measure_drift_on_videos(TinyEngine(), Shifted(), [video])
    by_name = {output.name: output for output in shifted.outputs}
    assert by_name["prop_loc"].worst == pytest.approx(0.25, abs=1e-5)
    assert by_name["loc"].relative == 0
    assert shifted.detections[-1].moved + shifted.detections[-1].lost > 0
    assert "moved > 0.1 s" in shifted.table()
    shifted.write(tmp_path / "drift.json")
    assert json.loads((tmp_path / "drift.json").read_text())["windows"] == shifted.windows


def test_a_quantised_engine_may_round_otherwise_but_not_be_another_network(tmp_path: Path) -> None:
    said: list[str] = []
    source = tmp_path / "m.int8.onnx"
    report = check_quantised(TinyEngine(), Shifted(), source, said.append)  # the second stage is as roundings leave it
    assert {output.name for output in report.outputs if output.relative > 0} == {"prop_loc"}
    assert said[0].endswith("made-up windows: the same network as m.int8.onnx, apart from roundings")
    assert "not known" in said[1]

    class Other(TinyEngine):
        def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
            outputs = super().infer(inputs)
            return {**outputs, "conf": outputs["conf"][..., ::-1]}

    with pytest.raises(
        ExportError, match=r"in its output conf, more than rounding explains \(30%\); nothing was written"
    ):
        check_quantised(TinyEngine(), Other(), source, said.append)
    assert len(said) == 2


def test_bad_input() -> None:
    with pytest.raises(InputError, match="got no videos, expected at least one"):
        measure_drift_on_videos(TinyEngine(), TinyEngine(), [])
    with pytest.raises(InputError, match="other inputs or outputs"):
        measure_drift_on_videos(TinyEngine(), TinyEngine(tiny_spec("flow")), [np.zeros((20, 8, 10, 3), np.uint8)])
