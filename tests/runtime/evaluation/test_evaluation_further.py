"""THUMOS'14's rule, durations, proposals: published numbers, plain loops, cases by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.annotations.activitynet import VideoAnnotation, load_annotations
from runtime.annotations.thumos14 import CLASS_IDS, read_kit_annotations, read_table_annotations
from runtime.cli import main
from runtime.errors import AnnotationError, InputError
from runtime.evaluation import (
    ACTIVITYNET_TIOUS,
    THUMOS_RECALL_TIOUS,
    Rule,
    analyse_false_positives,
    evaluate,
    evaluate_durations,
    evaluate_proposals,
    format_table,
    match_by_truth,
    plain_average_precision,
)
from runtime.evaluation.error_kinds import KINDS
from runtime.results.detections import Detections, load_detections, write_results
from runtime.results.thumos14 import read_text_detections
from tests.evaluation_cases import CLASSES, drawn, found, overlap, truth, write_golden_evaluation
from tests.shared import shared

FURTHER = ("--proposals", "--false-positives", "--false-positive-tiou", "0.7")
ALL_TIOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def kit_average_precision(
    predictions: list[Detections], videos: list[VideoAnnotation], name: str, tiou: float
) -> float:
    """The kit's rule in plain loops: video by video, instance by instance."""
    judged, count = [], 0
    for video in sorted(videos, key=lambda video: video.name):
        rows = [d for p in predictions if p.video == video.name for d in p if d.label == name]
        rows.sort(key=lambda d: -d.score)
        fate = ["false"] * len(rows)
        for instance in (i for i in video.instances if i.label == name):
            count += 1
            free = [
                (overlap((d.start_s, d.end_s), (instance.start_s, instance.end_s)), -k)
                for k, d in enumerate(rows)
                if fate[k] == "false"
            ]
            if free and max(free)[0] > tiou:
                fate[-max(free)[1]] = "true"
        for k, d in enumerate(rows):
            touches = any(
                overlap((d.start_s, d.end_s), (i.start_s, i.end_s)) > 0
                for i in video.instances
                if i.label == "Ambiguous"
            )
            if fate[k] == "true" or not touches:
                judged.append((-d.score, fate[k]))
    judged.sort(key=lambda row: row[0])
    hits, total = 0, 0.0
    for number, (_, fate_) in enumerate(judged, 1):
        if fate_ == "true":
            hits += 1
            total += hits / number
    return total / count


def test_the_published_detections_give_the_published_row() -> None:
    """A2Net Table III, anchor-free branch."""
    predictions = read_text_detections(shared("data/thumos14/a2net_anchor_free_detections.txt"))
    videos = read_kit_annotations(shared("data/thumos14/evalkit_annotation"))
    assert (len(videos), sum(len(video.instances) for video in videos)) == (213, 3457)
    result = evaluate(predictions, videos, ALL_TIOUS, rule="thumos14")
    assert [f"{100 * value:.1f}" for value in result.map] == ["52.1", "51.2", "49.2", "44.2", "36.6", "26.0", "15.0"]
    assert set(result.classes) == set(CLASS_IDS)
    from_table = evaluate(
        predictions, read_table_annotations(shared("data/thumos14/test_Annotation.csv")), ALL_TIOUS, rule="thumos14"
    )
    np.testing.assert_array_equal(from_table.ap, result.ap)


@pytest.mark.parametrize("seed", range(4))
def test_the_kits_rule_against_plain_loops(seed: int) -> None:
    predictions, videos = drawn(seed)
    result = evaluate(predictions, videos, ALL_TIOUS, rule="thumos14")
    assert result.classes == CLASSES
    expected = [[kit_average_precision(predictions, videos, name, tiou) for tiou in ALL_TIOUS] for name in CLASSES]
    np.testing.assert_allclose(result.ap, expected, rtol=0, atol=1e-12)


def test_the_rules_differ_by_hand() -> None:
    videos = [truth("v", ("jump", 0, 10), ("Ambiguous", 20, 30))]
    predictions = [found("v", ("jump", 0, 7, 0.9), ("jump", 0, 10, 0.8), ("jump", 29, 40, 0.95))]
    kit = evaluate(predictions, videos, [0.5], rule="thumos14")
    assert kit.ap[0, 0] == pytest.approx(1 / 2)  # the better fitting second is the hit; the third is excused
    assert evaluate(predictions, videos, [0.5]).ap[0, 0] == pytest.approx(1 / 2)  # the third comes first and is wrong
    exact = [found("v", ("jump", 0, 5, 0.9))]
    assert evaluate(exact, videos, [0.5], rule="thumos14").ap[0, 0] == 0  # 0.5 is not above 0.5
    assert evaluate(exact, videos, [0.5]).ap[0, 0] == 1


def test_match_by_truth_takes_the_better_fit_in_the_order_of_instances() -> None:
    overlaps = np.array([[0.6, 0.7], [0.8, 0.9], [0.8, 0.0]])
    assert match_by_truth(overlaps, 0.5) == [(1, 0), (0, 1)]
    assert match_by_truth(overlaps, 0.8) == [(1, 1)]


def test_plain_average_precision_by_hand() -> None:
    assert plain_average_precision(np.array([True, False, True]), 4) == pytest.approx((1 + 2 / 3) / 4)


@pytest.mark.parametrize("rule", ["activitynet", "thumos14"])
def test_durations_by_hand(rule: str) -> None:
    videos = [truth("v", ("jump", 0, 1), ("jump", 10, 13), ("jump", 20, 29), ("jump", 40, 42))]
    predictions = [found("v", ("jump", 10, 13, 0.9), ("jump", 60, 70, 0.8), ("jump", 0, 1, 0.7), ("jump", 20, 29, 0.6))]
    result = evaluate_durations(predictions, videos, [0.5], [1.5, 5.0], rule)  # type: ignore[arg-type]
    assert result.names == ("< 1.5 s", "1.5 – 5 s", "≥ 5 s")
    assert result.truths.tolist() == [1, 2, 1]
    # the false positive stands before the short and the long one, and behind the first of two middle ones
    assert result.map[:, 0].tolist() == pytest.approx([1 / 2, 1 / 2, 1 / 2])
    empty = evaluate_durations(predictions, videos, [0.5], [50.0], rule)  # type: ignore[arg-type]
    assert np.isnan(empty.map[1]).all()
    assert empty.to_mapping()["bins"][1]["mAP"] == [None]
    assert empty.map[0, 0] == pytest.approx(evaluate(predictions, videos, [0.5], rule=rule).map[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("edges", [(1.5, 2.5, 4.2, 6.9), (1.0, 2.0), (0.5,)])
def test_an_instance_as_long_as_an_edge_belongs_to_the_bin_above(edges: tuple[float, ...]) -> None:
    """A2Net, Table I: <1.5, [1.5, 2.5), [2.5, 4.2), [4.2, 6.9), ≥6.9 s; each instance alone is found."""
    for index, edge in enumerate(edges):
        for length, bin_index in (
            (edge, index + 1),
            (np.nextafter(edge, 0), index),
            (np.nextafter(edge, 9), index + 1),
        ):
            videos, predictions = [truth("v", ("jump", 0, length))], [found("v", ("jump", 0, length, 0.9))]
            result = evaluate_durations(predictions, videos, [0.5], edges)
            alone = [float(b == bin_index) for b in range(len(edges) + 1)]
            assert result.truths.tolist() == alone
            assert np.nan_to_num(result.map[:, 0]).tolist() == alone
    by_default = evaluate_durations([found("v")], [truth("v", ("jump", 0, 1))], [0.5])
    assert by_default.edges == (1.5, 2.5, 4.2, 6.9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("largest", [4.0, 15.0, 100.0])
def test_proposals_against_plain_loops(seed: int, largest: float) -> None:
    predictions, videos = drawn(seed)
    predictions[3] = found("v3")  # a video without proposals still has instances to recall
    result = evaluate_proposals(predictions, videos, ACTIVITYNET_TIOUS, largest)
    total = sum(map(len, predictions))
    kept = {}
    for p in predictions:
        rows = sorted(p, key=lambda d: -d.score)
        kept[p.video] = rows[: min(int(len(rows) * (largest * 5 / total)), len(rows))]
    total_kept = sum(map(len, kept.values()))
    for point in (1, 37, 100):
        share, recalled, count = point / 100 * (largest * 5 / total_kept), 0, 0
        for video in videos:
            rows = kept[video.name][: min(int(len(kept[video.name]) * share), len(kept[video.name]))]
            for instance in (i for i in video.instances if i.label != "Ambiguous"):
                best = max(
                    (overlap((d.start_s, d.end_s), (instance.start_s, instance.end_s)) for d in rows), default=-1
                )
                count += len(ACTIVITYNET_TIOUS)
                recalled += sum(best >= tiou for tiou in ACTIVITYNET_TIOUS)
        assert result.recall[point - 1] == pytest.approx(recalled / count)
        assert result.numbers[point - 1] == pytest.approx(share * total_kept / 5)


def test_area_and_reading_of_the_recall_curve() -> None:
    videos = [truth("a", ("jump", 0, 10)), truth("b", ("jump", 0, 10))]
    predictions = [found("a", ("throw", 0, 10, 0.9)), found("b", ("jump", 0, 10, 0.9))]
    result = evaluate_proposals(predictions, videos, [0.5], 1.0)
    assert result.recall[-1] == 1.0  # whatever the label
    assert result.at(1.0) == 1.0
    assert np.isnan(result.at(2.0))
    assert evaluate_proposals([], videos).auc == 0.0
    full = evaluate_proposals(
        [found("a", *[("jump", 0, 10, 0.5)] * 100), found("b", *[("jump", 0, 10, 0.5)] * 100)], videos
    )
    assert full.auc == pytest.approx(0.99)  # the curve starts at one proposal per video


@pytest.mark.parametrize("rule", ["activitynet", "thumos14"])
def test_videos_without_annotations_count_by_the_kits_rule_alone(rule: Rule) -> None:
    videos = [truth("v", ("jump", 0, 10))]
    predictions = [found("v", ("jump", 0, 10, 0.8)), found("w", ("jump", 0, 10, 0.9), ("throw", 0, 10, 0.9))]
    result = evaluate(predictions, videos, [0.5], rule=rule)
    kit = rule == "thumos14"
    assert result.ap[0, 0] == (0.5 if kit else 1.0)
    assert (result.unannotated, result.ignored) == ((1, 1) if kit else (0, 2))
    assert ("are in videos without annotations" in format_table(result)) == kit
    assert evaluate_durations(predictions, videos, [0.5], [20.0], rule).map[0, 0] == result.ap[0, 0]
    errors = analyse_false_positives(predictions, videos, 0.5, rule)
    assert errors.counts[KINDS.index("background")] == (1 if kit else 0)
    assert errors.gains[KINDS.index("background")] == (0.5 if kit else 0.0)


def test_recall_by_the_thumos_convention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = [truth("v", ("jump", 0, 10), ("jump", 20, 30))]
    rows = [("jump", 0, 10, 0.9), ("jump", 20, 29.1, 0.8), ("jump", 50, 60, 0.7)]  # tIoU 1 and 0.91
    result = evaluate_proposals([found("v", *rows)], videos, THUMOS_RECALL_TIOUS, largest=1000)
    assert result.available == 3
    assert len(THUMOS_RECALL_TIOUS) == 11
    assert result.at(1000) == result.at(50) == pytest.approx((11 + 9) / 22)  # level from the third proposal on
    write_results(tmp_path / "d.json", [found("v", *rows)])
    database = {"v": {"subset": "test", "annotations": [{"label": "jump", "segment": s} for s in ([0, 10], [20, 30])]}}
    (tmp_path / "g.json").write_text(json.dumps({"database": database}))
    files = [str(tmp_path / "d.json"), str(tmp_path / "g.json")]
    assert main(["evaluate", *files, "--proposals", "--proposal-rule", "thumos14"]) == 0
    table = capsys.readouterr().out.splitlines()[-2:]
    assert table[0].split()[4:10] == [f"AR@{n}" for n in (10, 50, 100, 200, 500, 1000)]
    assert "90.91" in table[1]
    assert main(["evaluate", *files, "--proposals"]) == 0
    assert "AR@1000" not in capsys.readouterr().out


def test_the_kit_takes_the_ending_off_names_of_videos(tmp_path: Path) -> None:
    (tmp_path / "found.txt").write_text("video_1.mp4 0 1 26 0.5\nvideo_1 2 3 26 0.4\n")
    assert [(d.video, len(d)) for d in read_text_detections(tmp_path / "found.txt")] == [("video_1", 2)]


def test_the_whole_test_set_under_the_activitynet_rule_with_all_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = write_golden_evaluation(tmp_path)
    files = [str(golden.detections), str(golden.annotations)]
    assert main(["evaluate", *files, "--durations", "--proposals", "--false-positives", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    predictions, videos = load_detections(files[0], keep_inverted=True), load_annotations(files[1], "test")
    assert printed["mAP"] == pytest.approx(evaluate(predictions, videos).map.tolist())
    assert sum(b["truths"] for b in printed["durations"]["bins"]) == sum(len(v.instances) for v in videos)
    assert 0 < printed["proposals"]["auc"] < 1
    assert printed["false_positives"]["kinds"]["true positive"]["count"] > 1000


def test_command_reads_the_challenges_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kit = tmp_path / "annotation"
    kit.mkdir()
    for label in (*CLASS_IDS, "Ambiguous"):
        (kit / f"{label}_test.txt").write_text("video_1  0.0 10.0\n" if label == "Diving" else "")
    (tmp_path / "found.txt").write_text("video_1\t0.5\t10\t26\t0.9\nvideo_1\t50\t60\t22\t0.8\n")
    arguments = ["evaluate", str(tmp_path / "found.txt"), str(kit), "--rule", "thumos14"]
    assert main([*arguments, "--durations", "--duration-edges", "5,20", *FURTHER, "--per-class"]) == 0
    text = capsys.readouterr().out
    assert "Diving         100.00" in text
    for words in ("mAP % by duration", "5 – 20 s", "AUC", "% at tIoU 0.7", "background"):
        assert words in text
    (tmp_path / "found.txt").write_text("video_1 0.5 10 13 0.9\n")
    assert main(arguments) == 2
    assert "line 1: class id '13'; expected one of 7, 9" in capsys.readouterr().err
    (kit / "Shotput_test.txt").unlink()
    assert main(arguments) == 2
    assert "Shotput_test.txt not found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 1 26\n", r"line 1: got 'v 0 1 26', expected video start end class-id score"),
        ("v 0 1 26 0.5\n\nv 0 nan 26 0.5\n", r"line 3: got 'nan', expected a number"),
        ("v 0 1 jump 0.5\n", "class id 'jump'"),
    ],
)
def test_bad_text_detections(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "found.txt").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        read_text_detections(tmp_path / "found.txt")


def test_bad_tables(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("video,start,end\n")
    with pytest.raises(AnnotationError, match="no column type"):
        read_table_annotations(path)
    path.write_text("video,type,start,end\nv,jump,5,3\n")
    with pytest.raises(AnnotationError, match=r"line 2: segment: got \[5, 3\]"):
        read_table_annotations(path)
    path.write_text("video,type,start,end\nv,jump,5\n")
    with pytest.raises(AnnotationError, match="line 2: got None, expected a number"):
        read_table_annotations(path)
    with pytest.raises(AnnotationError, match="cannot be read as a table"):
        read_table_annotations(tmp_path / "missing.csv")


def test_bad_questions() -> None:
    videos, predictions = [truth("v", ("jump", 0, 10))], [found("v", ("jump", 0, 10, 0.9))]
    for edges in ((), (2.0, 1.0), (-1.0,), (float("nan"),)):
        with pytest.raises(InputError, match="edges of durations"):
            evaluate_durations(predictions, videos, [0.5], edges)
    with pytest.raises(InputError, match=r"above 0\.1"):
        analyse_false_positives(predictions, videos, 0.1)
    with pytest.raises(InputError, match="largest number of proposals"):
        evaluate_proposals(predictions, videos, largest=0)
    with pytest.raises(InputError, match="v: a detection holds NaN"):
        evaluate([found("v", ("jump", 0, float("nan"), 0.9))], videos)
    with pytest.raises(AnnotationError, match="no instance"):
        evaluate_proposals(predictions, [truth("v", ("Ambiguous", 0, 1))])


def test_activitynets_two_names_of_a_video_are_one(tmp_path: Path) -> None:
    predictions = [found("v_one", ("jump", 0, 10, 0.9)), found("two", ("jump", 0, 10, 0.9))]
    videos = [truth("one", ("jump", 0, 10)), truth("v_two", ("jump", 0, 10))]
    result = evaluate(predictions, videos, [0.5])
    assert (result.map[0], result.ignored) == (1.0, 0)
    exact = [truth("one", ("jump", 20, 30)), truth("v_one", ("jump", 0, 10)), truth("two", ("jump", 0, 10))]
    assert evaluate(predictions, exact, [0.5]).ap[0, 0] == pytest.approx(2 / 3)  # a name of its own goes first


def test_bad_durations_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path / "d.json", [found("v", ("jump", 0, 10, 0.9))])
    database = {"v": {"subset": "test", "annotations": [{"label": "jump", "segment": [0, 10]}]}}
    (tmp_path / "g.json").write_text(json.dumps({"database": database}))
    assert (
        main(
            ["evaluate", str(tmp_path / "d.json"), str(tmp_path / "g.json"), "--durations", "--duration-edges", "short"]
        )
        == 2
    )
    assert "--duration-edges: got 'short', expected rising seconds" in capsys.readouterr().err
