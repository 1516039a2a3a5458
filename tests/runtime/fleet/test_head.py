"""An address at which no head of a cluster is: said at once, where Ray would wait for minutes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from runtime.errors import InputError
from runtime.fleet.head import require_answer

SETTINGS = bytes.fromhex("000006040000000000000300000064")
"""First frame of a server of HTTP/2 (RFC 9113, section 6.5): at most 100 streams at once."""


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """A server that gives one answer, whatever it is asked; None: takes the connection and stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                assert connection.recv(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                connection.sendall(answer or b"")

        thread = threading.Thread(target=serve, daemon=True)
        if answer is not None:
            thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_head_is_taken() -> None:
    with server(SETTINGS) as address:
        require_answer(address)


@pytest.mark.parametrize("address", ["auto", "local"])
def test_what_ray_finds_itself_is_not_asked(address: str) -> None:
    require_answer(address)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\0\0"])
def test_something_else_is_told_from_a_head(answer: bytes) -> None:
    with server(answer) as address, pytest.raises(InputError) as caught:
        require_answer(address)
    assert "no Ray cluster can be reached there (" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_that_is_silent_is_not_waited_for() -> None:
    began = time.monotonic()
    with server(None) as address, pytest.raises(InputError, match=r"there \(no answer in 0\.2 s\); give the address"):
        require_answer(address, 0.2)
    assert time.monotonic() - began < 5


def test_an_address_at_which_nothing_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(InputError, match=rf"127\.0\.0\.1:{port}: no Ray cluster can be reached there \(Connection ref"):
        require_answer(f"127.0.0.1:{port}")
    with pytest.raises(InputError, match="no Ray cluster can be reached there"):
        require_answer("127.0.0.1:99999")
