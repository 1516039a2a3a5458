"""The evaluator against the published one's numbers, a plain loop, and cases worked by hand."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.annotations.activitynet import Instance, VideoAnnotation, load_annotations
from runtime.cli import main
from runtime.errors import AnnotationError, InputError
from runtime.evaluation import evaluate, format_table, interpolated_average_precision, match_by_score, matching
from runtime.evaluation.number_lists import parse_tious
from runtime.results.detections import Detections, load_detections, write_results
from tests.evaluation_cases import CLASSES, found, truth, write_golden_evaluation
from tests.shared import shared

TIE_ORDER = Path(__file__).parents[2] / "golden" / "evaluation_tie_order.npz"


def test_the_published_evaluators_numbers_on_made_up_videos(tmp_path: Path) -> None:
    golden = write_golden_evaluation(tmp_path)
    predictions = load_detections(golden.detections, keep_inverted=True)
    videos = load_annotations(golden.annotations, "test")
    result = evaluate(predictions, videos, golden.published["tiou"])
    order = [result.classes.index(name) for name in golden.published["class_order"]]
    np.testing.assert_allclose(result.ap[order].T, golden.published["ap_per_class_at_each_tiou"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.map, golden.published["mAP"], rtol=0, atol=1e-12)
    assert result.average == pytest.approx(golden.published["average_mAP"], abs=1e-12)
    judged = [d for p in predictions if p.video in {video.name for video in videos} for d in p]
    assert (result.ignored, result.inverted) == (3318 - len(judged), sum(d.end_s < d.start_s for d in judged))
    assert (result.ignored, result.inverted) == (244, 4)


def test_the_published_evaluators_numbers_on_thumos14(tmp_path: Path) -> None:
    """Equal scores are set apart as numpy's unstable sort ordered them on the machine that made the golden numbers."""
    ground_truth = load_annotations(shared("data/thumos14/thumos_gt.json"), "test")
    path = tmp_path / "predictions.json"
    path.write_bytes(gzip.decompress(shared("golden/evaluation_predictions.json.gz").read_bytes()))
    expected = json.loads(shared("golden/evaluation_predictions_map.json").read_text())
    predictions = load_detections(path)
    ranks = np.load(TIE_ORDER)["ranks"].astype(np.float64)
    bounds = np.cumsum([0, *map(len, predictions)])
    apart = [
        replace(p, scores=p.scores - 1e-9 * ranks[first:last])
        for p, first, last in zip(predictions, bounds, bounds[1:], strict=False)
    ]
    result = evaluate(apart, ground_truth, expected["tiou"])
    order = [result.classes.index(name) for name in expected["class_order"]]
    np.testing.assert_allclose(result.ap[order].T, expected["ap_per_class_at_each_tiou"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.map, expected["mAP"], rtol=0, atol=1e-9)
    assert result.average == pytest.approx(expected["average_mAP"], abs=1e-9)
    assert result.ignored == 1
    stable = evaluate(predictions, ground_truth, expected["tiou"])
    assert stable.average == pytest.approx(expected["average_mAP"], abs=1e-3)


@pytest.mark.parametrize("count", [2, 16, 40, 1000])
def test_equal_scores_in_the_order_read_or_as_the_published_evaluator_sorts_them(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One hit among equally scored detections has the precision 1 / rank, and so the average precision.

    The published evaluator sorts by `prediction["score"].values.argsort()[::-1]`, numpy's default sort.
    """
    published = np.full(count, 0.5).argsort()[::-1].tolist()
    ranks = [(place, published.index(place)) for place in range(count)]
    place, rank = max(ranks, key=lambda pair: abs(pair[0] - pair[1]))
    assert place != rank
    rows = [("jump", 0.0, 10.0, 0.5) if k == place else ("jump", 20.0, 30.0, 0.5) for k in range(count)]
    predictions, videos = [found("v", *rows)], [truth("v", ("jump", 0, 10))]
    assert evaluate(predictions, videos, (0.5,)).average == pytest.approx(1 / (place + 1))
    assert evaluate(predictions, videos, (0.5,), "reference").average == pytest.approx(1 / (rank + 1))
    write_results(tmp_path / "d.json", predictions)
    annotation = {"label": "jump", "segment": ["0", "10"]}
    document = {"database": {"v": {"subset": "test", "annotations": [annotation]}}}
    (tmp_path / "g.json").write_text(json.dumps(document))
    command = ["evaluate", str(tmp_path / "d.json"), str(tmp_path / "g.json"), "--json", "--tiou", "0.5"]
    for order, at in (("stable", place), ("reference", rank)):
        assert main([*command, "--tie-order", order]) == 0
        assert json.loads(capsys.readouterr().out)["mAP"] == [pytest.approx(1 / (at + 1))]


def plain_average_precision(
    predictions: list[Detections], ground_truth: list[VideoAnnotation], name: str, threshold: float
) -> float:
    """The ActivityNet evaluator's rule, one detection at a time."""
    rows = [(d, p.video) for p in predictions for d in p if d.label == name]
    rows.sort(key=lambda row: -row[0].score)
    instances = {v.name: [(i.start_s, i.end_s) for i in v.instances if i.label == name] for v in ground_truth}
    count = sum(map(len, instances.values()))
    used: set[tuple[str, int]] = set()
    precisions, recalls, hits = [], [], 0
    rows = [row for row in rows if row[1] in instances]
    for number, (d, video) in enumerate(rows, start=1):
        overlaps = []
        for start, end in instances[video]:
            shared_length = max(0.0, min(end, d.end_s) - max(start, d.start_s))
            overlaps.append(shared_length / (end - start + d.end_s - d.start_s - shared_length))
        for index in sorted(range(len(overlaps)), key=lambda i: -overlaps[i]):
            if overlaps[index] < threshold:
                break
            if (video, index) not in used:
                used.add((video, index))
                hits += 1
                break
        precisions.append(hits / number)
        recalls.append(hits / count)
    area, recall = 0.0, 0.0
    for i, r in enumerate(recalls):
        area += (r - recall) * max(precisions[i:])
        recall = r
    return area


@pytest.mark.parametrize("seed", range(4))
def test_matches_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ground_truth, predictions = [], []
    for name in ("a", "b", "c"):
        instances = [(CLASSES[rng.integers(2)], s, s + rng.uniform(1, 6)) for s in rng.uniform(0, 40, 15)]
        rows = [
            (label, s + rng.normal(), s + 1 + max(e - s - 1, 0.1) + abs(rng.normal()), round(rng.uniform(), 2))
            for label, s, e in instances * 3
        ]
        ground_truth.append(truth(name, *instances))
        predictions.append(found(name, *[(label, s, max(e, s + 0.1), x) for label, s, e, x in rows]))
    predictions = [*predictions[::-1], found("unknown", ("jump", 0, 1, 1.0))]
    tious = (0.1, 0.4, 0.75)
    result = evaluate(predictions, ground_truth, tious)
    for c, name in enumerate(result.classes):
        expected = [plain_average_precision(predictions, ground_truth, name, t) for t in tious]
        np.testing.assert_allclose(result.ap[c], expected, rtol=1e-12)
    assert 0 < result.average < 1
    assert result.ignored == 1


@pytest.mark.parametrize("at_once", [1, 7])
def test_pairs_are_computed_in_parts_of_any_size(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "PAIRS_AT_ONCE", at_once)
    test_matches_plain_loop(1)


def test_no_detections() -> None:
    result = evaluate([], [truth("v", ("jump", 0, 1))])
    assert result.ap.tolist() == [[0.0] * 5]
    assert result.average == 0
    assert result.truths.tolist() == [1]


def test_no_ground_truth() -> None:
    with pytest.raises(AnnotationError, match="no instance"):
        evaluate([found("v", ("jump", 0, 1, 0.9))], [truth("v")])


def test_by_hand() -> None:
    ground_truth = [truth("v", ("jump", 0, 10), ("jump", 20, 30)), truth("w")]
    predictions = [
        found("v", ("jump", 0, 10, 0.9), ("jump", 0, 9, 0.8), ("jump", 21, 30, 0.6), ("throw", 0, 10, 1.0)),
        found("w", ("jump", 0, 10, 0.7)),
    ]
    result = evaluate(predictions, ground_truth, (0.5, 0.95))
    # Best first: hit, second claim of one instance, video without instances, hit (tIoU 0.9).
    assert result.ap.tolist() == [[pytest.approx(0.5 * 1 + 0.5 * 2 / 4), 0.5]]
    assert result.detections.tolist() == [4]
    assert result.ignored == 1


def test_an_inverted_detection_is_a_false_positive() -> None:
    result = evaluate([found("v", ("jump", 5, 3, 0.9), ("jump", 0, 10, 0.8))], [truth("v", ("jump", 0, 10))], (0.3,))
    assert result.ap.tolist() == [[0.5]]
    assert result.inverted == 1


@pytest.mark.parametrize(
    ("overlaps", "claimants"),
    [
        (np.zeros((0, 2)), []),
        ([[0.4, 0.2]], []),
        ([[0.5, 0.2], [0.9, 0.6], [0.9, 0.9]], [0, 1]),  # the second takes the second instance: the first is gone
        ([[0.6, 0.6], [0.0, 0.7]], [0]),  # of equal ones the last goes, so none is left for the second
    ],
)
def test_match(overlaps: list[list[float]], claimants: list[int]) -> None:
    assert [row for row, _ in match_by_score(np.array(overlaps), 0.5)] == claimants


def test_interpolated_average_precision() -> None:
    hits = np.array([False, True, True, False])
    assert interpolated_average_precision(hits, 4) == pytest.approx(2 / 4 * 2 / 3)
    assert interpolated_average_precision(np.zeros(0, bool), 4) == 0


@pytest.mark.parametrize("tious", [(), (0.0,), (0.5, 1.1), (float("nan"),)])
def test_bad_thresholds(tious: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="tIoU thresholds"):
        evaluate([], [truth("v", ("jump", 0, 1))], tious)


@pytest.mark.parametrize(
    ("text", "tious"),
    [("0.3:0.1:0.7", (0.3, 0.4, 0.5, 0.6, 0.7)), ("0.5,0.75", (0.5, 0.75)), ("0.5", (0.5,)), ("0.5:0.05:0.5", (0.5,))],
)
def test_parse_tious(text: str, tious: tuple[float, ...]) -> None:
    assert parse_tious(text) == tious


@pytest.mark.parametrize("text", ["", "x", "0.3:0.7", "0.7:0.1:0.3", "0.3:0:0.7", "0.7:-0.1:0.3"])
def test_bad_tious(text: str) -> None:
    with pytest.raises(InputError, match="--tiou"):
        parse_tious(text)


@pytest.mark.parametrize("text", ["0:1e-9:1", "0:1e-400:1", "0.1:inf:nan", "0:0.1:1e400", "0.5," * 1000 + "0.5"])
def test_thresholds_without_number_are_refused_before_they_are_made(text: str) -> None:
    with pytest.raises(InputError, match=r"--tiou: got .*, expected ") as caught:
        parse_tious(text)
    assert len(str(caught.value)) < 250


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detections, ground_truth = tmp_path / "d.json", tmp_path / "g.json"
    write_results(detections, [found("v", ("jump", 0, 10, 0.9), ("throw", 0, 10, 0.9))])
    annotation = {"label": "jump", "segment": ["0", "10"]}
    ground_truth.write_text(json.dumps({"database": {"v": {"subset": "test", "annotations": [annotation]}}}))
    files = [str(detections), str(ground_truth)]
    assert main(["evaluate", *files, "--json", "--tiou", "0.5,0.75"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["mAP"] == [1.0, 1.0]
    assert printed["classes"] == {"jump": {"ap": [1.0, 1.0], "truths": 1, "detections": 1}}
    assert main(["evaluate", *files, "--per-class"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["jump", *["100.00"] * 6, "1", "1"]
    assert lines[3].startswith("1 of the detections are left out")
    assert main(["evaluate", *files, "--subset", "validation"]) == 2
    assert "the file has 'test'" in capsys.readouterr().err


def test_table_columns_are_aligned() -> None:
    result = evaluate([], [truth("v", ("jump", 0, 1), ("a very long name of a class", 0, 1))])
    lines = format_table(result, per_class=True).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_a_video_with_detections_under_two_names_is_refused_and_under_another_spelling_found() -> None:
    """ "v_x" is ActivityNet's other name of "x"; "é" is one letter in annotations and two in a Mac's file names."""
    instances = (Instance(1.0, 2.0, "a"),)
    one = Detections(np.array([[1.0, 2.0]]), np.zeros(1, np.int32), np.array([0.9]), ("a",))
    for known, given in (("x", "v_x"), ("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "v_caf\u00e9")):
        videos = [VideoAnnotation(known, "test", None, None, instances)]
        assert evaluate([replace(one, video=given)], videos, (0.5,)).average == 1.0
        parts = [replace(one, video=name) for name in (known, given)]
        assert evaluate([parts[0], parts[0]], videos, (0.5,)).average == 1.0  # parts of one video
        with pytest.raises(InputError, match="has detections under the names"):
            evaluate(parts, videos, (0.5,))
