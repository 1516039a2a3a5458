"""An address from which a video comes slowly: a server of Triton that reads it is occupied for a minute and more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.videos import write_video

FRAMES = 1500
PIECE_S = 0.1
PIECES = 900
"""Pieces in which the video is sent, one every `PIECE_S`."""


@contextmanager
def slow_address(folder: Path) -> Iterator[str]:
    """Serve a video of 150 s within 90 s, to readers that may go away; yield its address."""
    content = write_video(folder / "slow.avi", frames=FRAMES).read_bytes()
    size = -(-len(content) // PIECES)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                for start in range(0, len(content), size):
                    self.wfile.write(content[start : start + size])
                    time.sleep(PIECE_S)
            except ConnectionError:
                pass

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/slow.avi"
        server.shutdown()
