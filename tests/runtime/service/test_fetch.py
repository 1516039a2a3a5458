"""Videos that the service fetches: from where it may, within limits, following redirects that it has checked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runtime.service.intake import fetching
from runtime.service.intake.fetching import Fetch, FetchError
from tests.runtime.service.serving import Served, serving
from tests.videos import write_video


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with a video and with answers that are none."""
    video = write_video(tmp_path_factory.mktemp("source") / "clip.mp4", frames=64).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            here = f"http://{self.headers['Host']}"
            places = {
                "/moved": "/clip.mp4", "/out": "http://169.254.169.254/latest", "/file": "file:///etc/passwd",
                "/round": "/round", "/absolute": f"{here}/clip.mp4", "/user": "http://u:p@127.0.0.1/",
                "/bracket": "http://[", "/mail": "http://127.0.0.1:25/",
                "/letters": "/é.mp4".encode().decode("latin-1"),  # UTF-8 as it is
            }  # fmt: skip
            if path in places:
                self._answer(302, b"", Location=places[path])
            elif path in ("/clip.mp4", "/%C3%A9.mp4"):
                self._answer(200, video)
            elif path == "/cut":
                self._answer(200, video[:1000], **{"Content-Length": str(len(video))})
                self.close_connection = True
            elif path == "/silent":
                time.sleep(3)
                self.close_connection = True
            elif path == "/noise":
                self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
                self.close_connection = True
            elif path == "/headers":
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                for _ in range(30):  # one each moment, for ever
                    self.wfile.write(b"X: y\r\n")
                    time.sleep(0.1)
            elif path == "/trailers":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
                for _ in range(60):  # lines behind the body, which are read without an end
                    self.wfile.write(b"X: y\r\n")
                    time.sleep(0.1)
            elif path == "/endless":
                self.send_response(200)
                self.end_headers()
                for _ in range(500):
                    self.wfile.write(bytes(10_000))
                    time.sleep(0.001)
            else:
                self._answer(404, b"")

        def _answer(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def fetch(url: str, path: Path, **changes: Any) -> Fetch:
    fetched = Fetch(url, path, **{"largest": 1_000_000, "patience": 0.5, "longest": 60.0, "private": True} | changes)
    fetched.run(lambda count: None)
    return fetched


@pytest.mark.parametrize(
    "at", ["/clip.mp4", "/moved", "/absolute", "/clip.mp4?token=secret", "/é.mp4?name=ü", "/%C3%A9.mp4", "/letters"]
)
def test_a_video_is_fetched_through_redirects(at: str, source: str, tmp_path: Path) -> None:
    fetched = fetch(source + at, tmp_path / "video")
    assert (tmp_path / "video").stat().st_size > 1000
    assert ".mp4" in fetched.final_url


@pytest.mark.parametrize(
    ("at", "changes", "reason"),
    [
        ("/clip.mp4", {"private": False}, "private network"),
        ("/out", {"private": True}, "cannot be fetched|answers|redirect"),
        ("/file", {}, "http://"),
        ("/user", {}, "names a user"),
        ("/bracket", {}, "redirect to what is no address"),
        ("/mail", {}, "a redirect: url: got port 25"),
        ("/round", {}, "more than 5 redirects"),
        ("/nowhere", {}, "answers 404"),
        ("/clip.mp4", {"largest": 1000}, "larger than"),
        ("/endless", {"largest": 50_000}, "larger than"),
        ("/cut", {}, "broke off"),
        ("/endless", {"largest": 50_000_000, "longest": 0.05}, "not whole after 0.05 s"),
        ("/silent", {}, "no answer in 0.5 s"),
        ("/noise", {}, "no answer in 0.5 s"),
        ("/headers", {}, "no answer in 0.5 s"),
        ("/trailers", {}, "slower than"),
        ("/trailers", {"patience": 20.0, "longest": 0.4}, "not whole after 0.4 s"),
    ],
)
def test_what_is_no_video_fails_with_a_reason(
    at: str, changes: dict[str, Any], reason: str, source: str, tmp_path: Path
) -> None:
    with pytest.raises(FetchError, match=reason) as caught:
        fetch(source + at, tmp_path / "video", **changes)
    assert "secret" not in str(caught.value)


def test_a_host_that_refuses_is_told_as_one_that_is_silent(source: str, tmp_path: Path) -> None:
    """Else clients could map the open ports of others from here."""
    with socket.socket() as bound:  # which does not listen
        bound.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{bound.getsockname()[1]}/silent"
        said = []
        for url in (closed, f"{source}/silent"):
            with pytest.raises(FetchError) as caught:
                fetch(url, tmp_path / "video")
            said.append(str(caught.value).replace(url, ""))
    assert said[0] == said[1]


def test_a_redirect_to_a_private_network_is_not_followed(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is taken for public here; what it leads to is not."""
    real = fetching.is_public
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1" or real(address))
    with pytest.raises(FetchError, match="private network"):
        fetch(f"{source}/out", tmp_path / "video", private=False)


def test_a_name_is_looked_up_once(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to a public address when it is checked and to this machine when it is used (DNS rebinding)."""
    asked: list[str] = []
    port = int(source.rpartition(":")[2])

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        address = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
        return [(2, 1, 6, "", (address, port))]

    reached: list[Any] = []

    def connect(address: Any, *_: Any) -> Any:
        reached.append(address)
        raise ConnectionRefusedError("not here")

    monkeypatch.setattr(fetching.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(fetching.socket, "create_connection", connect)
    with pytest.raises(FetchError):
        fetch("http://rebind.example/clip.mp4", tmp_path / "video", private=False)
    assert reached == [("93.184.216.34", 80)]
    assert asked == ["rebind.example"]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(score=0.1, patience=2.0) as running:
        yield running


@pytest.mark.thorough
def test_jobs_of_addresses(served: Served, source: str) -> None:
    refused = served.client.post("/v1/jobs", json={"url": f"{source}/clip.mp4"}).json()
    refused = served.end(refused)
    assert (refused["state"], "private network" in refused["reason"]) == ("failed", True)
    with served.options(private_urls=True):
        job = served.client.post("/v1/jobs", json={"url": f"{source}/moved?token=secret", "score": 0.2}).json()
        assert "secret" not in str(job)
        done = served.end(job)
        assert done["state"] == "done", done
        assert served.client.get(done["urls"]["video"]).headers["content-type"] == "video/mp4"
        slow = served.client.post("/v1/jobs", json={"url": f"{source}/silent"}).json()
        served.until(slow, "fetching")
        begun = time.monotonic()
        assert served.client.delete(slow["urls"]["job"]).status_code == 204
        while (served.folder / slow["id"]).exists() and time.monotonic() < begun + 10:
            time.sleep(0.02)
        assert time.monotonic() < begun + 1.5
    assert not (served.folder / slow["id"]).exists()
