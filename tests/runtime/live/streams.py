"""Cameras made of FFmpeg on the loopback address, and a clip whose frames carry their numbers."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.video.readers.base import Frame, Picture
from runtime.video.readers.pyav import PyAVReader

FPS = 25
HEIGHT, WIDTH, BITS = 48, 192, 12
CELL = WIDTH // BITS
"""Width of the block of one bit of a frame's number."""


def ffmpeg() -> str:
    """The program FFmpeg; the test is skipped where it is missing."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="FFmpeg is missing: pip install imageio-ffmpeg")
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        pytest.skip("imageio-ffmpeg has no FFmpeg here")


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def write_clip(path: Path, frames: int) -> Path:
    """Write H.264 of 25 fps without delay; frame n has its number as black and white blocks above random brightness."""
    rng = np.random.default_rng(3)
    bits = (np.arange(frames)[:, None] >> np.arange(BITS)) & 1
    images = np.empty((frames, HEIGHT, WIDTH, 3), np.uint8)
    images[:, : HEIGHT // 2] = np.repeat(bits * 200 + 25, CELL, axis=1)[:, None, :, None]
    levels = np.repeat(rng.integers(0, 256, frames // 5 + 1), 5)[:frames]
    images[:, HEIGHT // 2 :] = levels[:, None, None, None]
    command = [ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}"]
    command += ["-r", str(FPS), "-i", "-", "-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency"]
    command += ["-g", str(FPS), "-pix_fmt", "yuv420p", "-threads", "1", str(path)]
    subprocess.run(command, input=images.tobytes(), check=True)
    return path


def number_of(frame: Frame) -> int:
    """The number that a frame carries."""
    blocks = frame[4 : HEIGHT // 2 - 4, :, 0].reshape(-1, BITS, CELL).mean(axis=(0, 2))
    return int(np.sum((blocks > 125) << np.arange(BITS)))


class Sender:
    """Sends a clip over and over in real time, to a UDP address or wherever `arguments` say."""

    def __init__(self, clip: Path, url: str, *arguments: str) -> None:
        command = [ffmpeg(), "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy"]
        self.process = subprocess.Popen([*command, *(arguments or ("-f", "mpegts")), url])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def udp(port: int) -> str:
    return f"udp://127.0.0.1:{port}?pkt_size=1316"


@dataclass
class Run:
    """Frames of a clip that followed one another in a live source."""

    first: int
    count: int = 1


@dataclass
class Log:
    """Runs of frames that a live source gave."""

    frames: int
    """Frames of the clip, which is repeated."""
    runs: list[Run] = field(default_factory=list)

    def add(self, number: int, fresh: bool) -> None:
        last = self.runs[-1] if self.runs and not fresh else None
        if last is not None and number == (last.first + last.count) % self.frames:
            last.count += 1
        else:
            self.runs.append(Run(number))


class LoggingReader(PyAVReader):
    """Reads a stream and notes the numbers of its frames."""

    def __init__(self, source: str, log: Log, read_seconds: float) -> None:
        super().__init__(source, read_seconds=read_seconds)
        self._log, self._fresh = log, True

    def grab(self) -> bool:
        if not super().grab():
            return False
        self._log.add(number_of(self._convert(self._frame)), self._fresh)
        self._fresh = False
        return True


class Replay:
    """Gives the frames of a run from the decoded clip, 25 a second."""

    name, label = "replay", "replay"
    fps = float(FPS)
    count: int | None = None
    duration: float | None = None
    endless = False
    longest_jump = 0.0
    timed = True
    background = False

    def __init__(self, clip: Sequence[NDArray[np.uint8]], run: Run) -> None:
        self._clip, self._run, self._at = clip, run, -1

    @property
    def time(self) -> float:
        return self._at / FPS

    @property
    def end(self) -> float:
        return (self._at + 1) / FPS

    def grab(self) -> bool:
        more = self._at + 1 < self._run.count
        self._at += more
        return more

    def hold(self) -> Picture:
        image = self._clip[(self._run.first + self._at) % len(self._clip)]
        return lambda: image

    def scan(self) -> tuple[int, float] | None:
        return None

    def shortfall(self) -> str | None:
        return None

    def close(self) -> None:
        """Nothing is open."""


def decode(clip: Path) -> list[NDArray[np.uint8]]:
    """All frames of a clip; their numbers are checked."""
    reader, frames = PyAVReader(str(clip)), []
    while reader.grab():
        frames.append(reader.hold()())
    reader.close()
    assert [number_of(frame) for frame in frames] == list(range(len(frames)))
    return frames


class HttpCamera:
    """Serves a clip as an endless stream at /live, which breaks off when told, and as a file of known length."""

    def __init__(self, clip: Path) -> None:
        self.senders: list[subprocess.Popen[bytes]] = []
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                if self.path != "/live":
                    self.send_header("Content-Length", str(clip.stat().st_size))
                    self.end_headers()
                    self.wfile.write(clip.read_bytes())
                    return
                self.end_headers()
                command = [ffmpeg(), "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", str(clip)]
                process = subprocess.Popen([*command, "-c", "copy", "-f", "mpegts", "-"], stdout=subprocess.PIPE)
                camera.senders.append(process)
                assert process.stdout is not None
                try:
                    while data := process.stdout.read1(4096):  # type: ignore[attr-defined]
                        self.wfile.write(data)
                except OSError:
                    pass
                finally:
                    process.kill()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def break_off(self) -> None:
        """End the stream that is being served."""
        self.senders[-1].kill()

    def __enter__(self) -> HttpCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for process in self.senders:
            process.kill()
            process.wait()


class RtspCamera:
    """Serves a clip over RTSP to one client at a time, RTP inside the connection (RFC 2326, 10.12); FFmpeg packs it."""

    def __init__(self, clip: Path, folder: Path) -> None:
        self._clip, self._sdp = clip, folder / "clip.sdp"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/clip"
        self.clients: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.clients.append(client)
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
            rtp.bind(("127.0.0.1", 0))
            port = rtp.getsockname()[1]
            with Sender(self._clip, f"rtp://127.0.0.1:{port}", "-f", "rtp", "-sdp_file", str(self._sdp)):
                try:
                    for request in _requests(client):
                        method, number = request.split(" ", 1)[0], _header(request, "CSeq")
                        body, more = "", ""
                        if method == "OPTIONS":
                            more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
                        elif method == "DESCRIBE":
                            rtp.recv(2048)  # FFmpeg has written the description
                            lines = self._sdp.read_text().splitlines()
                            start = next(i for i, line in enumerate(lines) if line.startswith("v="))
                            kept = [line for line in lines[start:] if not line.startswith("m=")]
                            media = next(line for line in lines if line.startswith("m=")).split()
                            at = next(i for i, line in enumerate(kept) if line.startswith(("b=", "a=rtpmap")))
                            kept.insert(at, " ".join([media[0], "0", *media[2:]]))
                            body = "\r\n".join([*kept, "a=control:track0", ""])
                            more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
                        elif method == "SETUP":
                            more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
                        client.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1\r\n{more}\r\n{body}".encode())
                        if method == "PLAY":
                            while True:
                                packet = rtp.recv(65536)
                                client.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
                except OSError:
                    client.close()

    def break_off(self) -> None:
        """Cut the latest connection."""
        self.clients[-1].shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> RtspCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for client in self.clients:
            client.close()


def _requests(client: socket.socket) -> Iterator[str]:
    buffer = b""
    while data := client.recv(4096):
        buffer += data
        while b"\r\n\r\n" in buffer:
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            yield head.decode()


def _header(request: str, name: str) -> str:
    return next(line.partition(":")[2].strip() for line in request.split("\r\n") if line.startswith(f"{name}:"))
