"""What systemd is told, read from a socket as systemd has one; the names of the variables are those of sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.common.supervisor import ALIVE, READY, notify, watchdog_seconds

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets here")


@pytest.fixture(params=["file", "abstract"])
def listener(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "file" else f"@afsd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        try:
            bound.bind(name.replace("@", "\0", 1))
        except OSError:
            pytest.skip("this system has no such sockets")
        bound.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield bound


def test_states_arrive_as_one_message(listener: socket.socket) -> None:
    notify(READY, ALIVE)
    assert listener.recv(100) == b"READY=1\nWATCHDOG=1"


@pytest.mark.parametrize("name", ["", "/nonexistent/socket", "vsock:2:1234", "notify"])
def test_nobody_who_listens_is_no_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    notify(READY)


@pytest.mark.parametrize(
    ("microseconds", "process", "seconds"),
    [
        ("20000000", None, 20.0), ("20000000", "this", 20.0), ("20000000", "1", None), ("0", None, None),
        ("", None, None), ("-5", None, None), ("x", None, None),
    ],
)  # fmt: skip
def test_signs_of_life_are_for_the_process_that_is_asked(
    microseconds: str, process: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if process is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if process == "this" else process)
    assert watchdog_seconds() == seconds
