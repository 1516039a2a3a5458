"""Numbers and words that a caller of the Python interface gives: what no function can take is one InputError."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runtime.annotations.activitynet import Instance, VideoAnnotation
from runtime.clips.plan import plan_cuts
from runtime.errors import InputError
from runtime.evaluation import (
    analyse_false_positives,
    evaluate,
    evaluate_durations,
    evaluate_proposals,
    evaluate_thresholds,
)
from runtime.evaluation.curves import precision_recall
from runtime.evaluation.verdicts import judge_video
from runtime.exchange.files import read_segments, write_segments
from runtime.exchange.record import Segment, VideoSegments
from runtime.report.options import ReportOptions
from runtime.results.detections import Detections
from runtime.results.timeline import draw_timeline
from runtime.results.video_scores import VideoScores
from runtime.suppression.nms import LEAST_SCORE, Gaussian, Hard, hard_nms, soft_nms
from runtime.suppression.nms_stream import NmsStream
from runtime.suppression.selection import Selection

FOUND = Detections(np.array([[0, 1], [2, 3.0]]), np.array([0, 1], np.int32), np.array([0.5, 0.6]), ("a", "b"), "v")
VIDEO = VideoAnnotation("v", "", 10.0, None, (Instance(0, 1, "a"),))
TRUTH = [VIDEO]
SEGMENTS = VideoSegments("v", (Segment(0, 1, "a", 0.5),))
SCORES = VideoScores(("a", "b"), {"v": np.array([0.5, 0.6])})
PROPOSALS = Detections.empty(["action"], "v")
NUMBERS: dict[str, Callable[[Any], object]] = {
    "above": FOUND.above,
    "merge_gap": lambda x: FOUND.select(merge_gap=x),
    "min_length": lambda x: FOUND.select(min_length=x),
    "plot": lambda x: FOUND.plot("/nowhere/p.png", duration_s=x),
    "save": lambda x: FOUND.save("/nowhere/p.png", duration_s=x),
    "html threshold": lambda x: FOUND.to_html("/nowhere/p.html", threshold=x),
    "html tiou": lambda x: FOUND.to_html("/nowhere/p.html", tiou=x),
    "html duration": lambda x: FOUND.to_html("/nowhere/p.html", duration_s=x),
    "html thumbnails": lambda x: FOUND.to_html("/nowhere/p.html", thumbnails=x),
    "fiftyone": lambda x: FOUND.to_fiftyone(fps=x),
    "index": lambda x: FOUND[x],
    "timeline": lambda x: draw_timeline(FOUND, duration_s=x),
    "timeline width": lambda x: draw_timeline(FOUND, width=x),
    "classes of a selection": Selection,
    "horizon of a selection": lambda x: Selection(2, horizon=x),
    "classes of a stream": lambda x: NmsStream(x, Hard(0.5), LEAST_SCORE, 1.0),
    "horizon of a stream": lambda x: NmsStream(2, Hard(0.5), LEAST_SCORE, x),
    "sigma": Gaussian,
    "threshold of NMS": Hard,
    "floor": lambda x: soft_nms(FOUND.segments, FOUND.scores, 0.5, floor=x),
    "top_k of soft-NMS": lambda x: soft_nms(FOUND.segments, FOUND.scores, 0.5, top_k=x),
    "top_k of NMS": lambda x: hard_nms(FOUND.segments, FOUND.scores, 0.5, top_k=x),
    "tIoUs": lambda x: evaluate([FOUND], TRUTH, x),
    "a tIoU": lambda x: evaluate([FOUND], TRUTH, [x]),
    "edges": lambda x: evaluate_durations([FOUND], TRUTH, edges=x),
    "an edge": lambda x: evaluate_durations([FOUND], TRUTH, edges=[x]),
    "tIoUs of proposals": lambda x: evaluate_proposals([FOUND], TRUTH, x),
    "largest": lambda x: evaluate_proposals([FOUND], TRUTH, largest=x),
    "recall at": lambda x: evaluate_proposals([FOUND], TRUTH).at(x),
    "tIoU of errors": lambda x: analyse_false_positives([FOUND], TRUTH, x),
    "tIoU of a verdict": lambda x: judge_video(FOUND, VIDEO, x),
    "tIoU of a threshold": lambda x: evaluate_thresholds([FOUND], TRUTH, x),
    "threshold": lambda x: evaluate_thresholds([FOUND], TRUTH, 0.5, x),
    "tIoU of a curve": lambda x: precision_recall([FOUND], TRUTH, x),
    "point of a curve": lambda x: precision_recall([FOUND], TRUTH)[0].at(x),
    "score of cuts": lambda x: plan_cuts(SEGMENTS, min_score=x, top=None, pad_s=0),
    "number of cuts": lambda x: plan_cuts(SEGMENTS, min_score=0, top=x, pad_s=0),
    "time around cuts": lambda x: plan_cuts(SEGMENTS, min_score=0, top=None, pad_s=x),
    "fps": lambda x: read_segments("nowhere.json", fps=x),
    "labels of a video": lambda x: SCORES.label(PROPOSALS, x),
}
WORDS: dict[str, Callable[[Any], object]] = {
    "exclusive": lambda x: FOUND.select(exclusive=x),
    "order": FOUND.sorted,
    "rule": lambda x: evaluate([FOUND], TRUTH, rule=x),
    "rule of durations": lambda x: evaluate_durations([FOUND], TRUTH, rule=x),
    "rule of errors": lambda x: analyse_false_positives([FOUND], TRUTH, rule=x),
    "rule of a report": lambda x: ReportOptions(rule=x),
    "order of equal scores": lambda x: evaluate([FOUND], TRUTH, tie_order=x),
    "unit": lambda x: read_segments("nowhere.json", unit=x),
    "kind": lambda x: read_segments("nowhere.json", kind=x),
    "unit of a table": lambda x: write_segments("nowhere.csv", [SEGMENTS], unit=x),
    "kind of a file": lambda x: write_segments("nowhere.csv", [SEGMENTS], kind=x),
    "format": lambda x: write_segments("nowhere.csv", [SEGMENTS], x),
}
EXACT = {"horizon of a selection", "horizon of a stream"}
"""What may be infinite: then nothing is settled early."""


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_an_error_that_says_what_was_got_and_expected(name: str) -> None:
    for wrong in (math.nan, "1", math.inf, True, b"1", {}):
        if wrong == math.inf and name in EXACT:
            continue
        with pytest.raises(InputError, match=r"got .*expected|detections\[.*expected"):
            NUMBERS[name](wrong)


@pytest.mark.parametrize("name", WORDS)
def test_no_word_is_an_error_that_names_the_words(name: str) -> None:
    for wrong in ("thumos", 1, math.nan, ["class"]):
        with pytest.raises(InputError, match="expected one of"):
            WORDS[name](wrong)


@pytest.mark.parametrize(
    ("segments", "labels", "scores"),
    [
        ([[0.0, "1"]], [0], [0.5]),
        ([[0.0, 1.0]], ["0"], [0.5]),
        ([[0.0, 1.0]], [0.0], [0.5]),
        ([[0.0, 1.0]], [0], ["0.5"]),
        ([[0.0, 1.0]], [0], 0.5),
        ([0.0, 1.0], [0], [0.5]),
        (None, None, None),
    ],
)
def test_detections_of_no_numbers_are_an_error(segments: Any, labels: Any, scores: Any) -> None:
    with pytest.raises(InputError, match=r"got .*expected"):
        Detections(segments, labels, scores, ("a",))


def test_detections_of_lists_are_those_of_arrays() -> None:
    found = Detections([[0, 1], [2, 3]], [0, 1], [0.5, 0.6], ("a", "b"), "v")  # type: ignore[arg-type]
    assert [*found] == [*FOUND]
    assert repr(found) == repr(FOUND)
    assert found.above(np.float32(0.55)).to_json() == FOUND.above(0.55).to_json()
