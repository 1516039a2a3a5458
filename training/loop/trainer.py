"""Run the training loop: Lightning Fabric handles precision, devices and processes; the order of clips is ours."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from runtime.common.children import end_with_parent
from runtime.common.console import plain_stderr, shows_progress
from runtime.common.log import LOGGER
from runtime.common.stops import LONGEST_SAVE_S, give_out_at_stop, shield
from runtime.common.text import one_line
from runtime.errors import AfsdError, CheckpointError, ConfigError, InputError
from runtime.spec.training_videos import TrainingVideos
from training.checkpoints.files import TRAINED, Checkpoint, load_checkpoint, save_checkpoint
from training.checkpoints.weights import load_weights
from training.config.settings import Config
from training.data.dataset import WindowDataset, collate
from training.families import family_of
from training.loop.clip_order import ClipOrder
from training.loop.curves import CURVES, draw_curves
from training.loop.loggers import open_loggers
from training.loop.metric_log import METRICS, VAL_MAP, MetricLog, read_rows
from training.loop.optimiser import average_weights, make_optimizer, rate_factor
from training.loop.processes import is_lost, open_fabric
from training.loop.same_run import require_same_run
from training.validation.best import (
    BestSoFar,
    best_path,
    read_best,
    require_comparable,
    resume_best,
    save_best,
    to_state,
)
from training.validation.validator import Validator

SHOWN_LOSSES = 3
"""Number of losses shown beside the progress bar."""

LAST = "last.ckpt"
"""File name of the newest state of a run, from which training resumes."""

DRAW_AFTER_S = 10.0
"""Seconds after which the learning curves are drawn again at the end of an epoch; at the end of a run they always
are."""


class Losses(Protocol):
    """Describes the losses of one optimiser step, a named tuple of scalars: the total first, then its terms."""

    @property
    def total(self) -> torch.Tensor: ...

    def _asdict(self) -> dict[str, torch.Tensor]: ...


@dataclass
class Progress:
    """Counts how far a run has come; `step` counts optimiser steps over all epochs."""

    epoch: int = 0
    batch: int = 0
    """Batches of the current epoch already trained on."""
    step: int = 0
    seconds: float = 0.0
    """Wall time spent training."""


class Trainer:
    """Trains one network; every state that changes while training is in its checkpoint.

    Args:
        config: the run's configuration.
        dataset: training clips.
        classes: action names in index order.
        out_dir: receives `last.ckpt`, the weights of each epoch as `epoch_NN.ckpt` (`run.keep_epochs`), with a
            validator the best as `best.ckpt`, `metrics.csv`, `curves.png`, and what the loggers write.
        resume: checkpoint of an interrupted run of the same configuration.
        prepare: called with the network after its initial weights are loaded, before the optimiser gets its parameters.
        validator: measures mAP while the network is trained; None: nobody does.
        videos: the training videos, which every checkpoint remembers; None: not known.
        fabric: the processes of the run, launched; None: as `config.run` sets.

    Raises:
        ConfigError: a batch larger than the data, or a `resume` made with other settings.
        CheckpointError: `resume` or `run.init` cannot be read or does not fit.
    """

    def __init__(
        self,
        config: Config,
        dataset: WindowDataset,
        classes: tuple[str, ...],
        out_dir: Path,
        resume: Path | None = None,
        prepare: Callable[[Any], None] | None = None,
        validator: Validator | None = None,
        videos: TrainingVideos | None = None,
        fabric: Fabric | None = None,
    ) -> None:
        self.config, self.dataset, self.classes, self.out_dir = config, dataset, classes, out_dir
        self.validator, self.videos = validator, videos
        self.best = BestSoFar() if validator is None else BestSoFar(subset=validator.subset, tious=validator.tious)
        run, optimiser = config.run, config.optimiser
        self.fabric = open_fabric(config) if fabric is None else fabric
        if fabric is None:
            self.fabric.launch()
        seed_everything(run.seed)
        family = family_of(config)
        model: nn.Module = family.build(config)
        if run.init:
            self._say(family.load_initial(model, load_checkpoint(run.init, config).weights, run))
        if prepare:
            prepare(model)
        self.order = ClipOrder(
            len(dataset), optimiser.batch_size, run.seed, self.fabric.global_rank, self.fabric.world_size
        )
        if not self.order.batches:
            raise ConfigError(
                f"optimiser.batch_size {optimiser.batch_size} on {self.fabric.world_size} processes needs that many "
                f"clips, the data set has {len(dataset)}: lower the batch size or add videos"
            )
        if self.fabric.world_size > 1:
            clips = optimiser.batch_size
            self._say(
                f"{self.fabric.world_size} processes with {clips} clips each: "
                f"batches of {clips * self.fabric.world_size}"
            )
        self.optimizer: Any = make_optimizer(model, optimiser)
        steps = self.order.batches
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate_factor(optimiser, step, steps, self.total_steps)
        )
        self.model = _channels_last(model)
        self.step: Any
        self.step, self.optimizer = self.fabric.setup(family.make_step(self.model, config), self.optimizer)
        self.average = average_weights(self.model, optimiser.ema) if optimiser.ema else None
        self.progress = Progress()
        self._saved_at, self._saved_step, self._drawn_at = time.monotonic(), 0, -math.inf
        if resume:
            self._resume(load_checkpoint(resume), resume)
        self._settle()

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        steps = self.order.batches * self.config.optimiser.epochs
        return min(steps, self.config.run.max_steps or steps)

    @property
    def _finished(self) -> bool:
        """Whether all steps are done, or mAP rises no more; an epoch whose last batch is done has still to be ended."""
        done = self.progress.step >= self.total_steps or self._stopped_early
        return done and self.progress.batch < self.order.batches

    @property
    def _stopped_early(self) -> bool:
        """Whether too many measurements in a row gave no higher mAP (`run.early_stopping`)."""
        return 0 < self.config.run.early_stopping <= self.best.since

    def run(self) -> Path:
        """Train to the last epoch (or `run.max_minutes`) and return the path of the last checkpoint."""
        log = self._open_log() if self.fabric.is_global_zero else None
        bar = tqdm(
            total=self.total_steps, initial=self.progress.step, desc=one_line(self.config.name), unit="step",
            mininterval=1.0, file=plain_stderr(), disable=not (self.fabric.is_global_zero and shows_progress()),
        )  # fmt: skip
        try:
            with give_out_at_stop(lambda: self._save_at_stop(log), LONGEST_SAVE_S):
                self._train(log, bar)
        finally:
            bar.close()
            if log:
                log.close()
        self._draw()
        self._say_best()
        return self.out_dir / LAST

    def _train(self, log: MetricLog | None, bar: Any) -> None:
        """Train to the end; where another process of the run has ended before, save what is reached."""
        try:
            while not self._finished and not self._out_of_time():
                self._epoch(log, bar)
            if self._finished:  # perhaps inside an epoch
                self._validate(log, bar)
            self.save(self.out_dir / LAST)
        except RuntimeError as error:
            if not is_lost(error):
                raise
            self._save_at_stop(log)
            raise InputError(
                f"another process of the run has ended; {self.out_dir / LAST} has the state after optimiser step "
                f"{self._saved_step}, to go on from with --resume"
            ) from error

    def _open_log(self) -> MetricLog:
        columns = ["epoch", "learning_rate", "grad_norm", "seconds", *family_of(self.config).losses]
        if self.validator is not None:
            columns += [VAL_MAP, *map(_name_tiou, self.validator.tious)]
        step = self.progress.step
        loggers = open_loggers(self.config, self.out_dir, step)
        return MetricLog(self.out_dir, tuple(columns), step, measured_step=self.best.measured_step, loggers=loggers)

    def checkpoint(self) -> Checkpoint:
        """Return the current state: averaged weights if there are any, and everything that resuming needs."""
        weights = _plain(self.model.state_dict())
        weights |= {name: value for name, value in self._buffers.items() if name in weights}
        training = {
            "weights": weights,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "averaged": int(self.average.n_averaged) if self.average else 0,
            "random": self._random,
            "progress": vars(self.progress).copy(),
            "processes": self.fabric.world_size,
            "validation": to_state(self.best),
        }
        used = _plain(self.average.module.state_dict()) if self.average else weights
        metrics = {TRAINED: date.today().isoformat()}
        return Checkpoint(used, self.config, self.classes, metrics, training, self.videos)

    def save(self, path: Path) -> None:
        """Write the current state from the first process."""
        if self.fabric.is_global_zero:
            save_checkpoint(self.checkpoint(), path)
        self._saved_at, self._saved_step = time.monotonic(), self.progress.step
        self.fabric.barrier()

    def _save_weights(self, path: Path) -> None:
        """Write only the weights, a third of the full state; detection and export need no more."""
        if self.fabric.is_global_zero:
            save_checkpoint(replace(self.checkpoint(), training={}), path)

    def _epoch(self, log: MetricLog | None, bar: Any) -> None:
        progress = self.progress
        for batch in self._load_epoch():
            began = time.perf_counter()
            losses = self._backward(batch)
            with shield():  # what a signal saves is a state between two steps, whose row is written
                self._between_steps = False
                norm = self._update()
                progress.batch += 1
                progress.step += 1
                progress.seconds += time.perf_counter() - began
                if progress.step % self.config.run.log_every == 0 or progress.step in (1, self.total_steps):
                    self._report(losses, norm, log, bar)
                self._settle()
            bar.update()
            if self._out_of_time() or (progress.step == self.total_steps and progress.batch < self.order.batches):
                return
            if self._save_is_due():
                self.save(self.out_dir / LAST)
        if self.config.run.keep_epochs:  # before the state that says the epoch is finished
            name = f"epoch_{progress.epoch + 1:02d}.{self.config.run.epoch_format}"
            self._save_weights(self.out_dir / name)
        if (progress.epoch + 1) % self.config.run.validate_every == 0 or progress.step >= self.total_steps:
            self._validate(log, bar)
        with shield():
            progress.epoch, progress.batch = progress.epoch + 1, 0
        self.save(self.out_dir / LAST)
        if time.monotonic() - self._drawn_at > DRAW_AFTER_S:
            self._draw()

    def _validate(self, log: MetricLog | None, bar: Any) -> None:
        """Measure mAP, keep the weights if it is the highest so far, and log it; all processes learn the value.

        After an interruption at any point the measurement is made again, and gives the same.
        """
        step, begun = self.progress.step, self.progress.batch > 0
        epoch = self.progress.epoch + begun  # a run that was finished before has begun no further one
        if self.validator is None or self.best.measured_step == step:
            return
        by_tiou: dict[str, float] = {}
        weights = replace(self.checkpoint(), training={}) if self.fabric.is_global_zero else None
        if weights is not None:  # the other processes wait for the value
            device = str(self.fabric.device)
            shown = shows_progress()
            result = self.validator(
                weights, device, lambda done, of: bar.set_postfix_str(f"judging {done} of {of}", refresh=shown)
            )
            bar.set_postfix_str("", refresh=False)
            values = zip(map(_name_tiou, result.tious), result.map.tolist(), strict=True)
            by_tiou = {VAL_MAP: result.average, **dict(values)}
        value = float(self.fabric.broadcast(by_tiou.get(VAL_MAP, 0.0)))
        best = self.best.measure(value, epoch=epoch, step=step)
        if weights is not None and best.step == step:
            save_best(weights, best, self.validator.contents, self._best_path)
        with shield():
            if log:
                log.write(step, {"epoch": float(epoch - 1), **by_tiou})
            self.best = best
        if self.fabric.is_global_zero:
            rank = "the best so far" if best.step == step else f"best {100 * best.map:.2f} % of epoch {best.epoch}"
            place = one_line(self.validator.subset)
            bar.write(f"epoch {epoch}: mAP {100 * value:.2f} % on {place}, {rank}", file=sys.stdout)

    @property
    def _best_path(self) -> Path:
        return best_path(self.out_dir, self.config.run.epoch_format)

    def _say_best(self) -> None:
        best = self.best
        if self._stopped_early:
            self._say(f"ended early: no higher mAP in the last {best.since} measurements (run.early_stopping)")
        if best.epoch:
            self._say(f"best: {self._best_path}, epoch {best.epoch}, mAP {100 * best.map:.2f} %")

    def _draw(self) -> None:
        """Draw the learning curves; a picture that cannot be written ends no run."""
        if not self.fabric.is_global_zero:
            return
        self._drawn_at = time.monotonic()
        try:
            rows = list(read_rows(self.out_dir / METRICS))
            draw_curves(rows, self.out_dir / CURVES, self.config.name, self.order.batches)
        except (OSError, AfsdError) as error:
            LOGGER.warning(f"{self.out_dir / CURVES}: the learning curves are not drawn ({one_line(error)})")

    def _load_epoch(self) -> Iterator[Any]:
        """Yield the batches of the current epoch that are still to be trained on."""
        self.order.epoch, self.order.first_batch = self.progress.epoch, self.progress.batch
        self.dataset.set_epoch(self.progress.epoch)
        loader = DataLoader(
            self.dataset, self.config.optimiser.batch_size, sampler=self.order, collate_fn=collate,
            num_workers=self.config.data.workers, drop_last=True, worker_init_fn=_start_worker,
            generator=torch.Generator(),  # the loader draws a seed; the global one would change a resumed run
        )  # fmt: skip
        self.step.train()
        return iter(self.fabric.setup_dataloaders(loader, use_distributed_sampler=False))

    def try_steps(self, most: int, longest_s: float) -> list[float]:
        """Do a few optimiser steps, to measure them, and write nothing; the trainer is of no further use.

        Args:
            most: number of steps at most.
            longest_s: seconds after which no further step begins.

        Returns:
            Seconds of each step, with the time that its batch was waited for.

        Raises:
            InputError: a loss is not finite, or data cannot be read.
            RuntimeError: there is too little memory, in PyTorch's words.
        """
        seconds: list[float] = []
        begun = time.perf_counter()
        for batch in self._load_epoch():
            self._backward(batch)
            self._update()
            now = time.perf_counter()
            seconds.append(now - begun)
            begun = now
            if len(seconds) >= most or sum(seconds) > longest_s:
                break
        return seconds

    def _backward(self, batch: Any) -> Losses:
        """Compute the losses of a batch and their gradients; weights stay as they are.

        Returns:
            The losses of the whole batch, that of all processes.
        """
        own: Losses = self.step(batch)
        losses = self._average(own)
        if not math.isfinite(losses.total.item()):
            raise InputError(
                f"optimiser step {self.progress.step}: the loss is {losses.total.item()}; lower "
                "optimiser.learning_rate, or set optimiser.clip_norm"
            )
        self.optimizer.zero_grad()
        self.fabric.backward(own.total)
        return losses

    def _average(self, losses: Losses) -> Losses:
        """Average losses over the processes, so that all of them see one that is not finite."""
        if self.fabric.world_size == 1:
            return losses
        values = torch.stack([value.detach().float() for value in losses._asdict().values()])
        averaged = torch.as_tensor(self.fabric.all_reduce(values, reduce_op="mean"))
        averages: Losses = type(losses)(*averaged.unbind())
        return averages

    def _update(self) -> float:
        """Do the optimiser step and return the norm of the gradients, 0 without clipping."""
        norm = 0.0
        if self.config.optimiser.clip_norm:
            norm = float(
                self.fabric.clip_gradients(self.step, self.optimizer, max_norm=self.config.optimiser.clip_norm)
            )
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.model)
        return norm

    def _settle(self) -> None:
        """Keep what the next forward pass changes, so that the state after this step can be saved during it."""
        self._buffers = _plain({name: buffer.clone() for name, buffer in self.model.named_buffers()})
        self._random = {"torch": torch.get_rng_state(), "python": random.getstate()}
        self._between_steps = True

    def _save_is_due(self) -> bool:
        minutes = self.config.run.save_minutes
        due = 0 < 60 * minutes <= time.monotonic() - self._saved_at
        return bool(minutes) and bool(self.fabric.broadcast(due))  # the first process decides for all

    def _save_at_stop(self, log: MetricLog | None) -> None:
        """Save the state after the latest optimiser step, unless it is saved; other processes are not waited for."""
        if self.fabric.is_global_zero and self._between_steps and self.progress.step > self._saved_step:
            if log:
                log.synchronise()
            save_checkpoint(self.checkpoint(), self.out_dir / LAST)
            self._saved_step = self.progress.step

    def _report(self, losses: Losses, norm: float, log: MetricLog | None, bar: Any) -> None:
        values = {name: float(value.detach()) for name, value in losses._asdict().items()}
        bar.set_postfix({k: f"{v:.3f}" for k, v in list(values.items())[:SHOWN_LOSSES]}, refresh=False)
        if log:
            extra = {
                "epoch": float(self.progress.epoch),
                "learning_rate": float(self.schedule.get_last_lr()[-1]),
                "grad_norm": norm,
                "seconds": self.progress.seconds,
            }
            log.write(self.progress.step, {**extra, **values})

    def _out_of_time(self) -> bool:
        minutes = self.config.run.max_minutes
        if not minutes:
            return False
        over = self.progress.seconds > 60 * minutes
        return bool(self.fabric.broadcast(over))  # the first process decides for all; disagreement would deadlock

    def _resume(self, checkpoint: Checkpoint, path: Path) -> None:
        state, origin = checkpoint.training, str(path)
        if not state:
            raise CheckpointError(
                f"{origin}: no training state to resume; start from these weights with run.init instead"
            )
        require_same_run(checkpoint.config, self.config, origin, int(state.get("processes", 1)), self.fabric.world_size)
        load_weights(self.model, state["weights"], origin)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average:
            load_weights(self.average.module, checkpoint.weights, origin)
            self.average.n_averaged.fill_(state["averaged"])
        torch.set_rng_state(state["random"]["torch"])
        version, words, gauss = state["random"]["python"]
        random.setstate((version, tuple(words), gauss))
        self.progress = Progress(**state["progress"])
        self._saved_step = self.progress.step
        self._resume_best(read_best(state.get("validation", {}), origin), path)
        self._say(f"resumed {origin} at optimiser step {self.progress.step} of {self.total_steps}")

    def _resume_best(self, best: BestSoFar, path: Path) -> None:
        """Go on from the best weights of the run that is resumed; without any, validation begins now."""
        if self.validator is None:
            self.best = best
        elif best.epoch:
            require_comparable(best, self.validator.subset, self.validator.tious, str(path))
            if self.fabric.is_global_zero:
                best = resume_best(best, self.out_dir, self.config.run.epoch_format, path)
            self.best = self.fabric.broadcast(best)

    def _say(self, message: str) -> None:
        self.fabric.print(message)


def _start_worker(_: int) -> None:
    """Start a process that loads clips."""
    end_with_parent()


def seed_everything(seed: int) -> None:
    """Seed the global generators; clips draw from their own instead (see `WindowDataset`)."""
    random.seed(seed)
    torch.manual_seed(seed)


def _channels_last(model: nn.Module) -> nn.Module:
    """Lay out the weights of 3-D convolutions channels last, the faster order on CPUs; names and values stay."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
    return model


def _name_tiou(tiou: float) -> str:
    """Return the column of mAP at one threshold."""
    return f"{VAL_MAP}_{tiou:.2f}"


def _plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
