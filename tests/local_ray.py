"""Ray on this machine for the tests: small, without a port for people, with its own folder, and gone at the end."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
STORE_BYTES = 80 * 2**20
"""The least that Ray takes is 75 MiB."""
GONE_WITHIN_S = 120.0
"""Two of its processes look only now and then whether the others have been killed."""
TOKEN = secrets.token_hex(32)
"""By which its processes know each other; Ray keeps the first that a process has given, and else writes one into the
user's home folder."""


@contextmanager
def local_ray(cpus: int = 2) -> Iterator[Any]:
    """Ray with so many CPUs; skips where it is not installed. Its processes find the project, and end with it."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    pytest.importorskip("ray.data", reason="Ray Data is not installed (extra ray)")
    # sockets have short paths
    folder = tempfile.mkdtemp(prefix="afsd-ray-", dir="/tmp")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        patch.delenv("RAY_AUTH_MODE", raising=False)  # Ray sets it
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
        patch.delenv("RAY_ADDRESS", raising=False)
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=folder,
            )
            yield ray
        finally:
            ray.shutdown()
            signal.signal(signal.SIGTERM, before)  # Ray's ends the process
            try:
                wait_until_gone(folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def processes_of(mark: str) -> list[str]:
    """The command lines of processes in whose words `mark` is, such as the folder of a Ray."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # ended by now
            continue
        if mark in words and entry.parent.name != str(os.getpid()):
            found.append(f"{entry.parent.name} {words}")
    return found


def wait_until_gone(mark: str) -> None:
    """Wait until no process has `mark` among its words."""
    end = time.monotonic() + GONE_WITHIN_S
    while left := processes_of(mark):
        assert time.monotonic() < end, left
        time.sleep(0.1)
