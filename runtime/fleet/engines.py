"""Open engines in the actors of a job, with the CPUs and GPUs that Ray gave each."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from runtime.engines import Engine, EngineOptions, open_engine
from runtime.engines.registry import ENGINES
from runtime.errors import InputError
from runtime.fleet.options import FleetOptions


def share_engine(options: EngineOptions, fleet: FleetOptions) -> EngineOptions:
    """Return the options of an engine in an actor: on its share of a GPU if it has one, else on its CPUs.

    Raises:
        InputError: see `require_device`.
    """
    require_device(options, fleet)
    if fleet.gpus_per_actor:
        return replace(options, device="gpu:0" if options.device_kind == "auto" else options.device)
    return options if options.threads is not None else replace(options, threads=fleet.threads)


def require_device(options: EngineOptions, fleet: FleetOptions) -> None:
    """Check that actors have the device of an engine.

    Raises:
        InputError: a GPU is asked for and `gpus_per_actor` is 0, or another than the first.
    """
    if options.device_kind == "gpu" and not fleet.gpus_per_actor:
        raise InputError(f"device: got {options.device} with no GPU per actor; give gpus_per_actor, such as 0.5")
    if options.device_kind == "gpu" and options.device_index:
        raise InputError(f"device: got {options.device}, expected gpu; Ray chooses the GPU of each actor")


def open_shared(path: str, options: EngineOptions) -> Engine:
    """Open an engine in an actor; a checkpoint, which takes no number of threads, has those that Ray gave the process.

    Raises:
        AfsdError: see `open_engine`.
    """
    own = Path(path).suffix.lower() in ENGINES
    return open_engine(path, **asdict(options if own else replace(options, threads=None)))
