"""Run all folds with all seeds once each, keep the results in a file, and report mean and spread.

The caller gives the function that runs one fold with one seed and returns its metrics.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.files import read_json, require_writable_folder, write_json
from runtime.common.locks import lock_folder
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.tables import align, percent
from runtime.common.text import counted, one_line
from runtime.errors import ConfigError, InputError
from runtime.evaluation.mean_ap import EvaluationResult
from training.data.folds import Fold

FREQUENT_SHARE = 0.05
"""Smallest share of all instances with which a class is called frequent."""

RunFold = Callable[[Fold, int], Mapping[str, float]]
"""Function that trains on a fold with a seed and evaluates on its test videos: name of a metric → value, 0 … 1."""


@dataclass(frozen=True)
class FoldRun:
    """Holds the result of one fold with one seed."""

    fold: str
    seed: int
    videos: str
    """Hash of the fold's videos and features."""
    metrics: Mapping[str, float]
    """Values by name, 0 … 1; a metric that is undefined in a fold is left out."""
    seconds: float
    """Duration of the run."""


@dataclass(frozen=True)
class CrossValidation:
    """Holds the results so far; the content of the file."""

    settings: str
    """Description of the settings; results of other settings are never mixed with these."""
    runs: tuple[FoldRun, ...] = ()
    schema: int = 1

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds in the order run."""
        return tuple(dict.fromkeys(run.fold for run in self.runs))

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({run.seed for run in self.runs}))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics in the order of the first run that has them."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.metrics))

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return the values of one metric [folds, seeds]; NaN where not run or undefined."""
        values = np.full((len(self.folds), len(self.seeds)), np.nan)
        for run in self.runs:
            values[self.folds.index(run.fold), self.seeds.index(run.seed)] = run.metrics.get(metric, np.nan)
        return values

    def summary(self, metric: str) -> MetricSummary:
        """Compute means and spreads of one metric; seeds that were not run on all folds are left out of mean and
        spread."""
        run = {(run.fold, run.seed) for run in self.runs}
        whole = [all((fold, seed) in run for fold in self.folds) for seed in self.seeds]
        values = self.values(metric)
        by_seed = _means(values[:, whole].T)
        return MetricSummary(
            folds=_means(values),
            mean=_mean(by_seed),
            over_seeds=_deviation(by_seed),
            over_folds=_deviation(_means(values[:, whole])),
        )

    def table(self) -> str:
        """Format a line per metric in percent: each fold (mean over seeds), mean over folds and seeds, spreads."""
        header = ["%", *self.folds, "mean", "± seeds", "± folds"]
        rows = []
        for metric in self.metrics:
            found = self.summary(metric)
            cells = [*found.folds, found.mean, found.over_seeds, found.over_folds]
            rows.append([metric, *("–" if math.isnan(cell) else percent(cell) for cell in cells)])
        minutes = sum(run.seconds for run in self.runs) / 60
        seeds = ", ".join(map(str, self.seeds))
        return (
            f"{align([header, *rows])}\n{counted(len(self.runs), 'run')}, seeds {seeds}, {minutes:.1f} minutes together"
        )


@dataclass(frozen=True, eq=False)
class MetricSummary:
    """Holds one metric over folds and seeds; NaN where there are too few values."""

    folds: NDArray[np.float64]
    """Mean over the seeds for each fold [F]."""
    mean: float
    """Mean over the seeds of the mean over the folds."""
    over_seeds: float
    """Standard deviation (n − 1) over the seeds of the mean over the folds, the uncertainty of `mean`."""
    over_folds: float
    """Standard deviation (n − 1) over the folds of their means over the seeds."""


def cross_validate(
    folds: Sequence[Fold],
    seeds: Sequence[int],
    run_fold: RunFold,
    path: Path,
    *,
    settings: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> CrossValidation:
    """Run all folds with all seeds, seed by seed; runs that `path` already has are not repeated.

    The file is written after each run, so that an interruption loses only the current run. One command at a time may
    run in its folder.

    Args:
        folds: folds of one cross-validation, with different names.
        seeds: different seeds of the runs.
        run_fold: see `RunFold`.
        path: JSON file of the results.
        settings: see `CrossValidation.settings`.
        progress: called with a line about each run before it starts.

    Raises:
        InputError: no fold or seed, one given twice, a metric that is not finite, or another command in the folder.
        ConfigError: `path` is a file of another kind, or holds results of other settings or other folds.
    """
    _require_once([fold.name for fold in folds], "fold")
    _require_once(list(seeds), "seed")
    require_writable_folder(path.parent)
    with lock_folder(path.parent, "afsd cross-validate", wait_s=0):
        done = _read(path, settings)
        known = {(run.fold, run.seed): run for run in done.runs}
        pairs = [(fold, seed) for seed in seeds for fold in folds]
        for number, (fold, seed) in enumerate(pairs):
            if (fold.name, seed) in known:
                _require_same_videos(known[fold.name, seed], fold, path)
                continue
            progress(f"run {number + 1} of {len(pairs)}: fold {fold.name}, seed {seed}")
            started = time.perf_counter()
            metrics = _require_finite(run_fold(fold, seed), fold, seed)
            run = FoldRun(fold.name, seed, _hash_videos(fold), metrics, time.perf_counter() - started)
            done = replace(done, runs=(*done.runs, run))
            write_json(path, to_mapping(done))
    asked = {(fold.name, seed) for fold, seed in pairs}
    return replace(done, runs=tuple(run for run in done.runs if (run.fold, run.seed) in asked))


def detection_metrics(result: EvaluationResult, frequent: Iterable[str] = ()) -> dict[str, float]:
    """Return mAP of one fold by tIoU and on average, for all classes of its test videos and for the frequent ones.

    Args:
        result: result on the fold's test videos; classes without instances are left out of the means.
        frequent: names of the frequent classes; without any of them in the test videos their mean is left out.
    """
    metrics = _by_tiou(result, "mAP")
    there = set(frequent) & set(result.classes)
    return metrics | _by_tiou(result.of_classes(there), "frequent mAP") if there else metrics


def frequent_classes(videos: Iterable[VideoAnnotation]) -> tuple[str, ...]:
    """Return the sorted classes that have at least `FREQUENT_SHARE` of the instances of all videos."""
    counts = Counter(instance.label for video in videos for instance in video.instances)
    return tuple(sorted(name for name, count in counts.items() if count >= FREQUENT_SHARE * counts.total()))


def _by_tiou(result: EvaluationResult, name: str) -> dict[str, float]:
    by_tiou = zip(result.tious, result.map.tolist(), strict=True)
    return {f"{name}@{tiou:.2f}": value for tiou, value in by_tiou} | {f"{name} average": result.average}


def _require_once(given: Sequence[object], what: str) -> None:
    if not given or len(set(given)) < len(given):
        raise InputError(f"{what}s {', '.join(map(str, given)) or 'none'}: expected at least one, each once")


def _require_finite(metrics: Mapping[str, float], fold: Fold, seed: int) -> dict[str, float]:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise InputError(
                f"fold {fold.name}, seed {seed}: {name} is {value}, expected a number; leave the metric out instead"
            )
    return {name: float(value) for name, value in metrics.items()}


def _hash_videos(fold: Fold) -> str:
    """Hash the fold's videos, in any order, and its features."""
    content = json.dumps([sorted(fold.train), sorted(fold.test), fold.feature_fold])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _require_same_videos(run: FoldRun, fold: Fold, path: Path) -> None:
    if run.videos != _hash_videos(fold):
        raise ConfigError(f"{path}: fold {fold.name!r} was run with other videos; choose another file for these folds")


def _read(path: Path, settings: str) -> CrossValidation:
    if not path.exists():
        return CrossValidation(settings)
    try:
        done = from_mapping(CrossValidation, read_json(path, "file of cross-validation runs", ConfigError))
    except StructureError as error:
        raise ConfigError(f"{path}: not a file of cross-validation runs: {one_line(error)}") from None
    if done.settings != settings:
        raise ConfigError(f"{path}: holds runs of other settings; choose another file for these, or delete it")
    return done


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average each row over the values that are not NaN."""
    return np.array([_mean(row) for row in values])


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _deviation(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan
