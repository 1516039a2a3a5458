"""Loggers: what arrives at each, what a missing library or service says, and that a run outlives them."""

from __future__ import annotations

import builtins
import json
import struct
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import ConfigError, MissingDependencyError
from tests.training.feature_data import make_feature_set, small_feature_config
from tests.training.small import small_config
from training.loop.loggers import LOGGERS, open_loggers
from training.loop.metric_log import MetricLog
from training.loop.trainer import LAST
from training.run import train


def run(tmp_path: Path, *settings: str, resume: Path | None = None) -> Path:
    """Train a small A2Net on features."""
    root = tmp_path / "set"
    if not root.exists():
        make_feature_set(root)
    few = ("data.clip_stride=40", "optimiser.schedule=constant")
    return train(small_feature_config("a2net_gtea", root, *few, *settings), tmp_path / "run", resume)


def read_events(folder: Path) -> list[Any]:
    """Read the events of a TensorBoard folder: records of length, its CRC, data and its CRC (the TFRecord format)."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted(folder.iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            events.append(Event.FromString(content[place + 12 : place + 12 + length]))
            place += length + 16
    return events


def write_resumed(tmp_path: Path) -> None:
    """Write three steps, and go on from the second."""
    for resume_step, values in ((0, {1: 3.0, 2: 2.0, 3: 9.0}), (2, {3: 1.5})):
        loggers = open_loggers(small_config("run.logger=[tensorboard]"), tmp_path, resume_step)
        log = MetricLog(tmp_path, ("epoch", "total"), resume_step, loggers=loggers)
        for step, value in values.items():
            log.write(step, {"total": value, "epoch": 0.0})
        log.close()


def test_the_table_and_the_events_of_a_resumed_run(tmp_path: Path) -> None:
    """The second file begins with the step from which on events before it do not count, which is TensorBoard's form."""
    write_resumed(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "step,epoch,total\n1,0,3\n2,0,2\n3,0,1.5\n"
    events = read_events(tmp_path / "tensorboard")
    found = [
        (e.step, e.summary.value[0].simple_value)
        for e in events
        if e.summary.value and e.summary.value[0].tag == "total"
    ]
    assert found == [(1, 3.0), (2, 2.0), (3, 9.0), (3, 1.5)]
    assert [event.step for event in events if event.HasField("session_log")] == [3]


def test_tensorboard_itself_reads_the_events(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write_resumed(tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"total", "epoch"}
    assert [(event.step, event.value) for event in events.Scalars("total")] == [(1, 3.0), (2, 2.0), (3, 1.5)]


@pytest.mark.parametrize("logger", ["[]", "[csv]"])
def test_the_table_is_always_written_and_nothing_else_if_nothing_is_asked(logger: str, tmp_path: Path) -> None:
    run(tmp_path, f"run.logger={logger}", "run.max_steps=1", "run.keep_epochs=false")
    assert sorted(path.name for path in (tmp_path / "run").glob("[!.]*")) == ["curves.png", LAST, "metrics.csv"]


class FakeWandb(types.ModuleType):
    """Has the interface of wandb that is used, as its documentation has it."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[Any] = []

    def init(self, **settings: Any) -> FakeWandb:
        self.calls.append(settings)
        self.id = settings["id"] or "abc123"
        return self

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.calls.append((step, values))

    def finish(self) -> None:
        self.calls.append("finish")


def test_weights_and_biases_gets_settings_and_values_and_a_resumed_run_is_the_same_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    settings = ("run.logger=[wandb]",)
    last = run(tmp_path, *settings, "run.max_steps=2")
    begun, *values, end = fake.calls
    assert begun["project"] == "afsd"
    assert begun["dir"] == str(tmp_path / "run")
    assert begun["id"] is None
    assert begun["config"]["optimiser"]["batch_size"] == 2
    assert [step for step, _ in values] == [1, 2]
    assert values[0][1]["total"] > 0
    assert end == "finish"
    assert json.loads((tmp_path / "run" / "loggers.json").read_text()) == {"wandb": "abc123"}
    fake.calls.clear()
    run(tmp_path, *settings, "run.max_steps=3", resume=last)
    assert (fake.calls[0]["id"], fake.calls[0]["resume"]) == ("abc123", "allow")
    assert [step for step, _ in fake.calls[1:-1]] == [3]


def test_weights_and_biases_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline: the values are in the file that `wandb sync` would send."""
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(tmp_path, "run.logger=[wandb]", "run.max_steps=2")
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    rows = []
    for data in read_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            rows.append(
                {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            )
    assert [row["_step"] for row in rows] == [1, 2]
    assert all(row["total"] > 0 for row in rows)


def read_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log as LevelDB writes them: a header, then blocks of 32 KiB with their parts."""
    place, record = 7, b""
    while place < len(content):
        if 32_768 - place % 32_768 < 7:  # the rest of a block is empty
            place += 32_768 - place % 32_768
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield record
            record = b""


def test_mlflow_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a database, read with MLflow's client; a resumed run is the same run."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = ("run.logger=[mlflow]",)
    last = run(tmp_path, *settings, "run.max_steps=2")
    run(tmp_path, *settings, "run.max_steps=3", resume=last)
    number = json.loads((tmp_path / "run" / "loggers.json").read_text())["mlflow"]
    client = mlflow.MlflowClient(local_store(tmp_path / "run"))
    found = client.get_run(number)
    assert found.info.status == "FINISHED"
    assert found.data.params["optimiser.batch_size"] == "2"
    history = client.get_metric_history(number, "total")
    assert [point.step for point in history] == [1, 2, 3]
    assert all(point.value > 0 for point in history)
    assert len(client.search_runs([found.info.experiment_id])) == 1


def local_store(folder: Path) -> str:
    from training.loop.loggers import _local_store

    return _local_store(folder)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_library_that_is_missing_names_its_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = {"tensorboard": "tensorboardX"}.get(name, name)
    imported = builtins.__import__

    def refuse(wanted: str, *arguments: Any) -> Any:
        if wanted.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return imported(wanted, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    extra = {"tensorboard": "train"}.get(name, name)
    with pytest.raises(MissingDependencyError, match=rf"run\.logger {name} needs {module}.*'\.\[{extra}\]'"):
        open_loggers(small_config(f"run.logger=[{name}]"), tmp_path)


@pytest.mark.thorough
def test_a_service_that_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    fake.init = lambda **_: 1 / 0  # type: ignore[method-assign,assignment]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with pytest.raises(ConfigError, match=r"run\.logger wandb: division by zero; set WANDB_API_KEY, or WANDB_MODE"):
        run(tmp_path, "run.logger=[wandb]", "run.max_steps=1")


def test_a_logger_that_fails_is_dropped_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        def __init__(self, *_: Any) -> None:
            self.calls = 0

        def write(self, step: int, values: Mapping[str, float]) -> None:
            self.calls += 1
            if self.calls == 2:
                raise OSError("the network is down\nfor good")

        def close(self) -> None:
            raise OSError("too late")

    monkeypatch.setitem(LOGGERS, "wandb", Failing)  # type: ignore[arg-type]
    run(tmp_path, "run.logger=[wandb]", "run.max_steps=3")
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 4
    error = caplog.text
    assert error.count("run.logger wandb: the network is down for good; it gets no more values") == 1
    assert "too late" not in error
