"""Run the videos of a job on Ray Data's pool of actors; scheduling, scaling and back-pressure are Ray's."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runtime.common.log import LOGGER
from runtime.common.text import one_line
from runtime.errors import AfsdError, InputError, VideoWarning, import_failure
from runtime.fleet.actors import DIED, HUNG, ITEM, OUTCOME, Attempts, VideoActor, WorkingFolder
from runtime.fleet.head import require_answer
from runtime.fleet.options import FleetOptions
from runtime.fleet.outcome import Outcome

if TYPE_CHECKING:
    from ray.data import Dataset

LOCAL_STORE_BYTES = 128 * 2**20
"""Memory that Ray shares among processes, where this project starts Ray: rows are small, videos are not among them."""
WAIT_S = 60.0
"""Seconds between two lines that say that no actor works yet."""
ONE_AT_A_TIME = 1.0
"""Videos in work per actor from which on Ray Data adds actors: each works on one, so that none waits behind another."""


_alone = ContextVar("afsd_ray_alone", default=False)
"""Whether Ray was started here for the job, so that no other machine can join."""


def import_ray() -> Any:
    """Import Ray with Ray Data (MissingDependencyError: not installed)."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise import_failure(error, "ray", "ray", "a job on Ray") from None
    return ray


@contextmanager
def connected(address: str | None = None, **options: Any) -> Iterator[Any]:
    """Connect to a cluster, or start Ray on this machine, for the block; a connection that is there is used and stays.

    Args:
        address: address of the cluster, "auto" for the one that this machine belongs to; None: that of RAY_ADDRESS, or
            Ray is started on this machine.
        options: further arguments of `ray.init`.

    Yields:
        the module `ray`.

    Raises:
        InputError: no cluster is there, or what is there does not answer.
        MissingDependencyError: Ray is not installed.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    # nothing is sent to Ray's makers unless the user wants it; of the driver's own lines below "fatal" one comes with
    # every pool, about how Ray Data keeps arguments
    defaults = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    require_answer(address)
    if address == "local":
        options = {"include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES, **options}
    try:
        with _own_signals(), _default_environment(defaults):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = (
            "Ray cannot be started here" if address == "local" else f"{address}: no Ray cluster can be reached there"
        )
        raise InputError(f"{where} ({one_line(error)}); check the address, or look at Ray's logs") from None
    token = _alone.set(address == "local")
    try:
        with _notes_in_log():
            yield ray
    finally:
        _alone.reset(token)
        ray.shutdown()


@contextmanager
def _notes_in_log() -> Iterator[None]:
    """Send what Ray says of processes that died to the log, which -v shows: stdout, where it would be, is for results.

    A release of Ray whose function for that has another name goes on printing.
    """
    from ray._private import worker

    def log(data: Mapping[str, Any], *_: Any, **__: Any) -> None:
        for line in data.get("lines", ()):
            LOGGER.info("Ray: %s", one_line(line))

    printing = getattr(worker, "print_to_stdstream", None)
    if printing is None:
        yield
        return
    worker.print_to_stdstream = log
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


@contextmanager
def _default_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set those variables for the block that are not set."""
    lacking = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(lacking)
    try:
        yield
    finally:
        for name in lacking:
            os.environ.pop(name, None)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's own handling of SIGTERM, if it has one, over the start of Ray, which sets another."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def run_on_actors(
    items: Sequence[Any],
    worker: type[Any],
    arguments: Mapping[str, Any],
    options: FleetOptions,
    labels: Sequence[str] = (),
    *,
    relative: str = "",
) -> Generator[Outcome, None, None]:
    """Work on videos in a pool of actors and yield their outcomes as they come, in no order.

    A video whose actor died is begun again in another, `options.retries` times. Closing the iterator ends the actors.

    Args:
        items: what is to do for each video, to be sent to other processes; the key of its outcome is its number.
        worker: class of a `Worker`, which is found under its name on every machine.
        arguments: arguments of its constructor.
        options: see `FleetOptions`.
        labels: the videos as they are named to people, for those of which all actors die; empty: nothing names them.
        relative: one of the job's relative paths, see `first_relative`: its actors then need this process's working
            folder. Empty: it has none.

    Raises:
        InputError: an actor cannot work at all, as without the model; more than `max_errors` videos failed.
        AfsdError: Ray lost the job.
    """
    if not items:
        return
    ray = import_ray()
    _check_environment(options)
    look_for_room(ray, options)
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
    done: set[int] = set()
    failed = 0
    try:
        with _quiet(), _say_while_nothing_begins(ray, attempts, options):
            for row in _make_dataset(items, worker, arguments, attempts, options, relative).iter_rows():
                outcome: Outcome = pickle.loads(row[OUTCOME])
                if outcome.work.state == "refused":
                    raise InputError(outcome.work.error)
                if outcome.key in done:  # of an actor that was lost after it had answered
                    continue
                done.add(outcome.key)
                if labels:
                    outcome = _name_dead(outcome, labels[outcome.key])
                for text in outcome.warnings:
                    warnings.warn(text, VideoWarning, stacklevel=2)
                yield outcome
                failed += outcome.work.state == "failed"
                if options.max_errors is not None and failed > options.max_errors:
                    raise InputError(
                        f"{failed} videos failed, more than {options.max_errors}, so the job stops; the last error: "
                        f"{outcome.work.error}"
                    )
    except ray.exceptions.RayError as error:
        raise AfsdError(f"Ray lost the job after {len(done)} of {len(items)} videos: {one_line(error)}") from None
    finally:
        ray.kill(attempts)


def _name_dead(outcome: Outcome, label: str) -> Outcome:
    """Put the name of a video that hung, or of which all actors died, before its error, since no reader could."""
    failure = outcome.work.failure
    if failure is None or failure.kind not in (DIED, HUNG):
        return outcome
    named = replace(failure, message=f"{label}: {failure.message}")
    return replace(outcome, work=replace(outcome.work, failure=named))


def _check_environment(options: FleetOptions) -> None:
    """Raise an InputError unless Ray takes the runtime environment; within an actor it would fail without a word."""
    from ray.runtime_env import RuntimeEnv

    try:
        RuntimeEnv(**(options.runtime_env or {}))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"runtime_env: {one_line(error)}; expected what Ray documents for runtime environments"
        ) from None


def look_for_room(ray: Any, options: FleetOptions) -> None:
    """Say if no machine has room for an actor: in a cluster machines may join, so Ray waits for them without a word.

    Raises:
        InputError: Ray was started for the job, so that there is nothing to wait for.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needed = _needs(options)
    if any(all(amount <= machine.get(name, 0) for name, amount in needed.items()) for machine in machines):
        return
    most = {name: max((machine.get(name, 0) for machine in machines), default=0) for name in needed}
    wanting = [name for name, amount in needed.items() if amount > most[name]]
    if wanting:
        name = wanting[0]
        text = f"Ray: an actor needs {needed[name]:g} {name}, and no machine has more than {most[name]:g}"
    else:
        text = f"Ray: an actor needs {_list(needed)} at once, and no machine has that"
    if _alone.get():
        raise InputError(f"{text}; ask for less, or give the address of a larger cluster")
    warnings.warn(f"{text} now; the job waits until one joins", VideoWarning, stacklevel=3)


def _needs(options: FleetOptions) -> dict[str, float]:
    """Return what Ray reserves for an actor, by the names of the resources."""
    needed = {
        "CPU": options.cpus,
        "GPU": options.gpus_per_actor,
        "memory": float(options.memory_per_actor or 0),
        **options.resources,
    }
    return {name: amount for name, amount in needed.items() if amount}


def _list(needed: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in needed.items())


@contextmanager
def _say_while_nothing_begins(ray: Any, attempts: Any, options: FleetOptions) -> Iterator[None]:
    """Say every minute that no video has been begun, until one has: other jobs may have all that the cluster has."""
    ended = threading.Event()

    def say() -> None:
        waited = 0.0
        while not ended.wait(WAIT_S):
            waited += WAIT_S
            try:
                if ray.get(attempts.videos.remote(), timeout=WAIT_S):
                    return
            except ray.exceptions.RayError:  # nobody counts at the moment
                continue
            warnings.warn(
                f"Ray: no actor works after {waited:.0f} s; each needs {_list(_needs(options))} on one machine, and "
                "'ray status' shows what is free",
                VideoWarning,
                stacklevel=2,
            )

    watcher = threading.Thread(target=say, name="afsd-ray-waits", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()


def _make_dataset(
    items: Sequence[Any],
    worker: type[Any],
    arguments: Mapping[str, Any],
    attempts: Any,
    options: FleetOptions,
    relative: str,
) -> Dataset:
    """Return the Dataset that works on the videos when it is read: a block and a task for each video."""
    import ray.data
    from ray.data.context import AutoscalingConfig

    rows = [{ITEM: pickle.dumps(numbered)} for numbered in enumerate(items)]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    context = dataset.context
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.autoscaling_config = AutoscalingConfig(actor_pool_util_upscaling_threshold=ONE_AT_A_TIME)
    context.max_consecutive_actor_init_deaths = options.retries
    context.execution_no_progress_timeout_s = -1  # else a video that takes half an hour ends the job
    least, most = options.pool
    most = len(rows) if most is None else min(most, len(rows))
    folder = WorkingFolder(os.getcwd(), relative)  # noqa: PTH109
    return dataset.map(
        VideoActor,
        fn_constructor_args=(worker, dict(arguments), folder, attempts, options.retries, options.patience),
        compute=ray.data.ActorPoolStrategy(min_size=min(least, most), max_size=most, max_tasks_in_flight_per_actor=1),
        num_cpus=options.cpus,
        num_gpus=options.gpus_per_actor,
        memory=options.memory_per_actor or None,
        resources=dict(options.resources) or None,
        runtime_env=None if options.runtime_env is None else dict(options.runtime_env),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data's notes of each execution out of the output; its errors stay."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
