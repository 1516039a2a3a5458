"""Folds × seeds: each trained and judged once, kept in a file, and told as mean and spread.

What is done for one fold is up to the caller: a function of the fold and the seed that gives its metrics.
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
from runtime.common.files import one_line, read_json, write_json
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.tables import align, percent
from runtime.errors import ConfigError, InputError
from runtime.evaluation.mean_ap import EvaluationResult
from training.data.folds import Fold

FREQUENT_SHARE = 0.05
"""Share of all instances that a class has at least to be called frequent."""

RunFold = Callable[[Fold, int], Mapping[str, float]]
"""Trains on a fold's training videos with a seed, judges on its test videos: name of a metric → value, 0 … 1."""


@dataclass(frozen=True)
class FoldRun:
    """One fold with one seed."""

    fold: str
    seed: int
    videos: str
    """Fingerprint of the fold's videos."""
    metrics: Mapping[str, float]
    """By name, 0 … 1; a metric that has no meaning in a fold is left out."""
    seconds: float
    """That it took."""


@dataclass(frozen=True)
class CrossValidation:
    """What has been run so far; the content of the file."""

    settings: str
    """What was run, in any words: results of other settings are never mixed with these."""
    runs: tuple[FoldRun, ...] = ()
    schema: int = 1

    @property
    def folds(self) -> tuple[str, ...]:
        """Names, in the order run."""
        return tuple(dict.fromkeys(run.fold for run in self.runs))

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({run.seed for run in self.runs}))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names, in the order of the first run that has them."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.metrics))

    def values(self, metric: str) -> NDArray[np.float64]:
        """[folds, seeds] of one metric; NaN where it was not run or has no meaning."""
        values = np.full((len(self.folds), len(self.seeds)), np.nan)
        for run in self.runs:
            values[self.folds.index(run.fold), self.seeds.index(run.seed)] = run.metrics.get(metric, np.nan)
        return values

    def summary(self, metric: str) -> MetricSummary:
        """Means and spreads of one metric; seeds that were not run on all folds do not count for mean and spread."""
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
        """A line per metric in percent: each fold (mean over seeds), mean over folds and seeds, spreads."""
        header = ["%", *self.folds, "mean", "± seeds", "± folds"]
        rows = []
        for metric in self.metrics:
            found = self.summary(metric)
            cells = [*found.folds, found.mean, found.over_seeds, found.over_folds]
            rows.append([metric, *("–" if math.isnan(cell) else percent(cell) for cell in cells)])
        minutes = sum(run.seconds for run in self.runs) / 60
        seeds = ", ".join(map(str, self.seeds))
        return f"{align([header, *rows])}\n{len(self.runs)} runs, seeds {seeds}, {minutes:.1f} minutes together"


@dataclass(frozen=True, eq=False)
class MetricSummary:
    """One metric over folds and seeds; NaN where there is nothing to average, or no second value to differ from."""

    folds: NDArray[np.float64]
    """[F] mean over the seeds."""
    mean: float
    """Mean over the seeds of the mean over the folds."""
    over_seeds: float
    """Standard deviation (n − 1) over the seeds of the mean over the folds: how far to trust `mean`."""
    over_folds: float
    """Standard deviation (n − 1) over the folds of their means."""


def cross_validate(
    folds: Sequence[Fold],
    seeds: Sequence[int],
    run_fold: RunFold,
    path: Path,
    *,
    settings: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> CrossValidation:
    """Run all folds with all seeds, seed by seed; those that `path` has already are not run again.

    The file is written after each run, so an interruption costs the run it fell into.

    Args:
        folds: of one cross-validation; names differ.
        seeds: of the runs; they differ.
        run_fold: see `RunFold`.
        path: JSON file with what has been run.
        settings: see `CrossValidation.settings`.
        progress: told what is run next, in words.

    Raises:
        InputError: no fold or seed, one given twice, or a metric that is not finite.
        ConfigError: `path` is no such file, or holds results of other settings or other folds.
    """
    _require_once([fold.name for fold in folds], "fold")
    _require_once(list(seeds), "seed")
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
        run = FoldRun(fold.name, seed, _fingerprint(fold), metrics, time.perf_counter() - started)
        done = replace(done, runs=(*done.runs, run))
        write_json(path, to_mapping(done))
    asked = {(fold.name, seed) for fold, seed in pairs}
    return replace(done, runs=tuple(run for run in done.runs if (run.fold, run.seed) in asked))


def detection_metrics(result: EvaluationResult, frequent: Iterable[str] = ()) -> dict[str, float]:
    """mAP of one fold by tIoU and on average, for all classes that its test videos have and for the frequent ones.

    Args:
        result: of the fold's test videos; classes without instances there are in no mean.
        frequent: names of classes; none of them in the test videos: their mean is left out.
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
                f"fold {fold.name}, seed {seed}: {name} is {value}, expected a number; leave it out instead"
            )
    return {name: float(value) for name, value in metrics.items()}


def _fingerprint(fold: Fold) -> str:
    """The same for the same videos, in any order, and the same features."""
    content = json.dumps([sorted(fold.train), sorted(fold.test), fold.feature_fold])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _require_same_videos(run: FoldRun, fold: Fold, path: Path) -> None:
    if run.videos != _fingerprint(fold):
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
    """Mean of each row, over what is not NaN."""
    return np.array([_mean(row) for row in values])


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _deviation(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan
