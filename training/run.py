"""Open the data that a configuration names, train on it and return the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from runtime.common.files import require_writable_folder
from runtime.common.locks import lock_folder
from runtime.common.overwriting import require_own_file, text_that_begins
from runtime.errors import ConfigError, InputError
from runtime.results.picture_mark import is_picture
from training.config.settings import Config
from training.loop.curves import CURVES
from training.loop.metric_log import METRICS
from training.loop.processes import open_fabric, this_process
from training.loop.trainer import LAST, Trainer
from training.training_set import TrainingSet, open_training_set
from training.validation.best import BEST
from training.validation.validator import Validator, open_validator


def train(
    config: Config, out_dir: Path, resume: Path | None = None, prepare: Callable[[Any], None] | None = None
) -> Path:
    """Train as configured and return the path of the last checkpoint (`out_dir`/last.ckpt).

    Of several processes (torchrun, `run.devices`) each calls this function; the first writes to `out_dir`.
    A network on features trains on the feature set that `data.features` describes. For a network on frames, a missing
    or incomplete frame store is first built from `<root>/videos`. With `data.val_subset` mAP is measured meanwhile, and
    the best weights are kept in `out_dir`/best.ckpt. See `Trainer` for `prepare`.

    Raises:
        AnnotationError, InputError, VideoError: the data is missing or does not fit.
        InputError: another process trains in `out_dir`, nothing can be written there, or files of others are there.
        ConfigError: `out_dir` holds a run and `resume` is None; further cases: see `Trainer`.
        CheckpointError: see `Trainer`.
    """
    process = this_process()
    with _hold(out_dir) if process.is_first else nullcontext():
        if process.is_first and resume is None:
            _require_free(out_dir)
        fabric = open_fabric(config)
        fabric.launch()
        found, validator = _open_in_turn(config, fabric)
        return Trainer(
            found.config, found.dataset, found.classes, out_dir, resume, prepare, validator, found.videos, fabric
        ).run()


def _require_free(out_dir: Path) -> None:
    """Raise a ConfigError if the folder holds a run, or an InputError if files of others lie there."""
    if (out_dir / LAST).exists():
        raise ConfigError(
            f"{out_dir}: holds a run already; continue it (--resume {out_dir / LAST}), or choose another --out"
        )
    _require_no_strangers(out_dir)


def _open_in_turn(config: Config, fabric: Fabric) -> tuple[TrainingSet, Validator | None]:
    """Open the data, on each machine in its first process first: it builds or completes the frame store."""
    is_first_here = fabric.local_rank == 0
    if not is_first_here:
        fabric.barrier()
    found = open_training_set(config)
    validator = open_validator(found)
    if is_first_here:
        fabric.barrier()
    return found, validator


def _require_no_strangers(out_dir: Path) -> None:
    """Raise an InputError if files of others have the names of the run's; those of a run that was killed may stay."""
    table = out_dir / METRICS
    require_own_file(table, text_that_begins("step,"), "choose another --out")
    require_own_file(out_dir / CURVES, is_picture, "choose another --out")
    weights = sorted(path for name in ("epoch_*", BEST) for path in out_dir.glob(f"{name}.[cs][ka]*"))
    if weights and not table.exists():
        raise InputError(f"{weights[0]}: is there already, and no run beside it; choose another --out")


def _hold(out_dir: Path) -> AbstractContextManager[None]:
    """Keep other commands from the folder of the run."""
    require_writable_folder(out_dir, "choose another --out")
    return lock_folder(out_dir, "afsd train", wait_s=0)
