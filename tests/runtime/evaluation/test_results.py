"""What the results of evaluations print, give as JSON and answer: made-up results, and the texts written by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.evaluation import (
    analyse_false_positives,
    evaluate,
    evaluate_durations,
    evaluate_proposals,
    format_table,
)
from runtime.evaluation.durations import DurationResult
from runtime.evaluation.error_kinds import KINDS, FalsePositiveResult
from runtime.evaluation.mean_ap import EvaluationResult
from runtime.evaluation.proposals import ProposalResult
from tests.evaluation_cases import found, truth

NAN = math.nan


def test_durations_in_percent_and_a_dash_for_an_empty_bin() -> None:
    values = np.array([[0.5, 0.25], [NAN, NAN], [1.0, 0.0]])
    result = DurationResult((1.5, 5.0), (0.3, 0.7), values, np.array([3, 0, 12]))
    assert result.table().startswith("mAP % by duration")
    rows = [line.split() for line in result.table().splitlines()]
    assert rows[0][-4:] == ["0.30", "0.70", "average", "truths"]
    assert [row[-4:] for row in rows[1:]] == [
        ["50.00", "25.00", "37.50", "3"], ["–", "–", "–", "0"], ["100.00", "0.00", "50.00", "12"],
    ]  # fmt: skip
    assert json.loads(json.dumps(result.to_mapping())) == {
        "edges_s": [1.5, 5.0],
        "tiou": [0.3, 0.7],
        "bins": [
            {"bin": "< 1.5 s", "truths": 3, "mAP": [0.5, 0.25]},
            {"bin": "1.5 – 5 s", "truths": 0, "mAP": [None, None]},
            {"bin": "≥ 5 s", "truths": 12, "mAP": [1.0, 0.0]},
        ],
    }


@pytest.mark.parametrize("edges", [(), (0.0, 1.0), (-1.0,), (2.0, 2.0), (3.0, 2.0), (1.0, math.inf), (NAN,)])
def test_edges_that_do_not_rise_from_above_zero(edges: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"edges of durations.*expected (rising|at least|above 0|a finite)"):
        evaluate_durations([found("v")], [truth("v", ("jump", 0, 1))], [0.5], edges)


def test_kinds_of_errors_in_percent_with_the_gain_of_all_but_hits() -> None:
    shares = np.array([[0.5, 0.125, 0.0, 0.0, 0.0, 0.375], [NAN] * 6])
    result = FalsePositiveResult(0.5, "activitynet", shares, np.arange(6), 0.25, np.array([0, 0.1, 0, 0, 0, 0.0321]))
    rows = [line.split() for line in result.table().splitlines()]
    assert rows[0] == ["%", "at", "tIoU", "0.5", "1G", "2G", "number", "mAP", "gain"]
    assert rows[1] == ["true", "positive", "50.0", "–", "0"]
    assert rows[2] == ["double", "detection", "12.5", "–", "1", "+10.00"]
    assert rows[6] == ["background", "37.5", "–", "5", "+3.21"]
    document = json.loads(json.dumps(result.to_mapping()))
    assert (document["tiou"], document["mAP"], tuple(document["kinds"])) == (0.5, 0.25, KINDS)
    assert document["kinds"]["double detection"] == {"count": 1, "gain": 0.1, "shares": [0.125, None]}


def test_a_profile_by_hand() -> None:
    """One of each kind, best first; of 2 instances of "jump", so the best 2 are 1G, the next 2 are 2G."""
    videos = [truth("v", ("jump", 0, 10), ("jump", 20, 30), ("throw", 40, 50))]
    predictions = [
        found(
            "v",
            ("jump", 0, 10, 0.9),  # hit
            ("jump", 1, 10, 0.8),  # the same once more
            ("jump", 40, 50, 0.7),  # another class's
            ("jump", 20, 23, 0.6),  # tIoU 0.3
            ("jump", 47, 53, 0.5),  # tIoU 3/13 with another class's
            ("jump", 90, 99, 0.4),
            ("jump", 20, 30, 0.3),  # hit
        )
    ]
    result = analyse_false_positives(predictions, videos, 0.5)
    assert result.counts.tolist() == [2, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(result.shares[:4], np.array([
        [1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1], [2, 0, 0, 0, 0, 0],
    ]) / 2)  # fmt: skip
    assert np.isnan(result.shares[4:]).all()
    # "jump" has hits at ranks 1 and 7, "throw" none: interpolated AP (1 + 2/7)/2 and 0
    assert result.map == pytest.approx((1 + 2 / 7) / 4)
    for kind in range(1, 6):
        assert result.gains[kind] == pytest.approx((1 + 2 / 6) / 4 - (1 + 2 / 7) / 4)
    assert result.gains[0] == 0


def result_of_two() -> EvaluationResult:
    return EvaluationResult(
        (0.3, 0.5), ("jump", "throw"), np.array([[1.0, 0.5], [0.25, 0.0]]), np.array([3, 4]), np.array([5, 60]), 7, 8
    )


def test_the_table_has_classes_where_they_are_wanted_and_the_mean() -> None:
    lines = format_table(result_of_two()).splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["0.30", "0.50", "average", "truths", "detections"],
        ["mAP", "%", "at", "tIoU", "62.50", "25.00", "43.75", "7", "65"],
    ]
    assert lines[2].startswith("7 of the detections are left out")
    assert lines[3].startswith("8 of the detections end before they start")
    assert len(lines) == 4
    rows = [line.split() for line in format_table(result_of_two(), per_class=True).splitlines()[1:3]]
    assert rows == [["jump", "100.00", "50.00", "75.00", "3", "5"], ["throw", "25.00", "0.00", "12.50", "4", "60"]]


def test_the_result_for_some_of_the_classes() -> None:
    result = result_of_two().of_classes(["throw", "unknown"])
    assert (result.classes, result.truths.tolist(), result.detections.tolist()) == (("throw",), [4], [60])
    assert (result.map.tolist(), result.average, result.ignored, result.inverted) == ([0.25, 0.0], 0.125, 7, 8)
    for names, said in ((["unknown", "others"], "others, unknown"), ([], "no class")):
        with pytest.raises(InputError, match=f"no instance of {said} in the ground truth to judge by"):
            result_of_two().of_classes(names)


def test_an_empty_detection_does_not_end_before_it_starts() -> None:
    predictions = [found("v", ("jump", 5, 5, 0.9), ("jump", 6, 5, 0.8), ("jump", 0, 10, 0.7))]
    result = evaluate(predictions, [truth("v", ("jump", 0, 10))], (0.5,))
    assert (result.inverted, result.detections.tolist()) == (1, [3])
    assert result.ap.tolist() == [[pytest.approx(1 / 3)]]


def test_detections_in_videos_without_annotations_are_counted_by_class() -> None:
    """Only by the THUMOS'14 rule, and only those of classes that are judged."""
    predictions = [
        found("v", ("jump", 0, 10, 0.9)),
        found("w", ("jump", 0, 1, 0.5), ("throw", 0, 1, 0.5)),
        found("x", ("jump", 0, 1, 0.1)),
    ]
    videos = [truth("v", ("jump", 0, 10))]
    kit = evaluate(predictions, videos, (0.5,), rule="thumos14")
    assert (kit.unannotated, kit.ignored, kit.detections.tolist()) == (2, 1, [3])
    other = evaluate(predictions, videos, (0.5,))
    assert (other.unannotated, other.ignored, other.detections.tolist()) == (0, 3, [1])


def test_recall_between_the_points_of_the_curve_and_beyond() -> None:
    result = ProposalResult((0.5,), np.array([1.0, 2.0, 4.0]), np.array([0.2, 0.4, 0.6]), available=3.0)
    assert [result.at(n) for n in (0, 0.5, 1, 1.5, 3, 4)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.5, 0.6])
    assert math.isnan(result.at(4.001))
    assert result.auc == pytest.approx(((0.2 + 0.4) / 2 + (0.4 + 0.6)) / 4)
    rows = [line.split() for line in result.table().splitlines()]
    assert rows[0] == ["recall", "%", "of", "proposals", "AR@1", "AUC", "up", "to", "AN", "there", "are"]
    assert rows[1] == ["20.00", "32.50", "4", "3.0"]
    assert [line.split()[:5] for line in result.table((2, 3, 5)).splitlines()][1] == [
        "40.00",
        "50.00",
        "32.50",
        "4",
        "3.0",
    ]
    assert result.to_mapping() == {
        "tiou": [0.5], "average_number": [1.0, 2.0, 4.0], "average_recall": [0.2, 0.4, 0.6],
        "auc": pytest.approx(0.325), "available": 3.0,
    }  # fmt: skip
    none = evaluate_proposals([], [truth("v", ("jump", 0, 1))])
    assert (none.auc, math.isnan(none.at(1)), none.table().split()[-3:]) == (0, True, ["0.00", "0", "0.0"])
