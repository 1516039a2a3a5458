"""The verdict on each detection of a video, and the curves of precision over recall, against the evaluation's own."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.evaluation import Rule, analyse_false_positives, evaluate, plain_average_precision
from runtime.evaluation.curves import precision_recall
from runtime.evaluation.error_kinds import HIT
from runtime.evaluation.verdicts import NOT_JUDGED, judge_video
from tests.evaluation_cases import CLASSES, drawn, found, overlap, truth


@pytest.mark.parametrize("rule", ["activitynet", "thumos14"])
@pytest.mark.parametrize("seed", range(4))
def test_kinds_over_all_videos_are_those_of_the_error_analysis(seed: int, rule: Rule) -> None:
    """Thirty detections of a video and two or three instances of a class: all are among the best 10·G."""
    predictions, annotations = drawn(seed)
    whole = analyse_false_positives(predictions, annotations, 0.5, rule)
    counts = np.zeros(len(whole.counts), np.int64)
    for part, video in zip(predictions, annotations, strict=True):
        kinds = judge_video(part, video, 0.5, rule, CLASSES).kinds
        counts += np.bincount(kinds[kinds != NOT_JUDGED], minlength=len(counts))
    assert counts.sum() == sum(map(len, predictions)) or rule == "thumos14"  # which excuses some
    np.testing.assert_array_equal(counts, whole.counts)


@pytest.mark.parametrize("seed", range(3))
def test_the_hits_above_a_score_do_not_depend_on_the_detections_below(seed: int) -> None:
    for part, video in zip(*drawn(seed), strict=True):
        whole = judge_video(part, video)
        for threshold in (0.2, 0.5, 0.8):
            chosen = part.scores >= threshold
            alone = judge_video(part.take(chosen), video)
            np.testing.assert_array_equal(alone.kinds == HIT, whole.kinds[chosen] == HIT)
            np.testing.assert_array_equal(alone.found, whole.found[chosen])


def test_found_and_overlap_are_those_of_the_definition() -> None:
    annotation = truth("v", ("throw", 0, 4), ("jump", 1, 3), ("Ambiguous", 6, 7), ("jump", 10, 12))
    verdict = judge_video(found("v", ("jump", 10.5, 12, 0.9), ("jump", 1, 2, 0.3), ("throw", 6, 7, 0.8)), annotation)
    assert verdict.found.tolist() == [3, 1, -1]
    assert verdict.overlaps.tolist() == pytest.approx([overlap((10.5, 12), (10, 12)), 0.5, 0.0])
    assert verdict.counts(np.array([True, True, True])) == (2, 1)
    assert verdict.counts(np.array([False, False, True])) == (0, 1)
    nothing = judge_video(found("v"), annotation)
    assert (len(nothing.kinds), nothing.counts(np.zeros(0, bool))) == (0, (0, 0))
    assert judge_video(found("v", ("jump", 1, 2, 0.3)), annotation, classes=("throw",)).kinds.tolist() == [NOT_JUDGED]


@pytest.mark.parametrize("tiou", [0.0, 0.1, 1.1])
def test_thresholds_out_of_range_are_refused(tiou: float) -> None:
    with pytest.raises(InputError, match="threshold"):
        judge_video(found("v"), truth("v"), tiou)


@pytest.mark.parametrize("seed", range(3))
def test_a_curve_is_that_of_the_average_precision_and_of_counting(seed: int) -> None:
    predictions, annotations = drawn(seed)
    curves = precision_recall(predictions, annotations, 0.5, "thumos14")
    result = evaluate(predictions, annotations, (0.5,), rule="thumos14")
    assert tuple(curve.name for curve in curves) == result.classes
    for curve, (ap,) in zip(curves, result.ap, strict=True):
        hits = np.diff(curve.recall, prepend=0) > 0
        assert plain_average_precision(hits, curve.truths) == pytest.approx(ap)
        recall, precision = curve.at(0.6)
        kept = curve.scores >= 0.6
        assert (recall, precision) == pytest.approx((hits[kept].sum() / curve.truths, hits[kept].mean()))
        assert curve.at(1.1) == (0.0, 1.0)


def test_a_thinned_curve_passes_through_every_turn() -> None:
    predictions, annotations = drawn(0)
    for curve in precision_recall(predictions, annotations):
        thin = curve.thinned(1000)
        highest: dict[float, float] = {}
        for recall, precision in zip(curve.recall.round(4).tolist(), curve.precision.round(4).tolist(), strict=True):
            highest[recall] = max(highest.get(recall, 0.0), precision)
        drawn_highest: dict[float, float] = {}
        for recall, precision in thin:
            drawn_highest[recall] = max(drawn_highest.get(recall, 0.0), precision)
        assert drawn_highest == highest
        assert len(curve.thinned(5)) <= 5
    assert precision_recall([], annotations)[0].thinned(10) == []
