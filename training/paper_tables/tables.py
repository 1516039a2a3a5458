"""Make A2Net's tables on any feature set; networks are trained once, and all tables use their candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from runtime.annotations.activitynet import VideoAnnotation, load_annotations
from runtime.annotations.thumos14 import AMBIGUOUS
from runtime.common.ranges import Positive, Seconds, Seed, Share, check_ranges
from runtime.detector import DetectorOptions
from runtime.evaluation import A2NET_EDGES, evaluate, evaluate_durations, evaluate_proposals
from runtime.evaluation.durations import bin_names
from training.cross_validation.from_config import cross_validate_config, load_run_candidates, proposal_metrics
from training.cross_validation.kept_candidates import KeptCandidates, fuse_late
from training.cross_validation.runner import (
    CrossValidation,
    FoldRun,
    MetricSummary,
    detection_metrics,
    frequent_classes,
)
from training.data.folds import Fold
from training.paper_tables.rows import (
    Configs,
    Measure,
    Network,
    Row,
    compare_afsd,
    compare_balances,
    compare_levels,
    compare_methods,
    compare_modules,
    compare_streams,
    compare_two_stages,
)
from training.paper_tables.summary import MethodRow, Spread, SummaryTable
from training.training_set import annotations_path, config_folds

RUN_TIOUS = tuple(round(0.1 * k, 1) for k in range(1, 8))
"""tIoU thresholds of the runs' own metrics; tables may have others."""
AN = (1, 5, 10, 50, 100, 200, 500, 1000)
"""Average numbers of proposals at which recall is reported."""


Truth = list[VideoAnnotation]
"""Annotations of the test videos of a fold."""
Annotations = Mapping[str, VideoAnnotation]
"""Annotations of all videos of the feature set, by name."""


@dataclass(frozen=True)
class Table:
    """Describes one table of the paper."""

    rows: Callable[[Configs], tuple[Row, ...]]
    measure: Measure = "mean_ap"
    title: str = ""


TABLES: Mapping[str, Table] = {
    "durations": Table(compare_modules, "durations", "A2Net, Table I: by duration"),
    "modules": Table(compare_modules, title="A2Net, Table III: modules"),
    "balance": Table(compare_balances, title="A2Net, Table V: λ"),
    "levels": Table(compare_levels, title="A2Net, Table VI: levels"),
    "streams": Table(compare_streams, title="A2Net, Table VII: features"),
    "proposals": Table(compare_modules, "proposals", "A2Net, Table XIII: proposals"),
    "two-stage": Table(compare_two_stages, "two-stage", "A2Net, section III-G: two stages"),
    "afsd": Table(compare_afsd, title="AFSD on features"),
    "methods": Table(compare_methods, title="A2Net and AFSD"),
}


@dataclass(frozen=True)
class TableOptions:
    """Holds the options of the measurements."""

    seeds: tuple[Seed, ...] = (1, 2, 3)
    tious: tuple[Share, ...] = RUN_TIOUS
    edges: tuple[Seconds, ...] = A2NET_EDGES
    """Edges of the duration bins, seconds; empty: the data's quintiles."""
    proposals: Positive = 100.0
    """Average number of proposals per video up to which recall is measured."""
    detection: DetectorOptions = field(default_factory=DetectorOptions)

    def __post_init__(self) -> None:
        check_ranges(self)


def make_table(
    table: Table, configs: Configs, out: Path, options: TableOptions, say: Callable[[str], None] = print
) -> SummaryTable:
    """Train the networks that `out` lacks, and measure.

    Args:
        table: rows and measure of the table.
        configs: configurations of the networks.
        out: folder of all runs, with a folder per network.
        options: see `TableOptions`.
        say: called with a line about each run before it starts.

    Raises:
        ConfigError: see `cross_validate_config`; or the configurations or the data do not fit the table.
        InputError, AnnotationError: the data is missing or does not fit.
    """
    rows = table.rows(configs)
    return make_rows_table(table.title, rows, table.measure, out, options, say)


def make_rows_table(
    title: str,
    rows: Sequence[Row],
    measure: Measure,
    out: Path,
    options: TableOptions,
    say: Callable[[str], None] = print,
) -> SummaryTable:
    """Make a table from any rows on one feature set (arguments and errors: see `make_table`)."""
    truth = _read_annotations(rows[0].networks[0])
    measure_candidates = partial(_MEASURES[measure], videos=truth, options=options)
    made = tuple(_measure_row(row, truth, measure_candidates, out, options, say) for row in rows)
    names = dict.fromkeys(name for row in made for name in row.scores)
    shown = tuple(name for name in names if not name.startswith("frequent mAP@") and " @" not in name)
    folds, seeds = len(config_folds(rows[0].networks[0].config)), ", ".join(map(str, options.seeds))
    note = f"Percent; mean ± spread over the seeds ({seeds}) / over the folds ({folds}), where there are several."
    return SummaryTable(title, made, shown, (note, *_duration_note(measure, truth, options)))


def train_row(row: Row, out: Path, options: TableOptions, say: Callable[[str], None]) -> list[CrossValidation]:
    """Return the cross-validations of a row's networks, after running what is missing."""

    def say_of(network: Network) -> Callable[[str], None]:
        return lambda text: say(f"{network.key}: {text}")

    return [
        cross_validate_config(n.config, out / n.key, options.seeds, RUN_TIOUS, options=options.detection, say=say_of(n))
        for n in row.networks
    ]


def _measure_row(
    row: Row,
    truth: Annotations,
    measure_candidates: Callable[[KeptCandidates, Truth], Mapping[str, float]],
    out: Path,
    options: TableOptions,
    say: Callable[[str], None],
) -> MethodRow:
    done = train_row(row, out, options, say)
    runs, multiply_adds = [], 0
    for seed in options.seeds:
        for fold in config_folds(row.networks[0].config):
            kept = _load_candidates(row, fold, seed, out, options)
            multiply_adds = sum(each.spec.multiply_adds for each in kept)
            joined = fuse_late(kept, row.weights) if len(kept) > 1 else kept[0]
            metrics = measure_candidates(joined, [truth[name] for name in fold.test])
            runs.append(FoldRun(fold.name, seed, "", metrics, 0.0))
    measured = CrossValidation("", tuple(runs))
    minutes = sum(run.seconds for each in done for run in each.runs) / 60 / len(runs)
    facts = {"M multiply-adds": multiply_adds / 1e6, "minutes per run": minutes}
    return MethodRow(row.label, {name: _spread(measured.summary(name)) for name in measured.metrics}, facts)


def _load_candidates(row: Row, fold: Fold, seed: int, out: Path, options: TableOptions) -> list[KeptCandidates]:
    """Load the candidates of each network of a row in the test videos of a fold."""
    kept = [load_run_candidates(n.config, out / n.key, fold, seed, options.detection) for n in row.networks]
    return kept if row.balance is None else [each.balance(row.balance) for each in kept]


def _read_annotations(network: Network) -> Annotations:
    return {video.name: video for video in load_annotations(annotations_path(network.config.data))}


def _measure_map(kept: KeptCandidates, truth: Truth, *, videos: Annotations, options: TableOptions) -> dict[str, float]:
    found = kept.detections(options.detection)
    return detection_metrics(evaluate(found, truth, options.tious), frequent_classes(videos.values()))


def _measure_durations(
    kept: KeptCandidates, truth: Truth, *, videos: Annotations, options: TableOptions
) -> dict[str, float]:
    """Measure mAP of each bin at the thresholds and on average; empty bins are left out."""
    found = kept.detections(options.detection)
    result = evaluate_durations(found, truth, options.tious, _edges(videos, options))
    bins = [(name, values) for name, values in zip(result.names, result.map, strict=True) if not np.isnan(values[0])]
    average = {f"{name} average": float(values.mean()) for name, values in bins}
    at = {f"{name} @{t:.2f}": float(v) for name, values in bins for t, v in zip(result.tious, values, strict=True)}
    return average | at


def _measure_proposals(
    kept: KeptCandidates, truth: Truth, *, videos: Annotations, options: TableOptions
) -> dict[str, float]:
    result = evaluate_proposals(kept.detections(options.detection), truth, largest=options.proposals)
    recalls = {f"AR@{n}": result.at(n) for n in AN if n <= options.proposals}
    return {name: value for name, value in recalls.items() if not np.isnan(value)} | {"AUC": result.auc}


def _measure_two_stages(
    kept: KeptCandidates, truth: Truth, *, videos: Annotations, options: TableOptions
) -> dict[str, float]:
    """Measure mAP of the detections and recall of the proposals."""
    return _measure_map(kept, truth, videos=videos, options=options) | proposal_metrics(kept, truth)


_MEASURES: Mapping[Measure, Callable[..., dict[str, float]]] = {
    "mean_ap": _measure_map,
    "durations": _measure_durations,
    "proposals": _measure_proposals,
    "two-stage": _measure_two_stages,
}


def _edges(videos: Annotations, options: TableOptions) -> tuple[float, ...]:
    """Return the edges of the options, or the data's quintiles, rounded to 0.1 s if they stay different."""
    if options.edges:
        return options.edges
    quintiles = np.quantile(_lengths(videos), [0.2, 0.4, 0.6, 0.8])
    rounded = np.round(quintiles, 1)
    return tuple((rounded if len(set(rounded)) == len(rounded) and rounded[0] > 0 else quintiles).tolist())


def _lengths(videos: Annotations) -> list[float]:
    """Return the seconds of every instance."""
    return [i.end_s - i.start_s for video in videos.values() for i in video.instances if i.label != AMBIGUOUS]


def _duration_note(measure: Measure, videos: Annotations, options: TableOptions) -> list[str]:
    """Return a note with the number of instances of each bin."""
    if measure != "durations":
        return []
    edges = _edges(videos, options)
    counts = np.bincount(np.searchsorted(edges, _lengths(videos), side="right"), minlength=len(edges) + 1)
    bins = ", ".join(f"{name}: {count}" for name, count in zip(bin_names(edges), counts.tolist(), strict=True))
    return [f"Instances of all videos: {bins}."]


def _spread(found: MetricSummary) -> Spread:
    return Spread(found.mean, found.over_seeds, found.over_folds, tuple(found.folds.tolist()))
