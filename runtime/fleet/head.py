"""Ask the head of a Ray cluster for an answer before Ray does, which waits for minutes and says nothing."""

from __future__ import annotations

import os
import re
import socket

from runtime.common.text import one_line
from runtime.errors import InputError
from runtime.fleet.options import ADDRESS

ANSWER_S = 10.0
"""Longest wait in seconds for the head to take a connection, and for its first bytes."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What a client of HTTP/2, and so of gRPC, which Ray speaks, sends first: the preface and empty settings (RFC 9113)."""
_SETTINGS = 4
"""Kind of the frame that a server of HTTP/2 sends first: its settings."""
_HEADER = 9
"""Bytes of a frame's header: length, kind, flags, stream."""


def require_answer(address: str, wait_s: float = ANSWER_S) -> None:
    """Check that something that speaks as a cluster's head does is at an address, HOST:PORT; others are Ray's to find.

    Raises:
        InputError: nothing takes the connection, or what does is silent or no head.
    """
    if re.fullmatch(ADDRESS, address) is None:
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), wait_s) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):  # then it is silent until TLS is agreed
                return
            connection.sendall(_GREETING)
            answer = b""
            while len(answer) < _HEADER and (more := connection.recv(_HEADER - len(answer))):
                answer += more
    except (OSError, OverflowError) as error:
        silent = isinstance(error, TimeoutError)
        reason = f"no answer in {wait_s:g} s" if silent else getattr(error, "strerror", None) or one_line(error)
    else:
        if len(answer) == _HEADER and answer[3] == _SETTINGS:
            return
        reason = "something else than Ray answers"
    raise InputError(
        f"{address}: no Ray cluster can be reached there ({reason}); give the address that ray start --head printed, "
        "auto on a machine of the cluster, or local"
    )
