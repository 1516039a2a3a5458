"""Send the metrics of a run to TensorBoard, Weights & Biases or MLflow, each imported where a run names it.

Training runs on Lightning Fabric, whose own loggers are CSV and TensorBoard; those of the two services belong to
Lightning's Trainer, which this project has not. A logger that fails while a network is trained is dropped with a
warning: hours of training are worth more than a curve.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from runtime.common.files import read_json, write_json
from runtime.common.log import LOGGER
from runtime.common.text import one_line
from runtime.errors import AfsdError, ConfigError, import_failure
from training.config.files import config_to_mapping
from training.config.settings import Config

RECORD = "loggers.json"
"""Name of the file in the folder of a run with the numbers that services gave the run, by which it is resumed."""
PROJECT = "afsd"
"""Name of the project (Weights & Biases) or experiment (MLflow) unless the environment names one."""
LONGEST_PARAMETER = 500
"""Longest value of a setting that MLflow takes in every release, letters."""


class Logger(Protocol):
    """Receives the metrics of one run."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of an optimiser step, by name."""
        ...

    def close(self) -> None:
        """Send what is waiting, and end."""
        ...


class TensorBoardLogger:
    """Writes events for TensorBoard to `tensorboard/` in the folder of the run."""

    def __init__(self, config: Config, folder: Path, resume_step: int) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise import_failure(error, "tensorboardX", "train", "run.logger tensorboard") from None
        place, purged = str(folder / "tensorboard"), resume_step + 1 if resume_step else None
        self._board = SummaryWriter(place, purge_step=purged, filename_suffix=f".{resume_step}")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See `Logger`."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Logger`."""
        self._board.close()


class WandbLogger:
    """Sends metrics to Weights & Biases, or writes them to `wandb/` in the folder of the run (WANDB_MODE=offline).

    A resumed run is the same run there; values of steps that it repeats are those of the first time.
    """

    def __init__(self, config: Config, folder: Path, resume_step: int) -> None:
        try:
            import wandb
        except ImportError as error:
            raise import_failure(error, "wandb", "wandb", "run.logger wandb") from None
        known = _read_record(folder).get("wandb")
        try:
            self._run: Any = wandb.init(
                dir=str(folder),
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=config.name,
                id=known,
                resume="allow" if known else None,
                config=config_to_mapping(config),
            )
        except Exception as error:  # the library has many: no key, no network, a refused project
            raise ConfigError(
                f"run.logger wandb: {one_line(error)[:200]}; set WANDB_API_KEY, or WANDB_MODE=offline, or leave it out"
            ) from None
        _write_record(folder, "wandb", self._run.id)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See `Logger`."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See `Logger`."""
        self._run.finish()


class MlflowLogger:
    """Sends metrics to the MLflow server of MLFLOW_TRACKING_URI, or to `mlflow.db`, a database in the run's folder.

    A resumed run is the same run there; steps that it repeats have two values.
    """

    def __init__(self, config: Config, folder: Path, resume_step: int) -> None:
        try:
            import mlflow.entities
            from mlflow import MlflowClient
        except ImportError as error:
            raise import_failure(error, "mlflow", "mlflow", "run.logger mlflow") from None
        self._metric = mlflow.entities.Metric
        known = _read_record(folder).get("mlflow")
        try:
            self._client: Any = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or _local_store(folder))
            if known:
                self._id = known
                self._client.update_run(known, status="RUNNING")
                return
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            experiment = self._client.get_experiment_by_name(name)
            number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
            self._id = self._client.create_run(number, run_name=config.name).info.run_id
            settings = [mlflow.entities.Param(key, value) for key, value in _flatten(config_to_mapping(config))]
            self._client.log_batch(self._id, params=settings)
        except ImportError as error:  # of the database, which mlflow-skinny does without
            raise import_failure(error, "", "mlflow", "run.logger mlflow") from None
        except Exception as error:  # the library has many: no server, another format, no rights
            raise ConfigError(
                f"run.logger mlflow: {one_line(error)[:200]}; set MLFLOW_TRACKING_URI to a server, or leave it out"
            ) from None
        _write_record(folder, "mlflow", self._id)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See `Logger`."""
        now = round(1000 * time.time())
        self._client.log_batch(self._id, metrics=[self._metric(name, v, now, step) for name, v in values.items()])

    def close(self) -> None:
        """See `Logger`."""
        self._client.set_terminated(self._id)


LOGGERS: Mapping[str, Callable[[Config, Path, int], Logger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
}
"""Loggers by the name in `run.logger`; "csv" is `MetricLog` itself."""


class _Guarded:
    """Drops a logger that fails, with one warning."""

    def __init__(self, name: str, logger: Logger) -> None:
        self._name = name
        self._logger: Logger | None = logger

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda logger: logger.write(step, values))

    def close(self) -> None:
        self._try(lambda logger: logger.close())

    def _try(self, call: Callable[[Logger], None]) -> None:
        if self._logger is None:
            return
        try:
            call(self._logger)
        except Exception as error:  # of any library, for any reason
            self._logger = None
            LOGGER.warning(
                f"run.logger {self._name}: {one_line(error)[:200]}; it gets no more values, the run goes on and "
                "metrics.csv has them all"
            )


def open_loggers(config: Config, folder: Path, resume_step: int = 0) -> list[Logger]:
    """Open the loggers that `run.logger` names, in that order, each once.

    Args:
        config: configuration of the run.
        folder: folder of the run, which receives what a logger writes on this machine.
        resume_step: optimiser step from which the run resumes; 0: a new run.

    Raises:
        MissingDependencyError: a library is not installed; the message names the extra that has it.
        ConfigError: a service refuses the run.
    """
    opened: list[Logger] = []
    try:
        for name in dict.fromkeys(config.run.logger):
            if name in LOGGERS:
                opened.append(_Guarded(name, LOGGERS[name](config, folder, resume_step)))
    except AfsdError:
        for logger in opened:
            logger.close()
        raise
    return opened


def _local_store(folder: Path) -> str:
    """Return the address of a database in the folder of a run; MLflow 3 takes plain files no more."""
    return f"sqlite:///{folder.resolve().as_posix()}/mlflow.db"


def _read_record(folder: Path) -> dict[str, str]:
    if not (folder / RECORD).is_file():
        return {}
    content = read_json(folder / RECORD, "record of a run's loggers", ConfigError)
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}


def _write_record(folder: Path, name: str, number: str) -> None:
    write_json(folder / RECORD, {**_read_record(folder), name: number})


def _flatten(settings: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Return settings as `section.key` and text, as MLflow takes them."""
    flat: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", str(value)[:LONGEST_PARAMETER]))
    return flat
