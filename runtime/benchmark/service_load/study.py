"""Run the study: clients at once, the memory meanwhile, and what the service leaves behind."""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.benchmark.service_load.client import Client
from runtime.benchmark.service_load.file_server import file_server
from runtime.benchmark.service_load.judging import Study
from runtime.benchmark.service_load.kinds import KINDS
from runtime.benchmark.service_load.memory import Memory
from runtime.benchmark.service_load.service import detect_all, read_metrics, served

OF_OTHERS = (".ses",)
"""Files that libraries leave in the folder for temporary files: ONNX Runtime's number of a session."""


def load(model: Path, videos: Sequence[Path], requests: int, at_once: int, workers: int, seed: int) -> Study:
    """Run the study and return what it saw.

    Args:
        model: model that is served.
        videos: videos of one folder.
        requests: number of requests.
        at_once: number of clients, of which each sends one request at a time.
        workers: processes of the service that detect.
        seed: chooses the requests and their order.
    """
    expected = detect_all(model, videos, workers)
    rng = random.Random(seed)
    shares = [kind.share for kind in KINDS.values()]
    kinds = list(KINDS) + rng.choices(list(KINDS), shares, k=max(requests - len(KINDS), 0))
    rng.shuffle(kinds)
    with (
        tempfile.TemporaryDirectory() as name,
        file_server(videos[0].parent) as files,
        served(model, Path(name), workers) as (process, address),
    ):
        memory = Memory(process.pid)
        before = memory.now()
        memory.start()
        client = Client(address, videos, expected, files)
        begun = time.monotonic()
        with ThreadPoolExecutor(at_once) as clients:
            records = list(clients.map(client.run, kinds[:requests], range(requests)))
        seconds = time.monotonic() - begun
        time.sleep(1.0)
        after = memory.now()
        metrics = read_metrics(address)
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
        memory.stopped.set()
        left = sum(1 for path in Path(name).rglob("*") if path.is_file() and path.name not in OF_OTHERS)
    return Study(records, seconds, before, memory.peak, after, workers, metrics, status, left)
