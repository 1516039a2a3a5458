"""Send the requests of a study, friendly and hostile, and see each through."""

from __future__ import annotations

import json
import random
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runtime.benchmark.service_load.outcome import Outcome

ANSWER_S = 600.0
"""Seconds after which a request without an answer is lost."""
HUGE = 300 << 20
"""Bytes of an upload that is too large; the service takes 100 MiB."""
MIB = 1 << 20


class Client:
    """Sends the requests of one study."""

    def __init__(self, address: str, videos: Sequence[Path], expected: dict[str, Any], files: str) -> None:
        """Take the service's address, videos, results by name, and the address of a server of the videos."""
        self._host, _, port = address.removeprefix("http://").partition(":")
        self._port = int(port)
        self._videos, self._expected, self._files = videos, expected, files
        self._refused = threading.local()

    def run(self, kind: str, seed: int) -> Outcome:
        """Send one request of a kind and see it through."""
        rng, begun = random.Random(seed), time.monotonic()
        self._refused.count, wrong = 0, False
        try:
            end, wrong = self._kinds()[kind](rng)
        except (OSError, HTTPException, ValueError, KeyError) as error:
            end = f"lost ({type(error).__name__}: {error})"
        return Outcome(kind, end, time.monotonic() - begun, self._refused.count, wrong)

    def _kinds(self) -> dict[str, Callable[[random.Random], tuple[str, bool]]]:
        return {
            "video": self._video,
            "form": self._form,
            "address": self._address,
            "cancelled": self._cancelled,
            "name": self._named,
            "type": lambda rng: self._refusal(b"x" * 1000, "text/html"),
            "declared huge": lambda rng: self._refusal(b"", "video/mp4", HUGE),
            "huge": lambda rng: self._refusal(bytes(MIB) for _ in range(HUGE // MIB)),
            "slow body": lambda rng: self._refusal(b"x" * 100, "video/mp4", 1_000_000),
            "slow head": self._slow_head,
            "truncated": self._truncated,
            "playlist": self._playlist,
            "no video": lambda rng: self._whole(rng.randbytes(100_000), "noise.mp4"),
            "gone": self._gone,
        }

    def _video(self, rng: random.Random) -> tuple[str, bool]:
        video = rng.choice(self._videos)
        return self._whole(video.read_bytes(), video.name, video, follow=rng.random() < 0.5)

    def _named(self, rng: random.Random) -> tuple[str, bool]:
        target = Path(tempfile.gettempdir(), "afsd-evil.mp4")
        video = rng.choice(self._videos)
        end, _ = self._whole(video.read_bytes(), f"../../../../../..{target}")
        return end, target.exists()

    def _form(self, rng: random.Random) -> tuple[str, bool]:
        video = rng.choice(self._videos)
        head = f'--b-o\r\nContent-Disposition: form-data; name="v"; filename="{video.name}"\r\n\r\n'.encode()
        body = head + video.read_bytes() + b"\r\n--b-o--\r\n"
        status, job = self._create(body, "multipart/form-data; boundary=b-o")
        return self._see(status, job, video)

    def _address(self, rng: random.Random) -> tuple[str, bool]:
        video = rng.choice(self._videos)
        body = json.dumps({"url": f"{self._files}/{quote(video.name)}"}).encode()
        return self._see(*self._create(body, "application/json"), video)

    def _cancelled(self, rng: random.Random) -> tuple[str, bool]:
        video = rng.choice(self._videos)
        status, job = self._create(video.read_bytes(), "video/mp4", video.name)
        if status != 202:
            return str(status), False
        time.sleep(rng.choice((0.0, 0.05, 0.3, 1.0)))
        deleted, _ = self._ask("DELETE", job["urls"]["job"])
        after, _ = self._ask("GET", job["urls"]["job"])
        return f"deleted {deleted}, then {after}", (deleted, after) != (204, 410)

    def _truncated(self, rng: random.Random) -> tuple[str, bool]:
        content = rng.choice(self._videos).read_bytes()
        return self._whole(content[: len(content) // 3], "cut.mp4")

    def _playlist(self, rng: random.Random) -> tuple[str, bool]:
        text, name = rng.choice(
            (("ffconcat version 1.0\nfile /etc/passwd\n", "a.mp4"),
             ("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n", "a.m3u8"))
        )  # fmt: skip
        return self._whole(text.encode(), name)

    def _whole(self, content: bytes, name: str, video: Path | None = None, follow: bool = True) -> tuple[str, bool]:
        return self._see(*self._create(content, "video/mp4", name), video, follow)

    def _create(self, body: bytes, kind: str, name: str = "") -> tuple[int, Any]:
        """Make a job, and try again where the queue is full."""
        query = f"?name={quote(name)}" if name else ""
        while True:
            connection = self._connect()
            connection.request("POST", f"/v1/jobs{query}", body, {"Content-Type": kind})
            answer = connection.getresponse()
            content = json.loads(answer.read())
            connection.close()
            if answer.status != 429:
                return answer.status, content
            self._refused.count += 1
            time.sleep(min(float(answer.headers["Retry-After"]), 2.0) * random.uniform(0.5, 1.0))

    def _see(self, status: int, job: Any, video: Path | None, follow: bool = True) -> tuple[str, bool]:
        """Follow a job, or ask for it, until it has ended; return how, and whether its result is wrong."""
        if status != 202:
            return str(status), False
        if follow:
            connection = self._connect()
            connection.request("GET", job["urls"]["events"])
            events = re.findall(r"^event: (\w+)$", connection.getresponse().read().decode(), re.M)
            state = events[-1]
            connection.close()
        while not follow:
            state = self._ask("GET", job["urls"]["job"])[1]["state"]
            if state in ("done", "failed", "cancelled"):
                break
            time.sleep(0.2)
        if state != "done" or video is None:
            return f"202 {state}", state == "done" and video is not None
        status, found = self._ask("GET", job["urls"]["result"])
        return f"202 {state}", found["results"] != {video.stem: self._expected[video.stem]}

    def _refusal(
        self, body: bytes | Iterator[bytes], kind: str = "video/mp4", declared: int | None = None
    ) -> tuple[str, bool]:
        """Send what is to be refused, and return the status."""
        connection = self._connect()
        connection.putrequest("POST", "/v1/jobs")
        connection.putheader("Content-Type", kind)
        if isinstance(body, bytes):
            connection.putheader("Content-Length", str(len(body) if declared is None else declared))
            connection.endheaders(body)
        else:
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            with suppress(ConnectionError):  # the answer may have come before the end of the body
                for piece in body:
                    connection.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                connection.send(b"0\r\n\r\n")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return str(answer.status), answer.status < 400

    def _slow_head(self, _: random.Random) -> tuple[str, bool]:
        with socket.create_connection((self._host, self._port), timeout=ANSWER_S) as line:
            line.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: ")
            return ("closed", False) if line.recv(100) == b"" else ("answered", True)

    def _gone(self, rng: random.Random) -> tuple[str, bool]:
        with socket.create_connection((self._host, self._port), timeout=ANSWER_S) as line:
            headers = {"Host": self._host, "Content-Type": "video/mp4", "Content-Length": "999999"}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            line.sendall(f"POST /v1/jobs HTTP/1.1\r\n{head}\r\n".encode() + rng.randbytes(100_000))
        return "went away", False

    def _ask(self, method: str, at: str) -> tuple[int, Any]:
        connection = self._connect()
        connection.request(method, at)
        answer: HTTPResponse = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, json.loads(content) if content else None

    def _connect(self) -> HTTPConnection:
        return HTTPConnection(self._host, self._port, timeout=ANSWER_S)
