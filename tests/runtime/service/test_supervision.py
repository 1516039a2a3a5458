"""What nobody foresaw in the care of workers, and in live inputs: the service goes on, and no worker is half used."""

from __future__ import annotations

import asyncio
import errno
import json
import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("starlette")

from runtime.errors import EngineError
from runtime.service import server as server_module
from runtime.service.job_options import JobOptions
from runtime.service.jobs import JobStore
from runtime.service.options import ServiceOptions
from runtime.service.refusals import RefusedError
from runtime.service.routes import Routes
from runtime.service.server import Running, Service
from runtime.service.workers import pool as pool_module
from runtime.service.workers import task as task_module
from runtime.service.workers.pool import Pool
from runtime.service.workers.process import WorkerProcess
from runtime.service.workers.worker import Line, Message, Models, _run, open_engines
from tests.runtime.service.doubles import open_double
from tests.tiny import TinyEngine
from tests.videos import write_video


class Worker:
    """Stands for the process of a worker."""

    gone = False

    async def close(self) -> None:
        """There is nothing to end."""

    def kill(self) -> None:
        """There is nothing to end."""


def test_a_worker_s_care_outlives_what_nobody_foresaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No process can be made, then a job meets a mistake; the one behind it is done all the same."""
    monkeypatch.setattr(pool_module, "FIRST_PAUSE_S", 0.01)

    async def run() -> None:
        options = ServiceOptions()
        store = JobStore(tmp_path, options)
        pool = Pool(Models("m"), options, store)
        faults: list[Exception] = [RuntimeError("first"), OSError("no process"), LookupError("third")]
        opened: list[Any] = []

        async def open_(number: int) -> Any:
            if len(faults) > 1:
                raise faults.pop(0)
            opened.append(Worker())
            return opened[-1]

        async def work(worker: Any, job: Any) -> bool:
            job.enter("running")
            if faults:
                raise faults.pop()
            pool._end(job, "done")
            return True

        pool._open, pool._run = open_, work  # type: ignore[method-assign]
        jobs = [store.add(JobOptions(), 0.5) for _ in range(2)]
        for job in jobs:
            pool.submit(job)
        care = asyncio.create_task(pool._keep_working(0, None))
        async with asyncio.timeout(20):
            while not jobs[1].ended:
                await asyncio.sleep(0.005)
        assert not care.done()
        assert [job.state for job in jobs] == ["failed", "done"]
        assert "unforeseen" in jobs[0].reason
        assert (pool.ready, pool.busy, len(opened)) == (1, 0, 2)
        (ran,) = pool.ran.collect()
        assert next(s.value for s in ran.samples if s.name.endswith("_count")) == 1
        await pool.close()
        care.cancel()

    asyncio.run(run())
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "afsd: warning: unforeseen RuntimeError", "afsd: warning: a worker cannot be opened",
        "afsd: warning: unforeseen LookupError",
    ]  # fmt: skip


def test_a_pool_is_lost_once_no_worker_has_been_open_for_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(pool_module.time, "monotonic", lambda: now[0])

    async def run() -> None:
        options = ServiceOptions(longest_without_worker=60.0)
        pool = Pool(Models("m"), options, JobStore(tmp_path, options))
        worker: Any = Worker()
        using = asyncio.create_task(pool._use(worker))
        await asyncio.sleep(0)
        now[0] = 1000.0
        assert (pool.ready, pool.lost) == (1, False)
        using.cancel()
        await asyncio.gather(using, return_exceptions=True)
        for seconds, lost in ((60.0, False), (60.5, True)):
            now[0] = 1000.0 + seconds
            assert (pool.seconds_without_worker, pool.lost) == (seconds, lost)
        stub: Any = SimpleNamespace(_pool=pool)
        request: Any = None
        with pytest.raises(RefusedError) as refused:
            await Routes.health(stub, request)
        assert refused.value.status == 503

    asyncio.run(run())


@pytest.mark.thorough
def test_a_service_without_any_worker_ends_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its engine cannot be opened again after the worker has died, as when the model's disk is gone."""
    monkeypatch.setattr(pool_module, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(server_module, "READ_S", 0.0)
    monkeypatch.setattr(server_module, "EXPIRE_EVERY_S", 0.05)
    service = Service(Models("double", open=open_double), ServiceOptions(port=0, longest_without_worker=0.3))

    def break_it(_: Running) -> None:
        pool: Any = service._pool

        async def fail(number: int) -> Any:
            raise EngineError("/models/model.xml: file not found")

        pool._open = fail
        pool.submit(pool._store.add(JobOptions(), 0.5))  # by which the pool notices
        pool.kill()

    with pytest.raises(EngineError, match=r"no worker has been open for \d s, .*model\.xml: file not found\)"):
        service.run(break_it)


class BrokenEngine(TinyEngine):
    """Fails at the first window."""

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        raise EngineError("the device is gone")


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_is_told_in_the_job_s_reason(tmp_path: Path) -> None:
    """And is no reason to open the engine again."""
    engines = open_engines(Models("tiny", open=lambda path, **_: TinyEngine()))
    ours, theirs = multiprocessing.Pipe()
    clip = write_video(tmp_path / "clip.mp4", frames=64)
    task = {"do": "job", "video": str(clip), "folder": str(tmp_path / "full"), "name": "clip.mp4", "source": "clip.mp4"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_module, "write_text", full)
        _run(task | {"score": 0.1, "max_seconds": 100.0, "options": {}}, engines, Line(theirs))
    said = []
    while ours.poll():
        said.append(json.loads(ours.recv_bytes()))
    reason = "the files of the job cannot be written (No space left on device)"
    assert said[-1] == {"event": "failed", "reason": reason, "spent": False}


DATA, END = b'{"do": "data"}', b'{"do": "end"}'
FRAMES = np.full((40, 12, 14, 3), 90, np.uint8).tobytes()


def live(engine: type[TinyEngine], *sent: bytes) -> tuple[list[dict[str, Any]], bool]:
    """What a worker says of a live input, and whether it leaves something of it on the line."""
    engines = open_engines(Models("tiny", open=lambda path, **_: engine()))
    ours, theirs = multiprocessing.Pipe()
    task = {"do": "live", "format": "rgb24", "width": 14, "height": 12, "fps": 10.0, "score": 0.1, "settle_s": None}
    task |= {"options": {}, "name": "live", "max_seconds": None}
    for message in (json.dumps(task).encode(), *sent):
        ours.send_bytes(message)
    line = Line(theirs)
    _run(line.hear(), engines, line)
    said = []
    while ours.poll():
        said.append(json.loads(ours.recv_bytes()))
    return [one for one in said if one["event"] not in ("progress", "detections")], theirs.poll()


def test_a_live_input_that_ends_within_its_frames_uses_the_worker_up() -> None:
    """Else the frames that are still on the line are taken for messages."""
    said, left = live(BrokenEngine, DATA, FRAMES, DATA, FRAMES[:5000], END)
    assert said[-1] == {"event": "failed", "reason": "the device is gone", "spent": True}
    assert left


def test_after_a_message_that_is_no_frame_the_line_is_clean() -> None:
    said, left = live(TinyEngine, DATA, b"x", DATA, FRAMES, END)
    assert [one["event"] for one in said] == ["broken", "failed"]
    assert not said[-1]["spent"]
    assert not left


def test_an_input_without_a_frame_waits_for_nothing_behind_its_end() -> None:
    said, left = live(TinyEngine, END)
    assert [one["event"] for one in said] == ["failed"]
    assert "at least one frame" in said[-1]["reason"]
    assert not said[-1]["spent"]
    assert not left


def test_a_worker_that_is_ready_is_not_waited_for_any_longer() -> None:
    """How a process ended takes seconds to find out while it lives."""

    class Living(WorkerProcess):
        def __init__(self) -> None:
            self.messages: asyncio.Queue[Message | None] = asyncio.Queue()

        async def fate(self) -> str:
            raise AssertionError("asked of a worker that lives")

    async def open_one() -> Message:
        worker = Living()
        worker.messages.put_nowait({"event": "ready", "model": "m"})
        return await worker.opened()

    assert asyncio.run(open_one())["model"] == "m"
