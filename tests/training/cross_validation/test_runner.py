"""Folds × seeds: what is run, what is kept over an interruption, and means and spreads against numpy's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.annotations.activitynet import load_annotations
from runtime.errors import AfsdError, ConfigError, InputError
from runtime.evaluation import evaluate
from runtime.results.detections import Detections
from tests.evaluation_cases import drawn
from tests.shared import shared
from training.cross_validation.runner import CrossValidation, cross_validate, detection_metrics, frequent_classes
from training.data.folds import Fold, FoldRule, make_folds

FOLDS = (Fold("1", ("a", "b"), ("c",)), Fold("2", ("a", "c"), ("b",)), Fold("3", ("b", "c"), ("a",)))
SEEDS = (0, 7)
VALUES = np.array([[0.2, 0.3], [0.5, 0.9], [0.4, 0.1]])
"""[folds, seeds]"""


class Runner:
    """Gives VALUES, counts its calls, and stops like Ctrl-C before the call that is one too many."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.calls: list[tuple[str, int]] = []
        self._stop_before = stop_before

    def __call__(self, fold: Fold, seed: int) -> dict[str, float]:
        if len(self.calls) == self._stop_before:
            raise KeyboardInterrupt
        self.calls.append((fold.name, seed))
        metrics = {"mAP": float(VALUES[int(fold.name) - 1, SEEDS.index(seed)])}
        return metrics if fold.name == "2" else metrics | {"rare": metrics["mAP"] / 2}


def test_mean_and_spread_are_numpys(tmp_path: Path) -> None:
    told: list[str] = []
    runner = Runner()
    result = cross_validate(FOLDS, SEEDS, runner, tmp_path / "cv.json", progress=told.append)
    assert runner.calls == [(fold.name, seed) for seed in SEEDS for fold in FOLDS]
    assert told[3] == "run 4 of 6: fold 1, seed 7"
    np.testing.assert_array_equal(result.values("mAP"), VALUES)
    found = result.summary("mAP")
    np.testing.assert_allclose(found.folds, [0.25, 0.7, 0.25])
    assert found.mean == pytest.approx(VALUES.mean())
    assert found.over_seeds == pytest.approx(np.std(VALUES.mean(axis=0), ddof=1))
    assert found.over_folds == pytest.approx(np.std(VALUES.mean(axis=1), ddof=1))
    rare = result.summary("rare")
    assert rare.mean == pytest.approx(VALUES[[0, 2]].mean() / 2)
    assert np.isnan(rare.folds[1])
    lines = result.table().splitlines()
    assert lines[0].split() == ["%", "1", "2", "3", "mean", "±", "seeds", "±", "folds"]
    assert lines[1].split() == ["mAP", "25.00", "70.00", "25.00", "40.00", "4.71", "25.98"]
    assert lines[2].split() == ["rare", "12.50", "–", "12.50", "12.50", "3.54", "0.00"]
    assert lines[3].startswith("6 runs, seeds 0, 7, ")


def test_an_interruption_costs_the_run_it_falls_into(tmp_path: Path) -> None:
    path = tmp_path / "cv.json"
    with pytest.raises(KeyboardInterrupt):
        cross_validate(FOLDS, SEEDS, Runner(stop_before=4), path, settings="a")
    assert len(json.loads(path.read_text())["runs"]) == 4
    rest = Runner()
    result = cross_validate(FOLDS, SEEDS, rest, path, settings="a")
    assert rest.calls == [("2", 7), ("3", 7)]
    np.testing.assert_array_equal(result.values("mAP"), VALUES)
    nothing = Runner(stop_before=0)
    assert cross_validate(FOLDS, SEEDS, nothing, path, settings="a") == result
    only = cross_validate(FOLDS[:1], SEEDS[1:], nothing, path, settings="a")
    assert [(run.fold, run.seed) for run in only.runs] == [("1", 7)]
    assert only.table().splitlines()[1].split() == ["mAP", "30.00", "30.00", "–", "–"]


def test_a_seed_that_is_not_run_on_all_folds_is_in_no_mean(tmp_path: Path) -> None:
    result = cross_validate(FOLDS, SEEDS, Runner(), tmp_path / "cv.json")
    part = CrossValidation("", result.runs[:4])
    assert part.summary("mAP").mean == pytest.approx(VALUES[:, 0].mean())
    assert part.summary("mAP").folds[0] == pytest.approx(0.25)


def test_results_of_something_else_are_never_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "cv.json"
    cross_validate(FOLDS, SEEDS, Runner(), path, settings="a")
    with pytest.raises(ConfigError, match="holds runs of other settings"):
        cross_validate(FOLDS, SEEDS, Runner(), path, settings="b")
    for changed in (Fold("2", ("a",), ("b", "c")), replace(FOLDS[1], features="1")):
        with pytest.raises(ConfigError, match="fold '2' was run with other videos"):
            cross_validate([changed], SEEDS, Runner(), path, settings="a")
    cross_validate([Fold("2", ("c", "a"), ("b",))], SEEDS, Runner(stop_before=0), path, settings="a")
    path.write_text('{"settings": "a", "runs": [{"fold": "1"}]}')
    with pytest.raises(ConfigError, match=r"not a file of cross-validation runs: runs\[0\].seed: missing"):
        cross_validate(FOLDS, SEEDS, Runner(), path, settings="a")


@pytest.mark.parametrize(
    ("folds", "seeds", "said"),
    [
        ((), SEEDS, "folds none: expected at least one"),
        (FOLDS[:1] * 2, SEEDS, "folds 1, 1: expected at least one, each once"),
        (FOLDS, (3, 3), "seeds 3, 3: expected"),
    ],
)
def test_folds_and_seeds_that_cannot_be(
    tmp_path: Path, folds: tuple[Fold, ...], seeds: tuple[int, ...], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        cross_validate(folds, seeds, Runner(), tmp_path / "cv.json")


def test_a_metric_that_is_no_number_is_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(AfsdError, match="fold 1, seed 0: mAP is nan, expected a number"):
        cross_validate(FOLDS, SEEDS, lambda fold, seed: {"mAP": float("nan")}, tmp_path / "cv.json")
    assert not (tmp_path / "cv.json").exists()


def test_metrics_of_a_fold_are_those_of_its_classes() -> None:
    detections, videos = drawn(0)
    result = evaluate(detections, videos, (0.1, 0.5))
    metrics = detection_metrics(result, ("throw", "unseen"))
    throw = result.classes.index("throw")
    assert metrics == {
        "mAP@0.10": pytest.approx(result.ap[:, 0].mean()),
        "mAP@0.50": pytest.approx(result.ap[:, 1].mean()),
        "mAP average": pytest.approx(result.ap.mean()),
        "frequent mAP@0.10": pytest.approx(result.ap[throw, 0]),
        "frequent mAP@0.50": pytest.approx(result.ap[throw, 1]),
        "frequent mAP average": pytest.approx(result.ap[throw].mean()),
    }
    assert list(detection_metrics(result, ("unseen",))) == list(metrics)[:3]
    alone = result.of_classes(["throw"])
    only = [replace(v, instances=tuple(i for i in v.instances if i.label == "throw")) for v in videos]
    np.testing.assert_array_equal(alone.ap, evaluate(detections, only, (0.1, 0.5)).ap)
    assert (alone.truths.sum(), alone.classes) == (sum(len(v.instances) for v in only), ("throw",))
    with pytest.raises(InputError, match="no instance of unseen in the ground truth"):
        result.of_classes(["unseen"])


def test_gtea_truth_scores_one_in_every_fold_and_six_verbs_are_frequent(tmp_path: Path) -> None:
    path = shared("data/gtea/gtea.json")
    videos = load_annotations(path)
    frequent = frequent_classes(videos)
    assert frequent == ("close", "open", "pour", "put", "scoop", "take")
    classes = tuple(sorted({i.label for v in videos for i in v.instances}))

    def run(fold: Fold, seed: int) -> dict[str, float]:
        truth = [video for video in videos if video.name in fold.test]
        found = [
            Detections(
                np.array([(i.start_s, i.end_s) for i in video.instances]),
                np.array([classes.index(i.label) for i in video.instances], np.int32),
                np.ones(len(video.instances)),
                classes,
                video.name,
            )
            for video in truth
        ]
        return detection_metrics(evaluate(found, truth, [k / 10 for k in range(1, 8)]), frequent)

    folds = make_folds(path, FoldRule(by="splits"))
    result = cross_validate(folds, [0], run, tmp_path / "cv.json")
    assert len(result.metrics) == 16
    for metric in result.metrics:
        assert result.values(metric).tolist() == [[1.0]] * 4
