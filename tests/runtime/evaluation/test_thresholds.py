"""Precision, recall and F1 by score, against matching anew what lies above each score."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.annotations.activitynet import Instance, VideoAnnotation
from runtime.errors import AnnotationError, InputError
from runtime.evaluation import evaluate_thresholds, match_by_score
from runtime.results.detections import Detections
from runtime.segments import tiou

CLASSES = ("a", "b")


def made(seed: int) -> tuple[list[Detections], list[VideoAnnotation]]:
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for video in ("v1", "v2", "v3"):
        starts = np.sort(rng.uniform(0, 50, 5))
        labels = rng.integers(0, 2, 5)
        spans = np.stack([starts, starts + rng.uniform(1, 6, 5)], 1)
        instances = tuple(Instance(float(s), float(e), CLASSES[k]) for (s, e), k in zip(spans, labels, strict=True))
        truth.append(VideoAnnotation(video, "", None, None, instances))
        near = np.repeat(spans, 3, 0) + rng.normal(0, 0.8, (15, 2))
        scores = rng.integers(1, 12, 15) / 12
        found.append(Detections(np.sort(near, 1), np.repeat(labels, 3).astype(np.int32), scores, CLASSES, video))
    return found, truth


def counts(found: list[Detections], truth: list[VideoAnnotation], limit: float, score: float) -> dict[str, np.ndarray]:
    """Shown, hits and instances of each class: everything below the score is taken away, the rest is matched anew."""
    totals = {name: np.zeros(3, int) for name in CLASSES}
    for part, video in zip(found, truth, strict=True):
        above = part.above(score).sorted("score")
        for k, name in enumerate(CLASSES):
            own = above.take(above.labels == k)
            spans = np.array([(i.start_s, i.end_s) for i in video.instances if i.label == name]).reshape(-1, 2)
            overlaps = tiou(own.segments[:, None], spans[None]) if len(own) and len(spans) else np.zeros((0, 0))
            totals[name] += (len(own), len(match_by_score(overlaps, limit)), len(spans))
    return totals


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [0.3, 0.5])
def test_every_score_is_judged_as_if_nothing_lay_below_it(seed: int, limit: float) -> None:
    found, truth = made(seed)
    scores = np.unique(np.concatenate([part.scores for part in found]))
    f1 = {}
    for score in scores.tolist():
        result = evaluate_thresholds(found, truth, limit, score)
        expected = counts(found, truth, limit, score)
        for name in CLASSES:
            quality = result.classes[name][0]
            assert [quality.shown, quality.hits, quality.instances] == expected[name].tolist()
        shown, hits, instances = sum(expected.values()).tolist()  # type: ignore[attr-defined]
        assert result.chosen.precision == pytest.approx(hits / shown)
        assert result.chosen.recall == pytest.approx(hits / instances)
        f1[score] = 2 * hits / (shown + instances)
    best = evaluate_thresholds(found, truth, limit).best
    assert best is not None
    assert best.f1 == pytest.approx(max(f1.values()))
    top = max(score for score, value in f1.items() if value == max(f1.values()))
    below = max([0.0, *(score for score in scores.tolist() if score < top)])
    assert below < best.threshold <= top  # shows just the same detections
    assert len(str(best.threshold)) <= len(str(top))


def test_a_threshold_is_as_round_as_it_can_be() -> None:
    truth = [VideoAnnotation("v", "", None, None, (Instance(0, 1, "a"), Instance(2, 3, "a")))]
    segments = np.array([[0, 1], [2, 3], [5, 6]], float)
    found = [Detections(segments, np.zeros(3, np.int32), np.array([0.93, 0.714159, 0.7065]), ("a",), "v")]
    best = evaluate_thresholds(found, truth).best
    assert best is not None
    assert (best.threshold, best.precision, best.recall) == (0.71, 1.0, 1.0)


def test_without_a_hit_there_is_no_best() -> None:
    truth = [VideoAnnotation("v", "", None, None, (Instance(0, 1, "a"),))]
    found = [Detections(np.array([[5.0, 6.0]]), np.zeros(1, np.int32), np.ones(1), ("a",), "v")]
    result = evaluate_thresholds(found, truth)
    assert result.best is None
    assert (result.chosen.f1, result.chosen.shown) == (0.0, 1)
    assert "–" in result.table()
    assert evaluate_thresholds([], truth).chosen.recall == 0


def test_refusals() -> None:
    with pytest.raises(InputError, match="tIoU thresholds"):
        evaluate_thresholds([], [VideoAnnotation("v", "", None, None, (Instance(0, 1, "a"),))], 0.0)
    with pytest.raises(AnnotationError, match="holds no instance"):
        evaluate_thresholds([], [VideoAnnotation("v", "", None, None, ())])
