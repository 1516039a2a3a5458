"""A double of the service: it takes any job, and ends each as a rule says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

Rule = Callable[[bytes], str]
"""State in which a job ends, by the content that was sent."""


@contextmanager
def doubled(rule: Rule, found: dict[str, object]) -> Iterator[str]:
    """Run the double and yield its address; `found` is the result of every job that is done."""
    states: dict[str, str] = {}
    numbers = count()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            job = f"/v1/jobs/{next(numbers)}"
            states[job] = rule(content)
            self._answer(202, {"urls": {"job": job, "events": f"{job}/events", "result": f"{job}/result"}})

        def do_GET(self) -> None:
            job, _, part = self.path.removeprefix("/v1/jobs/").partition("/")
            state = states.get(f"/v1/jobs/{job}")
            if state is None:
                self._answer(410, {})
            elif part == "events":
                self._send(200, f"event: state\ndata: {{}}\n\nevent: {state}\ndata: {{}}\n\n".encode())
            elif part == "result":
                self._answer(200, {"results": found})
            else:
                self._answer(200, {"state": state})

        def do_DELETE(self) -> None:
            states.pop(self.path, None)
            self._send(204, b"")

        def _answer(self, status: int, document: object) -> None:
            self._send(status, json.dumps(document).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
