"""Cross-validate a configuration on features: train and evaluate every fold with every seed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from runtime.annotations.activitynet import VideoAnnotation, load_annotations
from runtime.common.names import path_in
from runtime.detector import Detector, DetectorOptions
from runtime.errors import ConfigError
from runtime.evaluation import evaluate, evaluate_proposals
from runtime.features.feature_set import FeatureSet, open_features
from training.config.files import config_to_mapping
from training.config.settings import Config
from training.cross_validation.kept_candidates import KeptCandidates, keep_candidates, read_candidates, write_candidates
from training.cross_validation.runner import CrossValidation, cross_validate, detection_metrics, frequent_classes
from training.data.folds import Fold
from training.deployment.views import open_torch_engine
from training.families import family_of
from training.loop.trainer import LAST
from training.run import train
from training.training_set import annotations_path, config_folds

RESULTS = "folds.json"
"""Name of the file of results in the folder of the runs."""
RECALL_AT = (50, 100, 200)
"""Average numbers of proposals per video at which a two-stage detector's recall is reported."""
UNNAMED = {
    "data": ("val_subset",),
    "run": ("save_minutes", "validate_every", "val_tiou", "early_stopping", "logger"),
}
"""Settings by section on which results do not depend, and which older files of results lack."""
CANDIDATES = "candidates.npz"
"""Name of the file of a run's candidates before suppression in its test videos, beside the checkpoint."""


def cross_validate_config(
    config: Config,
    out: Path,
    seeds: Sequence[int],
    tious: Sequence[float],
    *,
    options: DetectorOptions | None = None,
    say: Callable[[str], None] = print,
) -> CrossValidation:
    """Train and evaluate every fold of `data.split` with every seed; runs that `out` already holds are not repeated.

    With `data.inner_group` the folds are the inner folds of every fold, or of `data.fold`.

    Args:
        config: configuration on features; its fold and seed are set here.
        out: folder of the runs and of `folds.json`.
        seeds: seeds of the runs.
        tious: tIoU thresholds of mAP (ActivityNet rule).
        options: options of the detector.
        say: called with a line about each run before it starts.

    Raises:
        ConfigError: a configuration on frames, or `out` holds results of other settings.
        InputError, AnnotationError: the data is missing or does not fit.
    """
    if config.stream != "features":
        raise ConfigError(f"{config.name}: got a network on {config.stream} frames, expected features")
    if config.data.val_subset:
        raise ConfigError(
            f"data.val_subset is {config.data.val_subset!r}, but cross-validation judges the last weights of each run, "
            "not those that validation chose; leave it out"
        )
    videos = load_annotations(annotations_path(config.data))
    frequent = frequent_classes(videos)

    def run(fold: Fold, seed: int) -> dict[str, float]:
        folder = run_folder(out, fold.name, seed)
        shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted run
        settings = replace(
            config, data=replace(config.data, fold=fold.name), run=replace(config.run, seed=seed, keep_epochs=False)
        )
        train(settings, folder)
        kept = load_run_candidates(settings, out, fold, seed, options)
        truth = [video for video in videos if video.name in fold.test]
        metrics = detection_metrics(evaluate(kept.detections(options), truth, tuple(tious)), frequent)
        return metrics | proposal_metrics(kept, truth) if family_of(config).has_proposals else metrics

    return cross_validate(
        config_folds(config),
        seeds,
        run,
        out / RESULTS,
        settings=_describe_settings(config, tious, options),
        progress=say,
    )


def proposal_metrics(kept: KeptCandidates, truth: Sequence[VideoAnnotation]) -> dict[str, float]:
    """Compute the average recall of a two-stage detector's proposals, and the area under its curve (section III-G)."""
    result = evaluate_proposals(kept.proposals(), truth, largest=max(RECALL_AT))
    if not result.available:
        return {f"AR@{number}": 0.0 for number in RECALL_AT} | {"AUC": 0.0}
    return {f"AR@{number}": result.at(number) for number in RECALL_AT} | {"AUC": result.auc}


def run_folder(out: Path, fold: str, seed: int) -> Path:
    """Return the folder of the checkpoint and the candidates of one run."""
    return path_in(out, fold.replace("/", "-"), f"-seed-{seed}", what="the name of a fold")


def load_run_candidates(
    config: Config, out: Path, fold: Fold, seed: int, options: DetectorOptions | None = None
) -> KeptCandidates:
    """Read the candidates of one run in its fold's test videos, or find them with its checkpoint and write them.

    Raises:
        CheckpointError: the run has neither candidates nor a checkpoint.
        InputError, AnnotationError: the data is missing or does not fit.
    """
    folder = run_folder(out, fold.name, seed)
    if (folder / CANDIDATES).is_file():
        return read_candidates(folder / CANDIDATES)
    data = config.data
    features, videos = open_features(data.features_path, names=fold.test, fold=fold.feature_fold, streams=data.streams)
    with Detector(open_torch_engine(folder / LAST), options=options) as detector:
        kept = keep_set_candidates(detector, features, videos)
    write_candidates(folder / CANDIDATES, kept)
    return kept


def keep_set_candidates(detector: Detector, features: FeatureSet, videos: Sequence[VideoAnnotation]) -> KeptCandidates:
    """Keep the candidates in videos of a feature set, each named as in the annotations; instances are not read."""
    return KeptCandidates(
        detector.spec, tuple(keep_candidates(detector, features.features(video.name)) for video in videos)
    )


def _describe_settings(config: Config, tious: Sequence[float], options: DetectorOptions | None) -> str:
    """Return all settings that the results depend on, except fold, seed and paths of the data, as JSON."""
    fold = config.data.fold if config.data.inner_group else ""
    data = replace(config.data, root="", fold=fold, workers=0)
    same = replace(config, data=data, run=replace(config.run, seed=0, log_every=1, keep_epochs=False))
    settings = config_to_mapping(same)
    for section, names in UNNAMED.items():
        for name in names:
            settings[section].pop(name)  # type: ignore[attr-defined]
    return json.dumps([settings, list(tious), repr(options or DetectorOptions())], sort_keys=True)
