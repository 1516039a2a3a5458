"""Serve the numbers of a watch to Prometheus, and a health check, over HTTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from socketserver import TCPServer
from typing import Any, Literal, Protocol

from runtime.errors import InputError

LOOPBACK = "127.0.0.1"
"""Address to which the server is bound unless told otherwise."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Type of Prometheus' text format."""

Labels = Mapping[str, str]


@dataclass
class Metric:
    """Holds the values of one metric."""

    name: str
    help: str
    type: Literal["counter", "gauge", "histogram"] = "counter"
    values: list[tuple[Labels, float]] = field(default_factory=list)
    parts: list[tuple[str, Labels, float]] = field(default_factory=list)
    """Values of a histogram, by the suffix of their names."""

    def add(self, value: float, **labels: str) -> None:
        """Add the value for some labels."""
        self.values.append((labels, value))

    def add_histogram(self, bounds: Sequence[float], counts: Sequence[int], total: float, **labels: str) -> None:
        """Add a histogram for some labels.

        Args:
            bounds: upper bounds of the buckets, rising.
            counts: number of values in each bucket alone, and of those above the last bound.
            total: sum of all values.
            labels: labels of the histogram.
        """
        sums = list(accumulate(counts))
        for bound, count in zip([*map("{:g}".format, bounds), "+Inf"], sums, strict=True):
            self.parts.append(("_bucket", {**labels, "le": bound}, count))
        self.parts += [("_sum", labels, total), ("_count", labels, sums[-1])]


def render_metrics(metrics: Iterable[Metric]) -> str:
    """Return metrics in Prometheus' text format 0.0.4."""
    lines = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {_escape(metric.help)}")
        lines.append(f"# TYPE {metric.name} {metric.type}")
        for suffix, labels, value in [*(("", *one) for one in metric.values), *metric.parts]:
            shown = ",".join(f'{name}="{_escape(text, quotes=True)}"' for name, text in labels.items())
            lines.append(
                f"{metric.name}{suffix}{{{shown}}} {value:.15g}" if shown else f"{metric.name}{suffix} {value:.15g}"
            )
    return "\n".join(lines) + "\n"


def _escape(text: str, quotes: bool = False) -> str:
    escaped = text.replace("\\", r"\\").replace("\n", r"\n")
    return escaped.replace('"', r"\"") if quotes else escaped


class Watched(Protocol):
    """Gives the numbers and the health of a watch."""

    def metrics(self) -> list[Metric]:
        """Return the metrics as they stand."""
        ...

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether all is well, and the details as JSON takes them."""
        ...


class MetricsServer:
    """Serves /metrics and /healthz in a thread; a context manager."""

    def __init__(self, watched: Watched, address: tuple[str, int]) -> None:
        """Bind to (host, port); port 0 takes any that is free.

        Raises:
            InputError: the address is taken, or none of this machine's.
        """
        host, port = address
        try:
            self._server = _Server((host, port), _handler_of(watched))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"--metrics {host}:{port}: cannot be bound ({reason}); give a free port") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="afsd-metrics", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Address of the server, as in http://127.0.0.1:9100."""
        host, port = self._server.server_address[:2]
        return f"http://{f'[{host!s}]' if ':' in str(host) else host!s}:{port}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking for the name of this machine, which waits where no name server answers."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that goes away."""


def _handler_of(watched: Watched) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE, render_metrics(watched.metrics()))
            elif path == "/healthz":
                well, details = watched.health()
                self._answer(200 if well else 503, "application/json", json.dumps(details) + "\n")
            else:
                self._answer(404, "text/plain; charset=utf-8", "expected /metrics or /healthz\n")

        do_HEAD = do_GET  # noqa: N815 — the name that http.server calls

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode(errors="backslashreplace")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing for requests."""

    return Handler


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
