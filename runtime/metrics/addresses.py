"""Read where the numbers of a watch are served."""

from __future__ import annotations

from runtime.errors import InputError

LOOPBACK = "127.0.0.1"
"""Address to which a server is bound unless told otherwise."""


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port) of "PORT", "HOST:PORT" or "[IPv6]:PORT"; the host is the loopback address unless given.

    Raises:
        InputError: something else, or a port that is none.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or LOOPBACK
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise InputError(f"--metrics: got {text!r}, expected PORT or HOST:PORT with a port of 0 … 65535")
    return host, int(port)
