"""Measure time per window beside multiply-adds and mAP (A2Net, Table XI)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from runtime.benchmark.report import Measurement
from runtime.benchmark.speed import run_benchmark
from runtime.detector import Detector
from runtime.engines import open_engine
from runtime.engines.base import Engine
from runtime.evaluation import evaluate
from runtime.features.feature_set import open_features
from training.config.settings import Config
from training.cross_validation.from_config import keep_set_candidates, run_folder
from training.cross_validation.runner import detection_metrics
from training.deployment.views import open_torch_engine
from training.loop.trainer import LAST
from training.paper_tables.rows import Row
from training.paper_tables.summary import MethodRow, Spread, SummaryTable
from training.paper_tables.tables import TableOptions, make_rows_table
from training.training_set import choose_fold, config_folds


def make_speed_table(
    rows: Sequence[Row],
    engines: Sequence[Path],
    out: Path,
    options: TableOptions,
    *,
    runs: int = 50,
    say: Callable[[str], None] = print,
) -> SummaryTable:
    """Measure time per window beside multiply-adds and mAP (A2Net, Table XI); networks take turns in one process.

    Args:
        rows: rows of one network each; the first checkpoint of each is timed in PyTorch eager.
        engines: exported files, listed after the rows.
        out, options, say: see `make_table`.
        runs: timed passes of each network, after a fifth as many warm-up passes.

    Raises:
        InputError, EngineError: see `run_benchmark` and `open_engine`; others: see `make_table`.
    """
    config = rows[0].networks[0].config
    table = make_rows_table("A2Net, Table XI: time", rows, "mean_ap", out, options, say)
    first = config_folds(config)[0].name
    checkpoints = [run_folder(out / row.networks[0].key, first, options.seeds[0]) / LAST for row in rows]
    opened: list[tuple[str, Engine]] = [(r.label, open_torch_engine(c)) for r, c in zip(rows, checkpoints, strict=True)]
    opened += [(path.name, open_engine(path)) for path in engines]
    try:
        added = [_measure_engine(name, engine, config, options) for name, engine in opened[len(rows) :]]
        report = run_benchmark(opened, warmup=max(runs // 5, 1), runs=runs, say=say)
    finally:
        for _, engine in opened:
            engine.close()
    measured = zip((*table.rows, *added), report.measurements, strict=True)
    timed = tuple(_add_time(row, found, report.measurements[0]) for row, found in measured)
    used = "; ".join(dict.fromkeys(f"{m.library}, {m.precision}" for m in report.measurements))
    note = f"Median of {runs} passes, batch 1, in turns in one process; {report.processor}; {used}."
    return replace(table, rows=timed, notes=(*table.notes, note))


def _add_time(row: MethodRow, found: Measurement, first: Measurement) -> MethodRow:
    time = {"ms per window": found.median_ms, "time / first row's": found.median_ms / first.median_ms}
    return replace(row, facts={**row.facts, **time})


def _measure_engine(name: str, engine: Engine, config: Config, options: TableOptions) -> MethodRow:
    """Measure an engine's mAP on the test videos of `data.fold`; without scores if there are folds and none is
    named."""
    data, folds, scores = config.data, config_folds(config), dict[str, Spread]()
    if len(folds) == 1 or data.fold != "":
        fold = choose_fold(folds, data)
        streams, names = engine.spec.feature_streams, fold.test
        features, videos = open_features(data.features_path, names=names, fold=fold.feature_fold, streams=streams)
        features.require_width(engine.spec.channels)
        detector = Detector(engine, options=options.detection)
        found = keep_set_candidates(detector, features, videos).detections(options.detection)
        metrics = detection_metrics(evaluate(found, videos, options.tious))
        scores = {metric: Spread(value, folds=(value,)) for metric, value in metrics.items()}
    return MethodRow(name, scores, {"M multiply-adds": engine.spec.multiply_adds / 1e6})
