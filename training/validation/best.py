"""Keep the weights with the highest mAP of a run, and count how long none was higher."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from runtime.common.files import atomic_path
from runtime.common.log import LOGGER
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.ranges import Number, Share, check_ranges
from runtime.errors import CheckpointError, ConfigError
from runtime.spec.training_videos import TrainingVideos, list_some
from training.checkpoints.files import Checkpoint, load_checkpoint, save_checkpoint
from training.config.settings import RunConfig

EPOCH_FORMATS: tuple[str, ...] = get_args(get_type_hints(RunConfig)["epoch_format"])
"""Suffixes of files of weights."""
BEST = "best"
"""Name of the file of the best weights, without its suffix."""


@dataclass(frozen=True)
class BestSoFar:
    """Records which weights of a run are the best so far; part of the state from which a run resumes."""

    map: Share = 0.0
    """Highest mAP, average over the thresholds, 0 … 1."""
    epoch: Number = 0
    """Epoch after which it was measured, counted from 1; 0: nothing was measured yet."""
    step: Number = 0
    """Optimiser step after which it was measured."""
    measured_step: Number = 0
    """Optimiser step of the latest measurement."""
    since: Number = 0
    """Number of measurements after the best one."""
    subset: str = ""
    """`data.val_subset` of the measurements."""
    tious: tuple[float, ...] = ()
    """Thresholds of the measurements."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def measure(self, value: float, *, epoch: int, step: int) -> BestSoFar:
        """Return the record after one more measurement; of equal values the earlier stays the best."""
        if self.epoch and not value > self.map:
            return replace(self, measured_step=step, since=self.since + 1)
        return replace(self, map=value, epoch=epoch, step=step, measured_step=step, since=0)


def read_best(state: Any, origin: str) -> BestSoFar:
    """Read the record from the training state of a checkpoint (CheckpointError: it does not fit)."""
    try:
        return from_mapping(BestSoFar, state)
    except StructureError as error:
        raise CheckpointError(f"{origin}: validation: {error}; the file is damaged") from None


def best_path(folder: Path, suffix: str) -> Path:
    """Return the path of the best weights of the run in a folder."""
    return folder / f"{BEST}.{suffix}"


def save_best(checkpoint: Checkpoint, best: BestSoFar, chosen_on: Mapping[str, str], path: Path) -> None:
    """Write the best weights atomically, with the measurement among the metrics and without the training state.

    Args:
        checkpoint: weights that were measured.
        best: record of the measurement.
        chosen_on: videos of the measurement, see `TrainingVideos.chosen`.
        path: file to write.
    """
    videos = replace(checkpoint.training_videos or TrainingVideos(), chosen=list_some(chosen_on))
    metrics = {
        "val_map": best.map,
        "val_subset": best.subset,
        "val_tiou": list(best.tious),
        "epoch": best.epoch,
        "step": best.step,
    }
    metrics = {**checkpoint.metrics, **metrics}
    save_checkpoint(replace(checkpoint, training={}, metrics=metrics, training_videos=videos), path)


def resume_best(best: BestSoFar, folder: Path, suffix: str, resumed: Path) -> BestSoFar:
    """Return the record with which a run goes on, after seeing that the file of the best weights is there.

    Where the run goes on in another folder, the file is copied from beside the checkpoint that is resumed; where
    `run.epoch_format` has changed, it is written anew in the new format, and the old one of this folder removed.

    Args:
        best: record of the checkpoint that is resumed.
        folder: folder of the run.
        suffix: suffix of the file, without its dot.
        resumed: checkpoint that is resumed.
    """
    path = best_path(folder, suffix)
    if not best.epoch or _is_of(path, best):
        return best
    for former in (best_path(place, other) for place in (folder, resumed.parent) for other in EPOCH_FORMATS):
        if _is_of(former, best):
            _bring(former, path)
            return best
    LOGGER.warning(
        f"{path}: the best weights, of epoch {best.epoch} with mAP {100 * best.map:.2f} %, are gone; the best of the "
        "epochs that follow are kept"
    )
    return BestSoFar(measured_step=best.measured_step, subset=best.subset, tious=best.tious)


def _bring(former: Path, path: Path) -> None:
    """Copy the best weights of another folder, or of another format, to where the run keeps its own."""
    if former.suffix == path.suffix:
        with atomic_path(path) as unfinished:
            shutil.copyfile(former, unfinished)
        return
    save_checkpoint(load_checkpoint(former), path)
    if former.parent.resolve() == path.parent.resolve():  # it would soon be an older best
        former.unlink()


def _is_of(path: Path, best: BestSoFar) -> bool:
    """Return whether a file holds the best weights of a record, or those of a later step that will come again."""
    try:
        metrics = load_checkpoint(path).metrics
    except CheckpointError:
        return False
    step, value = metrics.get("step"), metrics.get("val_map")
    return isinstance(step, int) and (step > best.step or (step == best.step and value == best.map))


def require_comparable(best: BestSoFar, subset: str, tious: tuple[float, ...], origin: str) -> None:
    """Raise a ConfigError if measurements of a resumed run cannot be compared with those before."""
    same = best.subset == subset and len(best.tious) == len(tious)
    if best.epoch and not (same and all(map(math.isclose, best.tious, tious))):
        raise ConfigError(
            f"{origin}: its best weights were chosen on subset {best.subset!r} at tIoU "
            f"{', '.join(f'{tiou:g}' for tiou in best.tious)}, this run has {subset!r} at "
            f"{', '.join(f'{tiou:g}' for tiou in tious) or 'none'}; resume with data.val_subset and run.val_tiou as "
            "they were, or start a new run"
        )


def to_state(best: BestSoFar) -> Any:
    """Return the record as plain data for a checkpoint."""
    return to_mapping(best)
