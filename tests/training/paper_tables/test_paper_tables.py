"""A2Net's tables on a small feature set: one set of runs, each table against its checkpoints judged here."""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.to_onnx import export_onnx
from runtime.annotations.activitynet import VideoAnnotation, load_annotations
from runtime.cli import main
from runtime.detector import Detector
from runtime.errors import ConfigError, InputError
from runtime.evaluation import evaluate, evaluate_durations, evaluate_proposals
from runtime.features.description import FEATURES, StreamFolder, read_description, write_description
from runtime.features.video_features import Features
from runtime.results.detections import Detections
from tests.training.feature_data import NETWORKS, SMALL, make_feature_set
from training.a2net.config import A2NetConfig
from training.checkpoints.files import load_checkpoint
from training.commands.tables import add_paper_tables
from training.config.files import load_config
from training.config.settings import Config
from training.cross_validation.from_config import CANDIDATES, RESULTS
from training.cross_validation.kept_candidates import fuse_late, read_candidates
from training.deployment.views import multiply_adds, open_torch_engine
from training.paper_tables.rows import Configs, compare_levels, compare_methods, compare_streams
from training.paper_tables.summary import MethodRow, Spread, SummaryTable, require_own_table

FAST = ["optimiser.learning_rate=3e-3", "optimiser.epochs=4", *SMALL[:4], *SMALL[5:]]


def run(root: Path, out: Path, *words: str) -> int:
    """`afsd paper-tables` with small networks and one seed."""
    flags = [flag for s in (f"data.root={root}", *FAST) for flag in ("--set", s)]
    flags += [flag for s in NETWORKS["a2net_gtea"] for flag in ("--set-a2net", s)]
    flags += [flag for s in NETWORKS["gtea"] for flag in ("--set-afsd", s)]
    flags += [flag for s in NETWORKS["two_stage_gtea"] for flag in ("--set-two-stage", s)]
    parser = argparse.ArgumentParser()
    add_paper_tables(parser.add_subparsers())
    args = parser.parse_args(["paper-tables", *words, "--out", str(out), "--seeds", "4", "--tiou", "0.3,0.5", *flags])
    status: int = args.func(args)
    return status


def stored(out: Path, table: str) -> dict[str, dict[str, Any]]:
    return {row["label"]: row for row in json.loads((out / f"{table}.json").read_text())["rows"]}


def judged(root: Path, out: Path, key: str, fold: str) -> tuple[list[Detections], list[VideoAnnotation]]:
    """What the checkpoint of a run finds in its test videos."""
    truth = [video for video in load_annotations(root / "annotations.json") if video.name[0] == fold]
    detector = Detector(open_torch_engine(out / key / f"{fold}-seed-4" / "last.ckpt"))
    files = [root / "rgb" / f"{video.name}.npy" for video in truth]
    return [
        detector.run(Features(f, fps=20, duration_s=v.duration_s)) for f, v in zip(files, truth, strict=True)
    ], truth


@pytest.mark.slow
def test_one_set_of_runs_gives_all_tables_of_the_modules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = make_feature_set(tmp_path / "set"), tmp_path / "out"
    assert run(root, out, "modules") == 0
    assert capsys.readouterr().out.count("run 1 of 2") == 3  # anchor-free, anchor-based, joint
    assert (
        run(root, out, "durations", "proposals", "balance", "levels", "--duration-edges", "1.5", "--proposals", "20")
        == 0
    )
    assert "run 1 of" not in capsys.readouterr().out  # nothing is trained again
    table = stored(out, "modules")
    assert list(table) == ["anchor-free", "anchor-based", "late fusion", "joint"]
    for label, key in (("anchor-free", "af"), ("anchor-based", "ab"), ("joint", "joint")):
        pairs = [judged(root, out, key, fold) for fold in "ab"]
        expected = [evaluate(found, truth, (0.3, 0.5)).average for found, truth in pairs]
        assert table[label]["scores"]["mAP average"]["folds"] == pytest.approx(expected)
        assert max(expected) > 0
        assert table[label]["scores"]["mAP average"]["mean"] == pytest.approx(np.mean(expected))
        if key != "joint":
            recall = [evaluate_proposals(found, truth, largest=20) for found, truth in pairs]
            got = stored(out, "proposals")[label]["scores"]
            assert got["AUC"]["folds"] == pytest.approx([each.auc for each in recall])
            assert got["AR@5"]["folds"] == pytest.approx([each.at(5) for each in recall])
            bins = [evaluate_durations(found, truth, (0.3, 0.5), (1.5,)).map for found, truth in pairs]
            got = stored(out, "durations")[label]["scores"]
            assert got["< 1.5 s @0.30"]["folds"] == pytest.approx([each[0, 0] for each in bins])
            assert got["≥ 1.5 s average"]["folds"] == pytest.approx([each[1].mean() for each in bins])
    ab, af, late = (table[label]["facts"] for label in ("anchor-based", "anchor-free", "late fusion"))
    assert late["M multiply-adds"] == pytest.approx(ab["M multiply-adds"] + af["M multiply-adds"])
    balance = stored(out, "balance")
    assert balance["λ = 0.5"]["scores"] == table["joint"]["scores"] == stored(out, "levels")["3 levels"]["scores"]
    lost = out / "joint" / "a-seed-4" / CANDIDATES
    lost.unlink()
    assert run(root, out, "modules") == 0  # found again by the checkpoint
    assert stored(out, "modules")["joint"]["scores"] == table["joint"]["scores"]


def two_streams(folder: Path) -> Path:
    """The small set with a second stream, of half the width and of noise, and with subsets in place of folds."""
    root = make_feature_set(folder)
    (root / "flow").mkdir()
    rng = np.random.default_rng(8)
    for path in (root / "rgb").glob("*.npy"):
        np.save(root / "flow" / path.name, rng.normal(size=(90, 6)).astype(np.float32))
    source = read_description(root / FEATURES)
    write_description(root / FEATURES, replace(source, streams=(*source.streams, StreamFolder("flow"))))
    document = json.loads((root / "annotations.json").read_text())
    for name, video in document["database"].items():
        video["subset"] = "test" if name[0] == "a" else "training"
    (root / "annotations.json").write_text(json.dumps(document))
    return root


@pytest.mark.slow
def test_streams_alone_early_and_late(tmp_path: Path) -> None:
    root, out = two_streams(tmp_path / "set"), tmp_path / "out"
    assert run(root, out, "streams", "--set", "data.split={by: subsets}", "--stream-weights", "1", "2") == 0
    table = stored(out, "streams")
    assert list(table) == ["stream 0", "stream 1", "early fusion", "late fusion"]
    truth = load_annotations(root / "annotations.json", "test")
    files = [[root / stream / f"{video.name}.npy" for stream in ("rgb", "flow")] for video in truth]
    kept = []
    for key, chosen, width in (("stream-0", [0], 12), ("stream-1", [1], 6), ("joint", [0, 1], 18)):
        detector = Detector(open_torch_engine(out / key / "all-seed-4" / "last.ckpt"))
        assert detector.spec.channels == width
        kept.append(read_candidates(out / key / "all-seed-4" / CANDIDATES))
        for expected, both, video in zip(kept[-1].detections(), files, truth, strict=True):
            given = [both, [both[number] for number in chosen]]  # all streams, or the model's own alone
            for paths in given:
                found = detector.run(Features(list(paths), fps=20, duration_s=video.duration_s))
                np.testing.assert_allclose(found.segments, expected.segments)
    expected_score = evaluate(fuse_late(kept[:2], [1, 2]).detections(), truth, (0.3, 0.5)).average
    assert table["late fusion"]["scores"]["mAP average"]["mean"] == pytest.approx(expected_score)
    assert table["stream 0"]["scores"]["mAP average"]["mean"] > 0


@pytest.mark.slow
def test_two_stages_with_and_without_points(tmp_path: Path) -> None:
    """mAP of the detections and AR@AN of the proposals, judged here from what each run left."""
    root, out = make_feature_set(tmp_path / "set"), tmp_path / "out"
    assert run(root, out, "two-stage", "--set-two-stage", "optimiser.epochs=12") == 0
    for label, key in (("two-stage, anchors", "two-stage-anchors"), ("with anchor-free", "two-stage")):
        assert any(name.startswith("first.af.") for name in weights(out / key)) == (key == "two-stage")
        scores = stored(out, "two-stage")[label]["scores"]
        recalls = []
        for fold in "ab":
            found, truth = judged(root, out, key, fold)
            proposed = read_candidates(out / key / f"{fold}-seed-4" / CANDIDATES).proposals()
            recalls.append(evaluate_proposals(proposed, truth, largest=200))
            assert len(proposed[0]) > 12  # of several windows
        assert scores["AR@50"]["folds"] == pytest.approx([recall.at(50) for recall in recalls])
        assert scores["AUC"]["folds"] == pytest.approx([recall.auc for recall in recalls])
        assert scores["AR@200"]["mean"] > 0.4  # proposals are where actions are
        assert scores["mAP average"]["folds"][1] == pytest.approx(evaluate(found, truth, (0.3, 0.5)).average)
        assert scores["mAP average"]["mean"] > 0.1  # it has learnt
        runs = json.loads((out / key / RESULTS).read_text())["runs"]
        assert runs[0]["metrics"]["AR@50"] == pytest.approx(recalls[0].at(50))


def weights(runs: Path) -> list[str]:
    return list(load_checkpoint(runs / "a-seed-4" / "last.ckpt").weights)


@pytest.mark.slow
def test_rows_of_any_configuration(tmp_path: Path) -> None:
    root = make_feature_set(tmp_path / "set")
    row = ["--row", "Points, alone", "a2net_gtea", *NETWORKS["a2net_gtea"], "a2net.modules=anchor-free"]
    assert run(root, tmp_path / "out", "rows", *row) == 0
    engine = export_onnx(tmp_path / "out" / "points-alone" / "a-seed-4" / "last.ckpt", tmp_path / "a.onnx")
    speed = ["speed", "--engines", str(engine), "--runs", "3", "--set", "data.fold=a"]
    assert run(root, tmp_path / "out", *speed, *row) == 0
    eager, exported = stored(tmp_path / "out", "speed").values()
    assert exported["scores"]["mAP average"]["mean"] == pytest.approx(eager["scores"]["mAP average"]["folds"][0])
    assert eager["facts"]["M multiply-adds"] == exported["facts"]["M multiply-adds"] > 0
    ratio = exported["facts"]["ms per window"] / eager["facts"]["ms per window"]
    assert exported["facts"]["time / first row's"] == pytest.approx(ratio)
    assert "| Points, alone |" in (tmp_path / "out" / "rows.md").read_text()
    assert (tmp_path / "out" / "points-alone" / "a-seed-4" / "last.ckpt").is_file()
    with pytest.raises(InputError, match="expected --row LABEL CONFIG"):
        run(root, tmp_path / "out", "rows")


def test_which_networks_are_trained() -> None:
    configs = Configs(Config(a2net=A2NetConfig()), load_config("gtea"), load_config("two_stage_gtea"))
    rows = compare_levels(configs)
    counts = [multiply_adds(row.networks[0].config) / 1e9 for row in rows]
    assert counts == pytest.approx([1.02, 1.11, 1.18, 1.24], abs=0.006)  # Table VI
    assert [row.label for row in rows] == ["3 levels", "4 levels", "5 levels", "6 levels"]
    shapes = [row.networks[0].config.a2net.level_channels for row in rows]  # type: ignore[union-attr]
    assert shapes[0] == (512, 1024, 1024)
    assert shapes[3] == (512, 1024, 1024, 2048, 2048, 4096)
    keys = [network.key for row in compare_methods(configs) for network in row.networks]
    assert keys == ["af", "ab", "af", "ab", "joint", "afsd-no-pooling", "afsd-no-consistency", "afsd"]
    with pytest.raises(ConfigError, match="features of one stream"):
        compare_streams(configs)


def test_the_table_tells_mean_and_spreads() -> None:
    rows = (
        MethodRow("a", {"mAP": Spread(0.5, 0.01, 0.2, (0.3, 0.7)), "hidden": Spread(0.1)}, {"minutes": 2.0}),
        MethodRow("b", {"mAP": Spread(0.4, 0.02)}),
        MethodRow("c", {"mAP": Spread(0.3, over_folds=0.03)}),
        MethodRow("d", {"mAP": Spread(0.2)}),
    )
    table = SummaryTable("T", rows, ("mAP",), ("note",))
    assert table.markdown().splitlines() == [
        "| T | mAP | minutes |",
        "|---|---|---|",
        "| a | **50.0** ± 1.0 / 20.0 | 2 |",
        "| b | 40.0 ± 2.0 | – |",
        "| c | 30.0 ± – / 3.0 | – |",
        "| d | 20.0 | – |",
        "",
        "note",
    ]
    lines = list(csv.DictReader(table.csv().splitlines()))
    assert lines[1] == {"method": "a", "figure": "hidden", "mean": "10.0000", "over_seeds": "", "over_folds": ""}
    assert table.to_mapping()["rows"][1]["scores"]["mAP"]["over_folds"] is None


@pytest.mark.parametrize("suffix", ["md", "csv", "json"])
def test_a_table_of_others_is_not_written_over(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = SummaryTable("methods", (MethodRow("=1+1 | <b>\n", {"mAP": Spread(0.5)}),), ("mAP",))
    table.write(tmp_path / "modules")
    require_own_table(tmp_path / "modules")
    assert "| =1+1 \\| &lt;b&gt;\\u000a | **50.0** |" in (tmp_path / "modules.md").read_text()
    assert (tmp_path / "modules.csv").read_text().splitlines()[1].startswith("\"'=1+1 | <b>")
    (tmp_path / f"modules.{suffix}").write_text("mine")
    assert main(["paper-tables", "modules", "--out", str(tmp_path)]) == 2
    assert f"modules.{suffix}: is there already and no result of afsd" in capsys.readouterr().err
    assert (tmp_path / f"modules.{suffix}").read_text() == "mine"
