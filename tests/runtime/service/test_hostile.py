"""Clients that mean harm, and what else happens to a service: its parts keep little, wait for nobody, and go on."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")

from runtime.common.temporaries import scratch_folder
from runtime.errors import VideoError
from runtime.service import jobs as jobs_module
from runtime.service import live
from runtime.service.intake.root import find_again, find_in_root
from runtime.service.job_options import JobOptions
from runtime.service.jobs import JobStore
from runtime.service.options import ServiceOptions
from runtime.service.refusals import RefusedError
from runtime.service.routes import JobFile
from runtime.service.workers.process import WorkerProcess
from runtime.service.workers.task import require_same
from tests.runtime.service.doubles import HANG
from tests.runtime.service.serving import Served, serving

TEXT, BYTES, CONT, PING, CLOSE = 1, 2, 0, 9, 8
"""Opcodes of WebSocket (RFC 6455, section 5.2)."""


def test_a_worker_that_reads_nothing_stops_nobody_who_sends_to_it() -> None:
    """The event loop sends; a worker in a long call does not read, and a full line would stop all clients."""
    worker = WorkerProcess.__new__(WorkerProcess)
    worker._connection, theirs = multiprocessing.Pipe()
    worker._sender = ThreadPoolExecutor(1)

    def send_much() -> None:
        for _ in range(2000):
            worker.send("data", more="x" * 1000)
        worker.send("end")

    sending = threading.Thread(target=send_much, daemon=True)
    sending.start()
    sending.join(20)
    assert not sending.is_alive()
    heard = [json.loads(theirs.recv_bytes())["do"] for _ in range(2001)]
    assert heard == ["data"] * 2000 + ["end"]
    worker._sender.shutdown()


def test_failed_jobs_beyond_many_are_forgotten_before_those_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "MOST_FAILED", 2)

    async def run() -> None:
        store = JobStore(tmp_path, ServiceOptions())
        made = []
        for state in ("done", "failed", "failed", "cancelled", "failed"):
            made.append(store.add(JobOptions(), 0.5))
            made[-1].enter(state)  # type: ignore[arg-type]
        await store.expire()
        assert [job.state for job in store] == ["done", "cancelled", "failed"]
        with pytest.raises(RefusedError, match="failed, and so did many after it") as caught:
            store.get(made[1].id)
        assert caught.value.status == 410

    asyncio.run(run())


def test_a_folder_that_others_remove_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tmp_path / "first"
    first.mkdir()
    with scratch_folder(tmp_path) as second:
        store = JobStore(first, ServiceOptions(), lambda: second)
        assert store.add(JobOptions(), 0.5).folder.parent == first
        for path in (*first.iterdir(), first):
            path.rmdir()
        assert store.add(JobOptions(), 0.5).folder.is_relative_to(second)
        store.disk.require_free(1)
    assert "was removed by another program" in capsys.readouterr().err


def test_a_file_of_a_job_that_goes_meanwhile_is_an_answer(tmp_path: Path) -> None:
    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(_: Any) -> None:
        raise AssertionError("nothing to send")

    scope = {"type": "http", "method": "GET", "headers": [], "asgi": {"spec_version": "2.3"}}
    with pytest.raises(RefusedError, match="send it again") as caught:
        asyncio.run(JobFile(tmp_path / "gone.json", media_type="application/json")(scope, receive, send))
    assert caught.value.status == 410


def test_a_path_that_leads_elsewhere_by_now_is_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside.mp4"
    root.mkdir()
    outside.write_bytes(b"secret")
    (root / "a.mp4").write_bytes(b"x")
    found = find_in_root(root, "a.mp4")
    task: dict[str, Any] = {"name": "a.mp4", "root": str(root), "named": "a.mp4"}
    assert find_again(root, "a.mp4", found) == found
    require_same(task, found)
    (root / "a.mp4").unlink()
    (root / "b.mp4").write_bytes(b"y")
    for target in (outside, root / "b.mp4"):
        (root / "a.mp4").symlink_to(target)
        with pytest.raises(RefusedError):
            find_again(root, "a.mp4", found)
        with pytest.raises(VideoError, match=r"^a\.mp4: path: "):
            require_same(task, found)
        (root / "a.mp4").unlink()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(score=0.1, patience=20.0, max_live=1) as running:
        yield running


def frame(opcode: int, data: bytes, final: bool = True) -> bytes:
    """A frame of a client, masked with zeros (RFC 6455, section 5.2)."""
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else struct.pack("!BQ", 0xFF, size)
    return bytes([0x80 * final | opcode]) + length + bytes(4) + data


def opened(served: Served, *, receive_bytes: int = 1 << 16) -> socket.socket:
    """A WebSocket of which nothing is sent and read but its beginning."""
    host, _, port = served.address.removeprefix("http://").partition(":")
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    line.settimeout(20)
    line.connect((host, int(port)))
    line.sendall(
        f"GET /v1/live HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    got = b""
    while b"\r\n\r\n" not in got:
        got += line.recv(1)
    return line


def rest(line: socket.socket) -> bytes:
    """All that comes until the service has closed, or asked to."""
    got = b""
    with suppress(ConnectionError):
        while b"\x88" not in got and (data := line.recv(65536)):
            got += data
    return got


def until(holds: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(holds())


@pytest.mark.thorough
def test_a_first_message_of_many_megabytes_is_not_taken_apart(served: Served) -> None:
    with opened(served) as line:
        line.sendall(frame(TEXT, b"[" + b"[]," * 100_000 + b"[]]"))
        assert b"longer than 65,536" in rest(line)


@pytest.mark.thorough
def test_a_message_of_crumbs_is_refused(served: Served) -> None:
    with opened(served) as line:
        with suppress(ConnectionError):
            line.sendall(frame(BYTES, b"ab", final=False) + frame(CONT, b"ab", final=False) * 5000)
        assert b"in more than 4096 pieces" in rest(line)


@pytest.mark.thorough
def test_pings_of_a_client_that_reads_nothing_are_not_kept(served: Served) -> None:
    """All answers would be kept for it: as many bytes as it sends."""
    with opened(served, receive_bytes=4096) as line:
        mine = line.getsockname()[1]
        (connection,) = (one for one in served.service.connections if one.client[1] == mine)
        for _ in range(200):
            line.sendall(frame(PING, b"x" * 125) * 800)
        assert until(lambda: connection.transport.get_write_buffer_size() > 0)
        assert connection.transport.get_write_buffer_size() + len(connection._held) < 2 << 20  # of 20 MiB
        line.sendall(frame(PING, b"the last"))
        line.settimeout(5)
        got = b""
        while b"the last" not in got:
            got = got[-100:] + line.recv(1 << 20)


@pytest.mark.thorough
def test_a_body_that_is_no_http_any_more_ends_without_a_trace(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Of which the answer has begun: no other can be given."""
    host, _, port = served.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        head = f"POST /v1/live HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
        line.sendall(head.encode())
        got = b""
        while b"ready" not in got:
            got += line.recv(4096)
        line.sendall(b"no size\r\n")
        with suppress(ConnectionError):
            while line.recv(4096):
                pass
    assert until(lambda: served.metric("afsd_service_live_inputs") == 0)
    assert caplog.records == []


@pytest.mark.thorough
def test_a_live_input_whose_worker_hangs_gives_its_place_back(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HANG_S", 0.5)
    monkeypatch.setattr(live, "STOP_S", 0.2)
    hello = frame(TEXT, b'{"format": "rgb24", "width": 8, "height": 8, "fps": 10}')
    frames = frame(BYTES, np.full((40, 8, 8, 3), HANG, np.uint8).tobytes())
    with opened(served) as line:
        line.sendall(hello + frames + frame(TEXT, b'{"event": "end"}'))
        assert b"hangs: nothing came of it in 0.5 s" in rest(line)
    monkeypatch.setattr(live, "HANG_S", 60.0)
    assert until(lambda: served.metric("afsd_service_live_inputs") == 0)
    with opened(served) as line:  # of a client that goes away after its last frame
        line.sendall(hello + frames + frame(TEXT, b'{"event": "end"}'))
        assert until(lambda: served.metric("afsd_service_live_inputs") == 1)
        time.sleep(0.2)
    assert until(lambda: served.metric("afsd_service_live_inputs") == 0)
