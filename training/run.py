"""Open the data that a configuration names, train on it and return the checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from runtime.common.files import require_writable_folder
from runtime.common.locks import lock_folder
from runtime.common.overwriting import require_own_file, text_that_begins
from runtime.errors import ConfigError, InputError
from runtime.results.picture_mark import is_picture
from training.config.settings import Config
from training.curves import CURVES
from training.loop import LAST, Trainer
from training.metric_log import METRICS
from training.training_set import open_training_set
from training.validation.best import BEST
from training.validation.validator import open_validator


def train(
    config: Config, out_dir: Path, resume: Path | None = None, prepare: Callable[[Any], None] | None = None
) -> Path:
    """Train as configured and return the path of the last checkpoint (`out_dir`/last.ckpt).

    A network on features trains on the feature set that `data.features` describes. For a network on frames, a missing
    or incomplete frame store is first built from `<root>/videos`. With `data.val_subset` mAP is measured meanwhile, and
    the best weights are kept in `out_dir`/best.ckpt. See `Trainer` for `prepare`.

    Raises:
        AnnotationError, InputError, VideoError: the data is missing or does not fit.
        InputError: another process trains in `out_dir`, nothing can be written there, or files of others are there.
        ConfigError: `out_dir` holds a run and `resume` is None; further cases: see `Trainer`.
        CheckpointError: see `Trainer`.
    """
    require_writable_folder(out_dir, "choose another --out")
    with _hold(out_dir):
        if resume is None and (out_dir / LAST).exists():
            raise ConfigError(
                f"{out_dir}: holds a run already; continue it (--resume {out_dir / LAST}), or choose another --out"
            )
        if resume is None:
            _require_no_strangers(out_dir)
        found = open_training_set(config)
        validator = open_validator(found)
        return Trainer(
            found.config, found.dataset, found.classes, out_dir, resume, prepare, validator, found.videos
        ).run()


def _require_no_strangers(out_dir: Path) -> None:
    """Raise an InputError if files of others have the names of the run's; those of a run that was killed may stay."""
    table = out_dir / METRICS
    require_own_file(table, text_that_begins("step,"), "choose another --out")
    require_own_file(out_dir / CURVES, is_picture, "choose another --out")
    weights = sorted(path for name in ("epoch_*", BEST) for path in out_dir.glob(f"{name}.[cs][ka]*"))
    if weights and not table.exists():
        raise InputError(f"{weights[0]}: is there already, and no run beside it; choose another --out")


def _hold(out_dir: Path) -> AbstractContextManager[None]:
    """Keep other commands from the folder of the run; its further processes, which Fabric starts, share it."""
    return nullcontext() if int(os.environ.get("LOCAL_RANK", "0")) else lock_folder(out_dir, "afsd train", wait_s=0)
