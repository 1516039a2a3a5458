"""Serve the numbers of a watch to Prometheus, and a health check, over HTTP.

The client library's own server knows no health check, answers on every path, and asks for the name of this machine.
"""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Protocol

from runtime.errors import InputError
from runtime.live.numbers import WatchNumbers
from runtime.metrics.exposition import expose
from runtime.metrics.watch_collector import WatchCollector


class Watched(Protocol):
    """Gives the numbers and the health of a watch."""

    def numbers(self) -> WatchNumbers:
        """Return the numbers as they stand."""
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
    collector = WatchCollector(watched.numbers)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, *expose(collector, self.headers.get("Accept", "")))
            elif path == "/healthz":
                well, details = watched.health()
                self._answer(200 if well else 503, f"{json.dumps(details)}\n".encode(), "application/json")
            else:
                self._answer(404, b"expected /metrics or /healthz\n", "text/plain; charset=utf-8")

        do_HEAD = do_GET  # noqa: N815 — the name that http.server calls

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing for requests."""

    return Handler
