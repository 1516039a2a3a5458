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
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runtime.benchmark.service_load.judging import RequestRecord

ANSWER_S = 600.0
"""Seconds after which a request without an answer, or a job without an end, is lost."""
HUGE = 300 << 20
"""Bytes of an upload that is too large; the service takes 100 MiB."""
MIB = 1 << 20
ENDED = ("done", "failed", "cancelled")
"""States of a job that has ended."""


class Client:
    """Sends the requests of one study.

    Each method that sends one returns its end, in words: the status, the state of the job if there is one, and what is
    wrong with its result. `runtime.benchmark.service_load.kinds` has those that are allowed.
    """

    def __init__(self, address: str, videos: Sequence[Path], expected: dict[str, Any], files: str) -> None:
        """Take the service's address, videos, results by name, and the address of a server of the videos."""
        self._host, _, port = address.removeprefix("http://").partition(":")
        self._port = int(port)
        self._videos, self._expected, self._files = videos, expected, files
        self._refused = threading.local()
        self._kinds: dict[str, Callable[[random.Random], str]] = {
            "video": self._video,
            "form": self._form,
            "address": self._address,
            "cancelled": self._cancelled,
            "name": self._named,
            "type": lambda _: self._refusal(b"x" * 1000, "text/html"),
            "declared huge": lambda _: self._refusal(b"", "video/mp4", HUGE),
            "huge": lambda _: self._refusal(None),
            "slow body": lambda _: self._refusal(b"x" * 100, "video/mp4", 1_000_000),
            "slow head": self._slow_head,
            "truncated": self._truncated,
            "playlist": self._playlist,
            "no video": lambda rng: self._whole(rng.randbytes(100_000), "noise.mp4"),
            "gone": self._gone,
        }

    def run(self, kind: str, seed: int) -> RequestRecord:
        """Send one request of a kind and see it through."""
        rng, begun = random.Random(seed), time.monotonic()
        self._refused.count = 0
        try:
            end = self._kinds[kind](rng)
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:  # no answer, or no such one
            end = f"lost ({type(error).__name__}: {error})"
        return RequestRecord(kind, end, time.monotonic() - begun, self._refused.count)

    def _video(self, rng: random.Random) -> str:
        video = rng.choice(self._videos)
        return self._whole(video.read_bytes(), video.name, video, follow=rng.random() < 0.5)

    def _named(self, rng: random.Random) -> str:
        target = Path(tempfile.gettempdir(), "afsd-evil.mp4")
        video = rng.choice(self._videos)
        end = self._whole(video.read_bytes(), f"../../../../../..{target}")
        return f"{end}, and a file was written where its name says" if target.exists() else end

    def _form(self, rng: random.Random) -> str:
        video = rng.choice(self._videos)
        head = f'--b-o\r\nContent-Disposition: form-data; name="v"; filename="{video.name}"\r\n\r\n'.encode()
        body = head + video.read_bytes() + b"\r\n--b-o--\r\n"
        return self._see(*self._create(body, "multipart/form-data; boundary=b-o"), video)

    def _address(self, rng: random.Random) -> str:
        video = rng.choice(self._videos)
        body = json.dumps({"url": f"{self._files}/{quote(video.name)}"}).encode()
        return self._see(*self._create(body, "application/json"), video)

    def _cancelled(self, rng: random.Random) -> str:
        video = rng.choice(self._videos)
        status, job = self._create(video.read_bytes(), "video/mp4", video.name)
        if status != 202:
            return str(status)
        time.sleep(rng.choice((0.0, 0.05, 0.3, 1.0)))
        deleted, _ = self._ask("DELETE", job["urls"]["job"])
        after, _ = self._ask("GET", job["urls"]["job"])
        return f"deleted {deleted}, then {after}"

    def _truncated(self, rng: random.Random) -> str:
        content = rng.choice(self._videos).read_bytes()
        return self._whole(content[: len(content) // 3], "cut.mp4")

    def _playlist(self, rng: random.Random) -> str:
        text, name = rng.choice(
            (("ffconcat version 1.0\nfile /etc/passwd\n", "a.mp4"),
             ("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n", "a.m3u8"))
        )  # fmt: skip
        return self._whole(text.encode(), name)

    def _whole(self, content: bytes, name: str, video: Path | None = None, follow: bool = True) -> str:
        return self._see(*self._create(content, "video/mp4", name), video, follow)

    def _create(self, body: bytes, kind: str, name: str = "") -> tuple[int, Any]:
        """Make a job, and try again where the queue is full."""
        query = f"?name={quote(name)}" if name else ""
        while True:
            with closing(self._connect()) as connection:
                connection.request("POST", f"/v1/jobs{query}", body, {"Content-Type": kind})
                answer = connection.getresponse()
                content = json.loads(answer.read())
            if answer.status != 429:
                return answer.status, content
            self._wait_as_told(answer)

    def _see(self, status: int, job: Any, video: Path | None, follow: bool = True) -> str:
        """Follow a job, or ask for it, until it has ended; return how, and what is wrong with its result."""
        if status != 202:
            return str(status)
        state = self._follow(job) if follow else self._ask_until_ended(job)
        if state != "done" or video is None:
            return f"202 {state}"
        status, found = self._ask("GET", job["urls"]["result"])
        if status != 200:
            return f"202 done, its result {status}"
        right = found["results"] == {video.stem: self._expected[video.stem]}
        return "202 done" if right else "202 done, with another result than afsd detect"

    def _follow(self, job: Any) -> str:
        """Read the events of a job to their end, and return the last one's name (TimeoutError: they do not end)."""
        begun, state = time.monotonic(), ""
        with closing(self._connect()) as connection:
            connection.request("GET", job["urls"]["events"])
            for line in connection.getresponse():
                if found := re.fullmatch(r"event: (\w+)", line.decode().rstrip()):
                    state = found[1]
                if time.monotonic() - begun > ANSWER_S:
                    raise TimeoutError("the job's events do not end")
        return state or "without an event"

    def _ask_until_ended(self, job: Any) -> str:
        """Ask for a job until it has ended, and return its state (TimeoutError: it does not end)."""
        begun = time.monotonic()
        while time.monotonic() - begun < ANSWER_S:
            state = str(self._ask("GET", job["urls"]["job"])[1]["state"])
            if state in ENDED:
                return state
            time.sleep(0.2)
        raise TimeoutError(f"the job stays {state}")

    def _refusal(self, body: bytes | None, kind: str = "video/mp4", declared: int | None = None) -> str:
        """Send what is to be refused, again where the queue is full, and return the status.

        Args:
            body: what is sent; None: `HUGE` bytes in chunks.
            kind: type of the content.
            declared: number of bytes that are announced; None: as many as are sent.
        """
        while True:
            with closing(self._connect()) as connection:
                connection.putrequest("POST", "/v1/jobs")
                connection.putheader("Content-Type", kind)
                if body is not None:
                    connection.putheader("Content-Length", str(len(body) if declared is None else declared))
                    connection.endheaders(body)
                else:
                    connection.putheader("Transfer-Encoding", "chunked")
                    connection.endheaders()
                    with suppress(ConnectionError):  # the answer may have come before the end of the body
                        for piece in _huge_chunks():
                            connection.send(piece)
                answer = connection.getresponse()
                answer.read()
            if answer.status != 429:
                return str(answer.status)
            self._wait_as_told(answer)

    def _slow_head(self, _: random.Random) -> str:
        with socket.create_connection((self._host, self._port), timeout=ANSWER_S) as line:
            line.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: ")
            return "closed" if line.recv(100) == b"" else "answered"

    def _gone(self, rng: random.Random) -> str:
        with socket.create_connection((self._host, self._port), timeout=ANSWER_S) as line:
            headers = {"Host": self._host, "Content-Type": "video/mp4", "Content-Length": "999999"}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            line.sendall(f"POST /v1/jobs HTTP/1.1\r\n{head}\r\n".encode() + rng.randbytes(100_000))
        return "went away"

    def _ask(self, method: str, at: str) -> tuple[int, Any]:
        with closing(self._connect()) as connection:
            connection.request(method, at)
            answer: HTTPResponse = connection.getresponse()
            content = answer.read()
        return answer.status, json.loads(content) if content else None

    def _wait_as_told(self, answer: HTTPResponse) -> None:
        """Wait after a 429, at most two seconds."""
        self._refused.count += 1
        time.sleep(min(float(answer.headers["Retry-After"]), 2.0) * random.uniform(0.5, 1.0))

    def _connect(self) -> HTTPConnection:
        return HTTPConnection(self._host, self._port, timeout=ANSWER_S)


def _huge_chunks() -> Iterator[bytes]:
    """Yield `HUGE` bytes as chunks of HTTP, and the last chunk."""
    for _ in range(HUGE // MIB):
        yield f"{MIB:x}\r\n".encode() + bytes(MIB) + b"\r\n"
    yield b"0\r\n\r\n"
