"""Kinds of errors: cases by hand, and a plain loop over detections and instances."""

from __future__ import annotations

import pytest

from runtime.annotations.activitynet import VideoAnnotation
from runtime.evaluation import analyse_false_positives, evaluate
from runtime.evaluation.error_kinds import KINDS
from runtime.results.detections import Detection, Detections
from tests.evaluation_cases import CLASSES, drawn, found, overlap, truth


def test_kinds_of_errors_by_hand() -> None:
    videos = [truth("v", ("jump", 0, 10), ("throw", 20, 30))]
    rows = [
        ("jump", 0, 10, 0.9), ("jump", 1, 10, 0.8), ("jump", 20, 30, 0.7), ("jump", 0, 3, 0.6), ("jump", 27, 30, 0.5),
        ("jump", 50, 60, 0.4), ("throw", 20, 30, 0.9),
    ]  # fmt: skip
    result = analyse_false_positives([found("v", *rows)], videos, 0.5)
    assert dict(zip(KINDS, result.counts.tolist(), strict=True)) == {
        "true positive": 2, "double detection": 1, "wrong label": 1, "localization": 1, "confusion": 1, "background": 1,
    }  # fmt: skip
    assert result.map == 1.0
    assert result.gains.tolist() == [0.0] * 6  # every error stands behind the hits
    assert result.shares[0].tolist() == [1, 0, 0, 0, 0, 0]
    assert result.shares[1, 1] == 1


def test_removing_a_kind_of_error_gains_what_evaluation_says() -> None:
    videos = [truth("v", ("jump", 0, 10), ("jump", 40, 50))]
    rows = [("jump", 80, 90, 0.9), ("jump", 0, 10, 0.8), ("jump", 0, 3, 0.7), ("jump", 40, 50, 0.6)]
    result = analyse_false_positives([found("v", *rows)], videos, 0.5)
    without = [found("v", *rows[1:])]
    gain = evaluate(without, videos, [0.5]).map[0] - result.map
    assert result.gains[KINDS.index("background")] == pytest.approx(gain)
    assert gain > 0


def plain_hits(
    predictions: list[Detections], videos: dict[str, VideoAnnotation], rule: str
) -> set[tuple[str, Detection]]:
    """True positives at tIoU 0.5, by one loop for either rule."""
    hits = set()
    for p in predictions:
        for name in CLASSES:
            rows = sorted((d for d in p if d.label == name), key=lambda d: -d.score)
            spans = [(i.start_s, i.end_s) for i in videos[p.video].instances if i.label == name]
            taken: set[int] = set()
            if rule == "activitynet":
                for d in rows:
                    free = [(overlap((d.start_s, d.end_s), span), j) for j, span in enumerate(spans) if j not in taken]
                    if free and max(free)[0] >= 0.5:
                        taken.add(max(free)[1])
                        hits.add((p.video, d))
            else:
                for span in spans:
                    free = [(overlap((d.start_s, d.end_s), span), j) for j, d in enumerate(rows) if j not in taken]
                    if free and max(free)[0] > 0.5:
                        taken.add(max(free)[1])
                        hits.add((p.video, rows[max(free)[1]]))
    return hits


def error_kind(own: float, other: float) -> str:
    """DETAD's kinds of what is no hit, from the highest tIoU with its own class and with another."""
    if max(own, other) < 0.1:
        return "background"
    near = max(own, other) >= 0.5
    if own >= other:
        return "double detection" if near else "localization"
    return "wrong label" if near else "confusion"


def test_the_instance_overlapped_most_tells_the_kind_of_error() -> None:
    videos = [truth("v", ("jump", 0, 10), ("throw", 8, 20), ("jump", 30, 40), ("throw", 30, 40))]
    rows = [("jump", 6, 14, 0.9), ("jump", 30, 33, 0.8)]  # 4/14 with jump, 6/14 with throw; alike with both
    result = analyse_false_positives([found("v", *rows)], videos, 0.5)
    counts = dict(zip(KINDS, result.counts.tolist(), strict=True))
    assert (counts["confusion"], counts["localization"]) == (1, 1)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("rule", ["activitynet", "thumos14"])
def test_kinds_against_plain_loops(seed: int, rule: str) -> None:
    predictions, videos = drawn(seed)
    result = analyse_false_positives(predictions, videos, 0.5, rule)  # type: ignore[arg-type]
    assert result.map == pytest.approx(evaluate(predictions, videos, [0.5], rule=rule).map[0])  # type: ignore[arg-type]
    by_name, counts = {video.name: video for video in videos}, dict.fromkeys(KINDS, 0)
    hits = plain_hits(predictions, by_name, rule)
    for p in predictions:
        for d in p:
            instances = by_name[p.video].instances
            mine = (d.start_s, d.end_s)
            touches = any(overlap(mine, (i.start_s, i.end_s)) > 0 for i in instances if i.label == "Ambiguous")
            if rule == "thumos14" and touches and (p.video, d) not in hits:
                continue
            own = max(overlap(mine, (i.start_s, i.end_s)) for i in instances if i.label == d.label)
            other = max(overlap(mine, (i.start_s, i.end_s)) for i in instances if i.label not in (d.label, "Ambiguous"))
            counts[error_kind(own, other) if (p.video, d) not in hits else "true positive"] += 1
    assert dict(zip(KINDS, result.counts.tolist(), strict=True)) == counts
    assert all(counts[kind] for kind in KINDS[2:])
