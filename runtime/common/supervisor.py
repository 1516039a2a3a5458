"""Tell systemd, where it supervises this process as Type=notify, that the process is ready, lives, or ends.

The protocol is that of sd_notify(3), whose interface is stable: a datagram to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"
"""What is told: the start is done, the end has begun, the process is well."""


def notify(*states: str) -> None:
    """Tell the supervisor some states; without one, or with one that does not listen, do nothing.

    May be called in a signal handler.
    """
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name[:1] not in ("/", "@") or not hasattr(socket, "AF_UNIX"):
        return
    address = f"\0{name[1:]}" if name.startswith("@") else name  # "@": a name that is in no folder
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto("\n".join(states).encode(), address)


def watchdog_seconds() -> float | None:
    """Return the longest time between two `ALIVE` that the supervisor takes; None: it expects none of this process."""
    own = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if own != str(os.getpid()) or not (microseconds.isascii() and microseconds.isdecimal()):
        return None
    return int(microseconds) / 1e6 or None
