"""Open the data that a configuration names, train on it and return the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.errors import ConfigError
from training.config.settings import Config
from training.loop import LAST, Trainer
from training.training_set import open_training_set


def train(
    config: Config, out_dir: Path, resume: Path | None = None, prepare: Callable[[Any], None] | None = None
) -> Path:
    """Train as configured and return the path of the last checkpoint (`out_dir`/last.ckpt).

    A network on features trains on the feature set that `data.features` describes. For a network on frames, a missing
    or incomplete frame store is first built from `<root>/videos`. See `Trainer` for `prepare`.

    Raises:
        AnnotationError, InputError, VideoError: the data is missing or does not fit.
        ConfigError: `out_dir` holds a run and `resume` is None; further cases: see `Trainer`.
        CheckpointError: see `Trainer`.
    """
    if resume is None and (out_dir / LAST).exists():
        raise ConfigError(
            f"{out_dir}: holds a run already; continue it (--resume {out_dir / LAST}), or choose another --out"
        )
    found = open_training_set(config)
    return Trainer(found.config, found.dataset, found.classes, out_dir, resume, prepare).run()
