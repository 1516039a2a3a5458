"""Quantisation-aware fine-tuning, the last resort: a few hundred steps of training that see the rounding.

The project's own training loop runs on from a checkpoint, with the quantised network in its place. What it writes is an
ordinary checkpoint with float weights; exported and quantised with the same ranges, it computes what was trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from calibration.tuning.fake_quantisation import Layers, quantise_layers
from runtime.common.files import read_json, write_json
from runtime.errors import ConfigError, InputError
from training.afsd.network import AFSD
from training.checkpoints.files import load_checkpoint
from training.config.files import apply_overrides
from training.config.settings import Config
from training.run import train

RATE_SHARE: Mapping[str, float] = {"constant": 1.0, "cosine": 0.15}
"""Share of the learning rate that a checkpoint was trained with, by its schedule: a constant one was right to its last
step; a cosine's beginning shakes a trained network. On the shipped one with inputs of 4 bits, 0.15 of 2e-3 won back all
that rounding had cost, a third of that rate most of it; the coarser the rounding, the more pays."""

QUANTISERS = "quantisers.json"
"""What a run was fine-tuned for, beside its checkpoints."""


@dataclass(frozen=True)
class FineTuning:
    """How long and how fast."""

    steps: int = 200
    """Optimiser steps."""
    learning_rate: float = 0.0
    """Constant over all steps; 0: what `RATE_SHARE` makes of the checkpoint's own."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.learning_rate < math.inf:
            raise InputError(
                f"fine-tuning for {self.steps} steps at a learning rate of {self.learning_rate}: expected at least one "
                "step and a positive rate, or 0 for the checkpoint's own"
            )


def fine_tune(
    checkpoint: Path,
    layers: Layers,
    out_dir: Path,
    options: FineTuning = FineTuning(),
    *,
    overrides: Sequence[str] = (),
    resume: Path | None = None,
) -> Path:
    """Train a checkpoint on with quantised layers and return the path of the tuned one (`out_dir`/last.ckpt).

    Args:
        checkpoint: to start from; it is read alone.
        layers: quantisers of the layers that will be quantised.
        out_dir: a new folder; receives what every run writes, and `quantisers.json`.
        options: steps and learning rate.
        overrides: `section.key=value` changes to the checkpoint's configuration, as `data.root=…`.
        resume: last checkpoint of an interrupted fine-tuning with the same arguments.

    Raises:
        InputError: no layers, or they are not of this network.
        ConfigError: `out_dir` holds a run, or `resume` was made with other settings or quantisers.
        CheckpointError, AnnotationError, VideoError: as for any training.
    """
    if not layers:
        raise InputError(f"{checkpoint}: no layers to quantise, expected one at least; give their quantisers")
    config = tuning_config(checkpoint, options, overrides)

    def prepare(model: AFSD) -> None:
        quantise_layers(model, layers)
        _record(layers, out_dir / QUANTISERS, resume)

    return train(config, out_dir, resume, prepare)


def tuning_config(checkpoint: Path, options: FineTuning, overrides: Sequence[str] = ()) -> Config:
    """The checkpoint's own configuration, started from it, for some steps at a constant learning rate.

    Batch norms keep their statistics, which the export folds into the weights that are quantised.
    """
    config = load_checkpoint(checkpoint).config
    own = config.optimiser.learning_rate * RATE_SHARE[config.optimiser.schedule]
    optimiser = replace(
        config.optimiser,
        learning_rate=options.learning_rate or own,
        schedule="constant",
        warmup_steps=0,
        epochs=options.steps,  # the steps end it: an epoch has one at least
    )
    run = replace(
        config.run,
        init=str(checkpoint),
        init_part="all",
        max_steps=options.steps,
        max_minutes=0.0,
        keep_epochs=False,
    )
    model = replace(config.model, freeze_batch_norm=True)
    return apply_overrides(replace(config, model=model, optimiser=optimiser, run=run), overrides, str(checkpoint))


def _record(layers: Layers, path: Path, resume: Path | None) -> None:
    """Store the quantisers of a new run, or compare with those of the run that is resumed."""
    content = {name: {str(t): asdict(q) for t, q in inputs.items()} for name, inputs in layers.items()}
    if resume is None:
        write_json(path, content)
        return
    stored = resume.with_name(QUANTISERS)
    if not stored.is_file():
        raise ConfigError(f"{resume}: no {QUANTISERS} beside it, expected a run of fine-tuning; start one from it")
    if read_json(stored, "file of quantisers", ConfigError) != content:
        raise ConfigError(
            f"{resume}: made with other quantisers than those given; resume with the same table, or start anew"
        )


@dataclass(frozen=True)
class Tuning:
    """Quantisation-aware fine-tuning, the last resort."""

    checkpoint: Path
    """That the ONNX file was exported from."""
    data: str
    """Root of the training data; empty: as the checkpoint's configuration says."""
    run: FineTuning
