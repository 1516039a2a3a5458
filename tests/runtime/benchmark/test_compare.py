"""Comparing reports: ratios on numbers written by hand, and files that are no reports."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from runtime import cli
from runtime.benchmark.compare import compare_reports, format_comparison
from runtime.benchmark.report import FORMAT, Report, clip_fps_spread, read_report, report_from_mapping
from runtime.errors import InputError
from tests.tiny import tiny_spec, write_tiny_onnx

MACHINE = {"processor": "Abacus 3", "cores": 2, "logical_cores": 4, "load": [0.05, 0.1, 0.1]}


def row(name: str, low: float, median: float, high: float, **changes: Any) -> dict[str, Any]:
    """A row of 256 frames with a median and quartiles in milliseconds."""
    facts = {
        "name": name, "library": "x 1", "device": "cpu", "precision": "fp32", "batch": 1, "warmup": 6, "runs": 11,
        "median_ms": median, "low_ms": low, "high_ms": high, "clip_fps": 256e3 / median, "windows_per_s": 1e3 / median,
        "ratio": 1.0, "gflops": 0.0, "ceiling_share": 0.0,
    }  # fmt: skip
    return facts | changes


def report(*rows: dict[str, Any], ceiling: float = 100.0, **machine: Any) -> Report:
    content = {"format": FORMAT, "schema": 1, "machine": MACHINE | machine, "ceilings": {"fp32": ceiling}}
    return report_from_mapping({**content, "measurements": list(rows)}, "by hand")


def test_ratios_by_hand() -> None:
    old = report(row("a", 900, 1000, 1100), row("b", 190, 200, 210), row("gone", 1, 1, 1))
    new = report(row("b", 185, 195, 205), row("a", 450, 500, 600), row("more", 1, 1, 1), ceiling=90.0)
    found = compare_reports(old, new, "old.json")
    a, b = found.changes
    assert (a.name, a.measure, a.ratio, a.overlap, a.verdict) == ("a", "clip fps", 2.0, False, "faster")
    assert (a.low, a.high) == pytest.approx((900 / 600, 1100 / 450))
    assert (b.ratio, b.low, b.high) == pytest.approx((200 / 195, 190 / 205, 210 / 185))
    assert (b.overlap, b.verdict) == (True, "quartiles overlap")
    assert found.only_old == ("gone fp32 batch 1",)
    assert found.only_new == ("more fp32 batch 1",)
    assert found.ceilings == {"fp32": 0.9}
    assert found.warnings == ()
    text = format_comparison(found)
    assert "2.00× (1.50–2.44)" in text
    assert "the machine's own ceilings, new / old: fp32 0.90×" in text
    assert "only in the old report: gone fp32 batch 1" in text


def test_slower_is_said() -> None:
    (change,) = compare_reports(report(row("a", 9, 10, 11)), report(row("a", 19, 20, 21)), "old").changes
    assert (change.ratio, change.verdict) == (0.5, "slower")


def test_rows_are_matched_by_name_precision_and_batch() -> None:
    old = report(row("a", 8, 8, 8), row("a", 4, 4, 4, precision="bf16"), row("a", 2, 2, 2, batch=2), row("a", 1, 1, 1))
    new = report(row("a", 1, 1, 1, batch=2), row("a", 4, 4, 4), row("a", 5, 5, 5, precision="bf16"), row("a", 2, 2, 2))
    found = compare_reports(old, new, "old")
    assert [(c.precision, c.batch, c.ratio) for c in found.changes] == [
        ("fp32", 1, 2.0), ("bf16", 1, 0.8), ("fp32", 2, 2.0), ("fp32", 1, 0.5)
    ]  # fmt: skip
    assert found.only_old == found.only_new == ()


def test_video_fps_is_compared_by_its_own_runs() -> None:
    old = report(row("a", 10, 10, 10, video_fps=100.0, video_passes_fps=[90.0, 100.0, 110.0]))
    new = report(row("a", 10, 10, 10, video_fps=150.0, video_passes_fps=[140.0, 150.0, 160.0]))
    clip, video = compare_reports(old, new, "old").changes
    assert (clip.measure, clip.verdict) == ("clip fps", "quartiles overlap")
    assert (video.measure, video.ratio, video.verdict) == ("video fps", 1.5, "faster")
    assert (video.low, video.high) == pytest.approx((145 / 105, 155 / 95))
    assert len(compare_reports(old, report(row("a", 10, 10, 10)), "old").changes) == 1  # no video this time


def test_another_machine_and_a_busy_one_are_said() -> None:
    old, new = report(row("a", 1, 1, 1)), report(row("a", 1, 1, 1), processor="Abacus 4", load=[1.9, 0, 0])
    first, second = compare_reports(old, new, "old.json").warnings
    assert first.startswith(
        "old.json is of another machine (Abacus 3, 4 logical cores, 2 used; this is Abacus 4, 4 log"
    )
    assert second == "the machine had other work when a measurement began (load now 1.9 on 2 cores)"


def test_numbers_that_are_0_are_no_measurement() -> None:
    old, new = report(row("a", 0, 1, 1), ceiling=0.0), report(row("a", 1, 1, 1))
    found = compare_reports(old, new, "old")
    assert (found.changes, found.ceilings) == ((), {})
    assert "no speed is in both reports" in format_comparison(found)


def test_quartiles_of_time_turn_around_as_speed() -> None:
    (measured,) = report(row("a", 80, 100, 128)).measurements
    assert clip_fps_spread(measured) == pytest.approx((2000, 2560, 3200))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "no report of a benchmark; expected what afsd benchmark --json prints"),
        ({"format": "afsd model"}, "no report of a benchmark"),
        ({"format": FORMAT, "schema": 9}, r"its schema is 9, this release reads 1; use the release that wrote it"),
        ({"format": FORMAT, "schema": 1}, "damaged, or written by hand: machine: missing; measure again"),
        (
            {"format": FORMAT, "schema": 1, "machine": MACHINE, "ceilings": {}, "measurements": [{"name": 3}]},
            r"damaged, or written by hand: measurements\[0\]\.name: got 3 \(int\), expected str",
        ),
        (
            {"format": FORMAT, "schema": 1, "machine": MACHINE, "ceilings": {}, "measurements": [row("a", 1, -1, 1)]},
            r"damaged, or written by hand: measurements\[0\]: median_ms: got -1\.0, expected 0 … 1e\+300",
        ),
        (
            {"format": FORMAT, "schema": 1, "machine": MACHINE, "ceilings": {"fp32": math.nan}, "measurements": []},
            r"damaged, or written by hand: Report: ceilings\.fp32: got nan, expected a finite number",
        ),
    ],
)
def test_files_that_are_no_reports(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"old\.json: {message}") as caught:
        read_report(path)
    assert "\n" not in str(caught.value)


@pytest.mark.thorough
def test_the_command_prints_json_that_it_compares_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_tiny_onnx(tmp_path / "tiny.onnx", tiny_spec()))
    assert cli.main(["benchmark", model, "--runs", "3", "--warmup", "2", "--json"]) == 0
    printed = capsys.readouterr().out
    content = json.loads(printed)
    assert (content["format"], content["schema"]) == ("afsd benchmark", 1)
    assert len(content["measurements"][0]["passes_ms"]) == 3
    assert content["machine"]["cores"] >= 1
    assert content["machine"]["libraries"]["numpy"]
    assert content["ceilings"]["fp32"] > 0
    old = tmp_path / "old.json"
    old.write_text(printed)
    assert read_report(old).to_mapping() == content
    assert cli.main(["benchmark", model, "--runs", "3", "--warmup", "2", "--compare", str(old), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    (change,) = again["comparison"]["changes"]
    was, now = (c["measurements"][0]["median_ms"] for c in (content, again))
    assert change["ratio"] == pytest.approx(was / now)
    old.write_text(json.dumps(again))
    assert cli.main(["benchmark", model, "--runs", "1", "--warmup", "0", "--compare", str(old)]) == 0
    assert f"compared with {old}" in capsys.readouterr().out
    assert cli.main(["benchmark", model, "--compare", str(tmp_path / "none.json")]) == 2
    assert "none.json: file not found; expected a report of afsd benchmark --json" in capsys.readouterr().err
