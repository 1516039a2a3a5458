"""Run the service that is studied, ask for its numbers, and find what its results should be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from runtime.common.processors import usable_cores

PATIENCE_S = 3
"""Silence in seconds for which the service waits, so that slow clients are done with soon."""


@contextmanager
def served(model: Path, folder: Path, workers: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the verb in a process of its own, with temporary files in a folder; yield it and its address."""
    flags = ["--port", "0", "--workers", str(workers), "--queue", "12", "--patience", str(PATIENCE_S)]
    flags += ["--max-upload", "100", "--allow-private-urls", *threads(workers)]
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", "serve", str(model), *flags],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    assert process.stderr is not None
    try:
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r" at (http://\S+),", line):
                threading.Thread(target=lambda: sys.stderr.writelines(process.stderr or ()), daemon=True).start()
                yield process, found[1]
                break
        else:
            raise OSError(f"the service does not start: {''.join(lines).strip()}")
    finally:
        process.kill()
        process.wait()


def threads(workers: int) -> list[str]:
    """Return the flags for the threads of an engine: some engines round otherwise with another number of them."""
    return [] if workers == 1 else ["--threads", str(max(1, usable_cores() // workers))]


def detect_all(model: Path, videos: Sequence[Path], workers: int) -> dict[str, Any]:
    """Return the detections of `afsd detect --json` on each video, by name."""
    command = [sys.executable, "-m", "runtime", "detect", str(model), *map(str, videos), "--json", "-q"]
    command += threads(workers)
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(printed)["results"]
    return found


def read_metrics(address: str) -> dict[str, float]:
    """Return the numbers of a service, by name and labels as they are printed."""
    host, _, port = address.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port), timeout=30)
    connection.request("GET", "/metrics")
    rows = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, value in (row.rsplit(" ", 1) for row in rows if not row.startswith("#"))}
