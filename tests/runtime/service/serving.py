"""Run the service in a thread of the test, on a free port, with an engine double in its workers."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from runtime.service.options import ServiceOptions
from runtime.service.server import Running, Service
from runtime.service.workers.worker import Models
from tests.runtime.service.doubles import open_double

PATIENCE_S = 60.0
"""Seconds to wait for what must come, on a machine that does other things."""
MP4 = {"Content-Type": "video/mp4"}
Answer = dict[str, Any]


class Served:
    """A running service, and a client of it."""

    def __init__(self, service: Service, address: str, told: list[str]) -> None:
        self.service, self.address = service, address
        self.told = told
        """What the service says at its stop."""
        self.client = httpx.Client(base_url=address, timeout=PATIENCE_S, trust_env=False)

    @property
    def folder(self) -> Path:
        """Folder of the jobs' files."""
        return Path(self.service._folder)

    @contextmanager
    def options(self, **changes: Any) -> Iterator[None]:
        """Change options of the running service for a while."""
        before = {name: getattr(self.service.options, name) for name in changes}
        for name, value in changes.items():
            object.__setattr__(self.service.options, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                object.__setattr__(self.service.options, name, value)

    def post(self, video: Path | bytes, name: str = "clip.mp4", **options: Any) -> Answer:
        """Send a video and return the job."""
        content = video if isinstance(video, bytes) else video.read_bytes()
        answer = self.client.post("/v1/jobs", content=content, headers=MP4, params={"name": name, **options})
        assert answer.status_code == 202, answer.text
        job: Answer = answer.json()
        assert answer.headers["location"] == job["urls"]["job"]
        return job

    def events(self, job: Answer, after: int = 0) -> list[tuple[int, str, Answer]]:
        """Follow a job to its end and return its events as (number, kind, data), 0 for those without a number."""
        found = []
        with self.client.stream("GET", job["urls"]["events"], headers={"Last-Event-ID": str(after)}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                elif "event" in fields:
                    found.append((int(fields.get("id", 0)), fields["event"], json.loads(fields["data"])))
                    fields = {}
        return found

    def end(self, job: Answer) -> Answer:
        """Wait until a job has ended and return it."""
        return self.until(job, "done", "failed", "cancelled")

    def until(self, job: Answer, *states: str) -> Answer:
        """Wait until a job is in one of some states and return it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            now: Answer = self.client.get(job["urls"]["job"]).json()
            if now["state"] in states:
                return now
            time.sleep(0.02)
        raise AssertionError(f"the job is {now['state']}, expected {states}")

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric."""
        shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
        text = self.client.get("/metrics").text
        line = next(
            line for line in text.splitlines() if line.startswith(f"{name}{{{shown}}} " if shown else f"{name} ")
        )
        return float(line.split()[-1])


@contextmanager
def serving(engine: str = "double", **options: Any) -> Iterator[Served]:
    """A service with the double, on a free port."""
    told: list[str] = []
    service = Service(Models(engine, open=open_double), ServiceOptions(port=0, **options), told.append)
    said: queue.Queue[Running | BaseException] = queue.Queue()

    def run() -> None:
        try:
            service.run(said.put)
        except BaseException as error:
            said.put(error)

    thread = threading.Thread(target=run, name="service")
    thread.start()
    try:
        running = said.get(timeout=PATIENCE_S)
        if isinstance(running, BaseException):
            raise running
        served = Served(service, running.address, told)
        with served.client:
            yield served
    finally:
        service.stop()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert not Path(service._folder).exists()
