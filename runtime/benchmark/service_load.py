"""Load `afsd serve` with many clients at once, some of them hostile, and report what became of every request.

    python -m runtime.benchmark.service_load runs/demo/synthetic.xml runs/demo/data/videos/*.mp4

Results are compared with those of `afsd detect --json` on the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runtime.common.console import run_script
from runtime.common.processors import usable_cores
from runtime.common.tables import align
from runtime.service.metrics import resident

PATIENCE_S = 3
"""Silence in seconds for which the service waits, so that slow clients are done with soon."""
ANSWER_S = 600.0
"""Seconds after which a request without an answer is lost."""
HUGE = 300 << 20
"""Bytes of an upload that is too large; the service takes 100 MiB."""
MIB = 1 << 20
OF_OTHERS = (".ses",)
"""Files that libraries leave in the folder for temporary files: ONNX Runtime's number of a session."""
SHARES = {
    "video": 0.47, "form": 0.1, "address": 0.05, "cancelled": 0.12, "name": 0.03, "type": 0.03, "declared huge": 0.03,
    "huge": 0.02, "slow body": 0.02, "slow head": 0.02, "truncated": 0.03,
    "playlist": 0.03, "no video": 0.03, "gone": 0.02,
}  # fmt: skip
"""Kinds of requests, with their shares."""


@dataclass
class Outcome:
    """Holds what became of one request."""

    kind: str
    end: str
    """Status, and state of its job if there is one; "lost" if there was no answer."""
    seconds: float
    refusals: int = 0
    """Number of 429 before it was taken."""
    wrong: bool = False
    """Whether the result is another than that of `afsd detect`."""


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


class Memory(threading.Thread):
    """Watches the resident memory of a process and of its children."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.stopped = threading.Event()
        self.peak = (0, 0)
        """Most bytes of the service, and of its workers."""

    def now(self) -> tuple[int, int]:
        """Return the bytes of the service, and of its workers."""
        children = Path(f"/proc/{self._pid}/task").glob("*/children")
        pids = [int(word) for path in children for word in path.read_text(encoding="ascii").split()]
        return resident(self._pid), sum(map(resident, pids))

    def run(self) -> None:
        """Watch (the thread's body)."""
        while not self.stopped.wait(0.1):
            with suppress(OSError):
                own, workers = self.now()
                self.peak = max(self.peak[0], own), max(self.peak[1], workers)


@contextmanager
def served(model: Path, folder: Path, workers: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the verb in a process of its own, with temporary files in a folder; yield it and its address."""
    flags = [
        "--port",
        "0",
        "--workers",
        str(workers),
        "--queue",
        "12",
        "--patience",
        str(PATIENCE_S),
        "--max-upload",
        "100",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", "serve", str(model), *flags, "--allow-private-urls", *threads(workers)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    assert process.stderr is not None
    try:
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r" at (http://\S+),", line):
                threading.Thread(target=lambda: sys.stderr.writelines(process.stderr or ()), daemon=True).start()
                yield process, found[1]
                break
        else:
            raise OSError(f"the service does not start: {''.join(lines).strip()}")
    finally:
        process.kill()
        process.wait()


@contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """Serve a folder's files, for jobs of addresses; yield the address."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            """Print nothing."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def threads(workers: int) -> list[str]:
    """Return the flags for the threads of an engine: some engines round otherwise with another number of them."""
    return [] if workers == 1 else ["--threads", str(max(1, usable_cores() // workers))]


def detect_all(model: Path, videos: Sequence[Path], workers: int) -> dict[str, Any]:
    """Return the detections of `afsd detect --json` on each video, by name."""
    command = [sys.executable, "-m", "runtime", "detect", str(model), *map(str, videos), "--json", "-q"]
    command += threads(workers)
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(printed)["results"]
    return found


def load(model: Path, videos: Sequence[Path], requests: int, at_once: int, workers: int, seed: int) -> str:
    """Run the study and return its report."""
    expected = detect_all(model, videos, workers)
    rng = random.Random(seed)
    kinds = list(SHARES) + rng.choices(list(SHARES), list(SHARES.values()), k=max(requests - len(SHARES), 0))
    rng.shuffle(kinds)
    with (
        tempfile.TemporaryDirectory() as name,
        file_server(videos[0].parent) as files,
        served(model, Path(name), workers) as (process, address),
    ):
        memory = Memory(process.pid)
        before = memory.now()
        memory.start()
        client = Client(address, videos, expected, files)
        begun = time.monotonic()
        with ThreadPoolExecutor(at_once) as clients:
            outcomes = list(clients.map(client.run, kinds[:requests], range(requests)))
        seconds = time.monotonic() - begun
        time.sleep(1.0)
        after = memory.now()
        metrics = _metrics(address)
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
        memory.stopped.set()
        left = sum(1 for path in Path(name).rglob("*") if path.is_file() and path.name not in OF_OTHERS)
    return _report(outcomes, seconds, (before, memory.peak, after), metrics, status, left)


def _metrics(address: str) -> dict[str, float]:
    host, _, port = address.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port), timeout=30)
    connection.request("GET", "/metrics")
    rows = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, value in (row.rsplit(" ", 1) for row in rows if not row.startswith("#"))}


def _report(
    outcomes: list[Outcome],
    seconds: float,
    memory: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
    metrics: dict[str, float],
    status: int,
    left: int,
) -> str:
    lost = [outcome for outcome in outcomes if outcome.end.startswith("lost")]
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_kind[outcome.kind].append(outcome)
    rows = [["kind", "requests", "what became of them", "s, quartiles", "429 first", "wrong"]]
    for kind in SHARES:
        those = by_kind[kind]
        ends = ", ".join(f"{count} × {end}" for end, count in Counter(o.end for o in those).most_common())
        times = _quartiles([o.seconds for o in those])
        refused, wrong = sum(o.refusals for o in those), sum(o.wrong for o in those)
        rows.append([kind, str(len(those)), ends, times, str(refused), str(wrong)])
    done = [o.seconds for o in outcomes if o.end == "202 done"]
    ran = {name: value for name, value in metrics.items() if name.startswith("afsd_service_job_seconds_")}
    mean = ran["afsd_service_job_seconds_sum"] / max(ran["afsd_service_job_seconds_count"], 1)
    shown = [" + ".join(f"{value / MIB:.0f}" for value in pair) for pair in memory]
    return "\n".join(
        [
            align(rows, "lrllrr"),
            "",
            f"{len(outcomes)} requests in {seconds:.1f} s: {len(outcomes) - len(lost)} answered, {len(lost)} lost, "
            f"{sum(o.wrong for o in outcomes)} wrong",
            f"jobs that are done: {len(done)}, seconds from request to result (quartiles) {_quartiles(done)}; on the "
            f"worker {mean:.2f} s on average; {metrics['afsd_service_video_seconds_total']:.0f} s of video",
            f"memory in MiB, service + workers: {shown[0]} before, {shown[1]} at most, {shown[2]} after",
            f"workers replaced: {metrics['afsd_service_workers_replaced_total']:.0f}; "
            f"exit status {status}; temporary files left: {left}",
        ]
    )  # fmt: skip


def _quartiles(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return " / ".join(f"{value:.2f}" for value in seconds)
    return " / ".join(f"{value:.2f}" for value in statistics.quantiles(seconds, n=4, method="inclusive"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("videos", type=Path, nargs="+", help="videos of one folder")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(argv)
    return run_script(lambda: load(given.model, given.videos, given.requests, given.at_once, given.workers, given.seed))


if __name__ == "__main__":
    sys.exit(main())
