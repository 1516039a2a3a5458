"""The pool of workers, with threads in place of processes: openings that fail, deaths between videos, and silence."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.errors import AfsdError, EngineError
from runtime.jobs import worker_process, workers
from runtime.jobs.failures import Failure
from runtime.jobs.plan import plan_jobs
from runtime.jobs.running import Listener, VideoOutcome, WorkerPlan
from runtime.jobs.settings import JobSettings
from runtime.jobs.workers import DIED, HUNG, WorkerPool

Script = Callable[["Connection[Any, Any]"], None]
"""What a worker does with its end of the pipe; when it returns, the worker is dead."""


def work(connection: Connection[Any, Any]) -> None:
    """Do all videos."""
    connection.send(("ready", None))
    while (job := connection.recv()) is not None:
        connection.send(("begun", None))
        connection.send(("done", VideoOutcome(job, None)))


def fail_to_open(connection: Connection[Any, Any]) -> None:
    connection.send(("failed", EngineError("no memory is left")))
    connection.recv()


def die_of(number: int, *, begun: bool = True) -> Script:
    """Do so many videos and die of the next one, or before it is begun."""

    def script(connection: Connection[Any, Any]) -> None:
        connection.send(("ready", None))
        for _ in range(number):
            job = connection.recv()
            connection.send(("begun", None))
            connection.send(("done", VideoOutcome(job, None)))
        connection.recv()
        if begun:
            connection.send(("begun", None))

    return script


def after(seconds: float, script: Script) -> Script:
    def later(connection: Connection[Any, Any]) -> None:
        time.sleep(seconds)
        script(connection)

    return later


def last(seconds: float, *messages: tuple[str, object], allowance: float = 0.0) -> Script:
    """Take so long for each video, and send messages every hundredth of a second meanwhile."""

    def script(connection: Connection[Any, Any]) -> None:
        connection.send(("ready", None))
        while (job := connection.recv()) is not None:
            connection.send(("begun", None))
            connection.send(("allowance", allowance))
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for message in messages:
                    connection.send(message)
                time.sleep(0.01)
            connection.send(("done", VideoOutcome(job, None)))

    return script


class Run:
    """Runs videos with a script for each worker, in the order of their starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *scripts: Script) -> None:
        self.started, self.said, self.begun = 0, list[str](), list[str]()
        run, waiting = self, list(scripts)

        class Scripted(workers.WorkerProcess):
            def _begin(self, connection: Connection[Any, Any], plan: WorkerPlan) -> Any:
                run.started += 1
                threading.Thread(target=live, args=(waiting.pop(0), os.dup(connection.fileno())), daemon=True).start()
                return SimpleNamespace(kill=lambda: None, join=lambda timeout: None, exitcode=-9)

        def live(script: Script, descriptor: int) -> None:
            connection: Connection[Any, Any] = Connection(descriptor)
            try:
                script(connection)
            except (OSError, EOFError):
                pass
            finally:
                connection.close()

        monkeypatch.setattr(workers, "WorkerProcess", Scripted)
        monkeypatch.setattr(workers, "REOPEN_S", 0.01)

    def __call__(self, videos: int, count: int, patience: float = 60.0) -> dict[str, Failure | None]:
        plan = WorkerPlan(JobSettings("m.onnx"), Path())
        pool = WorkerPool(plan, ["cpu"] * count, patience=patience)
        listener = Listener(
            begun=lambda job: self.begun.append(job.name), said=lambda level, text: self.said.append(text)
        )
        jobs = plan_jobs([f"v{number}.mp4" for number in range(videos)])
        return {outcome.job.name: outcome.failure for outcome in pool.run(jobs, listener)}


def test_one_that_cannot_open_leaves_the_videos_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, fail_to_open, after(0.05, work))
    assert run(3, 2) == {"v0": None, "v1": None, "v2": None}
    assert run.said == ["no memory is left"]


def test_where_none_can_open_there_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, fail_to_open, fail_to_open)
    with pytest.raises(AfsdError, match="no memory is left"):
        run(3, 2)
    assert (run.started, run.said) == (2, [])


@pytest.mark.parametrize("openings", [1, 2, 3])
def test_a_replacement_that_cannot_open_is_opened_again(monkeypatch: pytest.MonkeyPatch, openings: int) -> None:
    run = Run(monkeypatch, die_of(1), *[fail_to_open] * openings, work)
    found = run(3, 1)
    assert [name for name, failure in found.items() if failure is None] == ["v0", "v2"]
    assert found["v1"] is not None
    assert found["v1"].kind == DIED
    assert run.said == ["no memory is left"] * openings


def test_opening_is_given_up_after_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, die_of(1), *[fail_to_open] * workers.OPENINGS)
    with pytest.raises(EngineError, match="no worker process is left"):
        run(3, 1)
    assert run.started == 1 + workers.OPENINGS


def test_a_video_that_its_worker_never_began_is_given_to_another_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, die_of(1, begun=False), work)
    assert run(3, 1) == {"v0": None, "v1": None, "v2": None}
    assert run.begun == ["v0", "v1", "v2"]
    run = Run(monkeypatch, die_of(0, begun=False), die_of(0, begun=False), work)
    found = run(2, 1)
    assert found["v0"] is not None
    assert found["v0"].kind == DIED
    assert found["v1"] is None


def test_a_worker_without_progress_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, last(5), work)
    began = time.monotonic()
    found = run(3, 1, patience=0.6)
    assert time.monotonic() - began < 3
    assert found["v0"] is not None
    assert found["v0"].kind == HUNG
    assert found["v0"].message.startswith("v0.mp4: no progress for 1 s, so its process was ended; --patience")
    assert (found["v1"], found["v2"]) == (None, None)


@pytest.mark.thorough
@pytest.mark.parametrize("message", [("alive", None), ("progress", 1.0)])
def test_progress_keeps_a_worker_alive(monkeypatch: pytest.MonkeyPatch, message: tuple[str, object]) -> None:
    assert Run(monkeypatch, last(0.9, message))(1, 1, patience=0.4) == {"v0": None}


@pytest.mark.thorough
def test_a_log_line_is_no_progress_and_a_large_file_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Run(monkeypatch, last(5, ("said", (20, "still here"))))(1, 1, patience=0.1)
    assert found["v0"] is not None
    assert Run(monkeypatch, last(0.9, allowance=9.0))(1, 1, patience=0.4) == {"v0": None}


@pytest.mark.thorough
def test_a_busy_parent_ends_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    Run(monkeypatch, last(0.02), last(0.15))
    pool = WorkerPool(WorkerPlan(JobSettings("m.onnx"), Path()), ["cpu"] * 2, patience=0.8)
    failures = []
    for outcome in pool.run(plan_jobs(["a.mp4", "b.mp4"])):
        failures.append(outcome.failure)
        time.sleep(1.0)  # as long as writing a table takes
    assert failures == [None, None]


@pytest.mark.thorough
def test_a_worker_that_hangs_in_its_opening_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "OPENING_S", 0.3)
    run = Run(monkeypatch, lambda connection: time.sleep(5), work)
    assert run(3, 2, patience=0.2) == {"v0": None, "v1": None, "v2": None}
    run = Run(monkeypatch, lambda connection: time.sleep(5), fail_to_open)
    with pytest.raises(AfsdError, match="no memory is left"):
        run(3, 2, patience=0.2)
    assert run.said == ["a worker process did not open the model in 0 s, so it was ended; is a drive gone?"]


@pytest.mark.parametrize(("patience", "life"), [(600.0, 2.0), (4.0, 1.0), (0.1, 0.025)])
def test_signs_of_life_are_more_often_than_patience_ends(patience: float, life: float) -> None:
    pool = WorkerPool(WorkerPlan(JobSettings("m.onnx"), Path()), ["cpu"], patience=patience)
    assert pool._plan.life_s == pytest.approx(life)


def test_what_was_seen_of_the_video_before_ends_no_allowance() -> None:
    """A large file is read for its digest, without progress, after another video has gone on."""
    sent: list[tuple[str, object]] = []
    parent: Any = SimpleNamespace(send=lambda kind, content=None: sent.append((kind, content)))
    worker: Any = SimpleNamespace(seen=(0, 0))
    life = worker_process._Life(worker, parent, 0.02)
    worker.seen = (20, 2)
    life.begin(9.0)
    time.sleep(0.1)
    assert sent[-1] == ("allowance", 9.0)
    worker.seen = (0, 1)
    time.sleep(0.1)
    assert sent[-1] == ("alive", None)
