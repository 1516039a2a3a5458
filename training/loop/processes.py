"""Say which process of a run this one is, and let one of them speak for all."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from runtime.common.console import EXIT_ERROR
from runtime.common.log import LOGGER
from runtime.common.stops import be_silent
from runtime.common.text import one_line
from runtime.errors import AfsdError, ConfigError, InputError
from training.config.settings import Config
from training.families import family_of

LONGEST_WAIT = timedelta(days=7)
"""Time that processes wait for each other: one builds the frame store, or judges on the validation videos, for all."""

FAILED = "afsd_failed"
"""Key under which the processes' store has the rank of the process that prints what went wrong."""

GLOO = "gloo"
"""Word in the errors of PyTorch's connections between processes on CPUs, which have no type of their own."""


@dataclass(frozen=True)
class Process:
    """Says which of the processes of a run this one is."""

    rank: int = 0
    """Number among all, from 0."""
    count: int = 1
    local_rank: int = 0
    """Number among those of this machine."""
    local_count: int = 1
    by_torchrun: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this is the first process of its machine."""
        return self.local_rank == 0


def this_process() -> Process:
    """Read the variables that torchrun sets, or Fabric for the processes that it starts itself (`run.devices`)."""
    local_rank, count = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Process(local_rank, count, local_rank, count)
    return Process(int(os.environ["RANK"]), count, local_rank, int(os.environ["LOCAL_WORLD_SIZE"]), by_torchrun=True)


def open_fabric(config: Config) -> Fabric:
    """Set up Lightning Fabric on the processes that torchrun started, or on `run.devices` of this machine.

    Raises:
        ConfigError: the machine lacks accelerator, devices or precision, or torchrun started other numbers of
            processes.
    """
    run, process = config.run, this_process()
    devices, nodes = run.devices, 1
    if process.by_torchrun:
        devices, nodes = process.local_count, process.count // process.local_count
        if devices * nodes != process.count:
            raise ConfigError(
                f"torchrun started {process.count} processes, of which {devices} here; start as many on every machine"
            )
        if run.devices not in (1, devices):
            raise ConfigError(
                f"run.devices is {run.devices}, but torchrun started {devices} processes here; leave the setting out"
            )
    strategy: DDPStrategy | str = "auto"
    if devices * nodes > 1:
        strategy = DDPStrategy(timeout=LONGEST_WAIT, find_unused_parameters=not family_of(config).uses_all_weights)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # `Trainer` says how many processes there are
    try:
        return Fabric(
            accelerator=run.accelerator, devices=devices, num_nodes=nodes, strategy=strategy, precision=run.precision
        )
    except (RuntimeError, ValueError, ImportError) as error:
        raise ConfigError(
            f"run.accelerator {run.accelerator!r}, run.devices {devices}, run.precision {run.precision!r}: "
            f"{one_line(error)[:200]}; set what this machine has, for example accelerator cpu"
        ) from None


def run_as_one(run: Callable[[], int]) -> int:
    """Run a command that several processes run, so that one of them prints for all; return the exit status.

    What goes wrong is printed by the first process that it happens to, and before the processes know each other by the
    first of each machine. The others end with the same status, without a word.
    """
    process = this_process()
    if process.count == 1:
        return run()
    if not process.is_first:
        be_silent()
        LOGGER.setLevel(logging.CRITICAL)
        warnings.simplefilter("ignore")
    try:
        return run()
    except Exception as error:
        lost = is_lost(error) or is_lost(error.__cause__)
        if (lost and not process.is_first) or not _may_speak(process):
            return EXIT_ERROR
        if is_lost(error):
            raise InputError("another process of the run has ended before the first optimiser step") from None
        if isinstance(error, AfsdError) and not process.is_first:
            raise type(error)(f"process {process.rank + 1} of {process.count}: {error}") from None
        raise


def require_one_process(verb: str) -> None:
    """Raise an InputError if torchrun started several processes of a command that is for one."""
    if this_process().count > 1:
        raise InputError(f"{verb} runs in one process, got {this_process().count}; start it without torchrun")


def is_lost(error: BaseException | None) -> bool:
    """Return whether an error says that the connection to another process of the run broke off."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and GLOO in str(error).lower())


def _may_speak(process: Process) -> bool:
    """Return whether this process is the one that prints what went wrong; it is the first to ask."""
    if not (dist.is_available() and dist.is_initialized()):
        return process.is_first_here
    try:
        store = dist.distributed_c10d._get_default_store()
        return bool(store.compare_set(FAILED, "", str(process.rank)) == str(process.rank).encode())
    except (RuntimeError, ValueError):  # its process is gone
        return process.is_first
