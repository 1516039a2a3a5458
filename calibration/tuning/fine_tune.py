"""Fine-tune with quantisation emulated, as the last resort: a few hundred optimiser steps with rounded layers.

The project's training loop continues from a checkpoint with a network that rounds. It writes an ordinary checkpoint
with float weights; exported and quantised with the same ranges, the network computes what was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from calibration.tuning.fake_quantisation import Layers, quantise_layers
from runtime.common.files import read_json, write_json
from runtime.common.ranges import Count, Range, check_ranges
from runtime.errors import ConfigError, InputError
from training.afsd.network import AFSD
from training.checkpoints.files import load_checkpoint
from training.config.files import apply_overrides
from training.config.settings import LARGEST_RATE, Config
from training.run import train

RATE_SHARE: Mapping[str, float] = {"constant": 1.0, "cosine": 0.15}
"""Schedule of the checkpoint's training → share of its learning rate for fine-tuning. A constant rate still fits at its
last step; the first rate of a cosine schedule is too high for a trained network. On the shipped network with 4-bit
inputs, 0.15 of 2e-3 recovered the whole loss from rounding, a third of that rate most of it; coarser rounding needs a
higher rate."""

QUANTISERS = "quantisers.json"
"""Name of the file beside a run's checkpoints that holds the quantisers of the run."""


@dataclass(frozen=True)
class FineTuning:
    """Holds length and learning rate of fine-tuning."""

    steps: Count = 200
    """Number of optimiser steps."""
    learning_rate: Annotated[float, Range(0, LARGEST_RATE)] = 0.0
    """Learning rate of all optimiser steps; 0: the checkpoint's own times its `RATE_SHARE`."""

    def __post_init__(self) -> None:
        check_ranges(self)


def fine_tune(
    checkpoint: Path,
    layers: Layers,
    out_dir: Path,
    options: FineTuning = FineTuning(),
    *,
    overrides: Sequence[str] = (),
    resume: Path | None = None,
) -> Path:
    """Train a checkpoint further with quantised layers; return the path of the tuned checkpoint (`out_dir`/last.ckpt).

    Args:
        checkpoint: checkpoint to start from; it is not changed.
        layers: quantisers of the layers that will be quantised.
        out_dir: new folder for the files of a training run and `quantisers.json`.
        options: number of optimiser steps and learning rate.
        overrides: `section.key=value` changes to the checkpoint's configuration, as `data.root=…`.
        resume: last checkpoint of an interrupted fine-tuning with the same arguments.

    Raises:
        InputError: no layers, or layers of another network.
        ConfigError: `out_dir` holds a run, or `resume` was made with other settings or quantisers.
        CheckpointError, AnnotationError, VideoError: see `training.run.train`.
    """
    if not layers:
        raise InputError(f"{checkpoint}: no layers to quantise, expected one at least; give their quantisers")
    config = make_tuning_config(checkpoint, options, overrides)

    def prepare(model: AFSD) -> None:
        quantise_layers(model, layers)
        _record_quantisers(layers, out_dir / QUANTISERS, resume)

    return train(config, out_dir, resume, prepare)


def make_tuning_config(checkpoint: Path, options: FineTuning, overrides: Sequence[str] = ()) -> Config:
    """Make a configuration from the checkpoint's own that continues from it at a constant learning rate.

    Batch norms keep their statistics, since the export folds them into the weights that are quantised.
    """
    config = load_checkpoint(checkpoint).config
    own = config.optimiser.learning_rate * RATE_SHARE[config.optimiser.schedule]
    optimiser = replace(
        config.optimiser,
        learning_rate=options.learning_rate or own,
        schedule="constant",
        warmup_steps=0,
        epochs=options.steps,  # max_steps ends the run: an epoch has at least one step
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


def _record_quantisers(layers: Layers, path: Path, resume: Path | None) -> None:
    """Write the quantisers of a new run, or compare them with those of the run that is resumed."""
    content = {name: {str(t): asdict(q) for t, q in inputs.items()} for name, inputs in layers.items()}
    if resume is None:
        write_json(path, content)
        return
    stored = resume.with_name(QUANTISERS)
    if not stored.is_file():
        raise ConfigError(f"{resume}: no {QUANTISERS} beside it, expected a run of fine-tuning; start one from it")
    if read_json(stored, "file of quantisers", ConfigError) != content:
        raise ConfigError(
            f"{resume}: made with other quantisers than those given; resume with the same table, or start a new run"
        )


@dataclass(frozen=True)
class Tuning:
    """Holds the options of fine-tuning during a calibration."""

    checkpoint: Path
    """Checkpoint that the ONNX file was exported from."""
    data: str
    """Root of the training data; empty: as the checkpoint's configuration says."""
    run: FineTuning
