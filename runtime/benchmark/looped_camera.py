"""Serve a video file as a camera that never ends, to any number of readers at once, from a process of its own."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from runtime.common.children import end_with_parent
from runtime.common.text import one_line
from runtime.errors import VideoError

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\nCache-Control: no-store\r\n\r\n"
MOST_UNSENT = 32 << 20
"""Bytes that may wait for a reader; one that is slower is cut off, as by a camera."""
START_S = 30.0
"""Seconds that the process may take to start."""


@dataclass(frozen=True)
class LoopedCamera:
    """Holds the address of a camera that is being served."""

    url: str
    """Address for any number of readers; each joins at the next key frame."""
    _cpu: Synchronized[float]

    @property
    def cpu_seconds(self) -> float:
        """CPU time in seconds that serving has taken so far."""
        return float(self._cpu.value)


@contextmanager
def serve_looped(video: str) -> Iterator[LoopedCamera]:
    """Serve a video over and over at its own speed, as an MPEG transport stream over HTTP on the loopback address.

    Packets are copied, not encoded anew; time stamps go on from one turn to the next, so the stream has no gap.

    Args:
        video: file in a codec that transport streams hold (H.264, H.265, MPEG-2, MPEG-4).

    Raises:
        VideoError: the file is missing, cannot be read, has no video, or its codec does not fit.
    """
    if not Path(video).is_file():
        raise VideoError(f"{video}: file not found; expected a video file, as a camera would send it")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    cpu: Any = context.Value("d", 0.0)
    process = context.Process(target=_serve, args=(video, there, cpu), daemon=True)
    process.start()
    there.close()
    try:
        answer = here.recv() if here.poll(START_S) else "the server does not start"
    except EOFError:
        answer = "the server ended"
    try:
        if not isinstance(answer, int):
            raise VideoError(f"{video}: cannot be served as a camera ({answer}); use an H.264 file")
        yield LoopedCamera(f"http://127.0.0.1:{answer}/live", cpu)
    finally:
        process.kill()
        process.join()
        here.close()


def _serve(video: str, parent: Connection, cpu: Synchronized[float]) -> None:
    """Serve until the parent ends (the process's body); send the port, or text that says what failed."""
    end_with_parent()
    try:
        packets = stream_looped(video)
        first = next(packets)
    except Exception as error:
        parent.send(one_line(error))
        return
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    readers = _Readers()
    threading.Thread(target=_accept, args=(listener, readers), daemon=True).start()
    parent.send(listener.getsockname()[1])
    begun = time.monotonic()
    due, is_key, data = first
    while True:
        time.sleep(max(begun + due - time.monotonic(), 0))
        readers.send(data, is_key)
        cpu.value = time.process_time()
        due, is_key, data = next(packets)


def stream_looped(video: str) -> Iterator[tuple[float, bool, bytes]]:
    """Yield the packets of the endless transport stream: seconds at which each is due, whether it is a key, bytes."""
    import av

    sink = _Sink()
    options = {"mpegts_flags": "pat_pmt_at_frames", "flush_packets": "1"}
    with av.open(sink, "w", format="mpegts", options=options) as out:
        stream: Any = None
        base = Fraction(0)
        while True:
            with av.open(video) as file:
                source = file.streams.video[0]
                stream = stream or out.add_stream_from_template(source)
                tick = source.time_base or Fraction(1, 90_000)
                frame = 1 / Fraction(source.average_rate or 25)
                start: Fraction | None = None
                end = Fraction(0)
                for packet in file.demux(source):
                    if packet.dts is None or packet.pts is None:
                        continue
                    at = packet.dts * tick
                    start = at if start is None else start
                    end = at - start + frame
                    shift = round((base - start) / tick)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    is_key = packet.is_keyframe
                    out.mux(packet)
                    yield float(base + at - start), is_key, sink.take()
                if not end:
                    raise VideoError(f"{video}: holds no frame")
                base += end


class _Sink:
    """Keeps what a muxer writes until it is taken."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        """Take bytes of the muxer."""
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """Return the bytes since the last call."""
        data, self._written = bytes(self._written), bytearray()
        return data


class _Readers:
    """Sends to all readers without waiting for any of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: list[socket.socket] = []
        self._unsent: dict[socket.socket, bytearray] = {}

    def add(self, reader: socket.socket) -> None:
        """Add a reader, which joins at the next key frame."""
        with self._lock:
            self._new.append(reader)

    def send(self, data: bytes, is_key: bool) -> None:
        """Send a packet to all who have joined; what a reader does not take yet is kept for it."""
        if is_key:
            with self._lock:
                joining, self._new = self._new, []
            self._unsent |= {reader: bytearray() for reader in joining}
        for reader, unsent in list(self._unsent.items()):
            unsent += data
            gone = False
            try:
                del unsent[: reader.send(unsent)]
            except BlockingIOError:
                pass
            except OSError:
                gone = True
            if gone or len(unsent) > MOST_UNSENT:
                del self._unsent[reader]
                reader.close()


def _accept(listener: socket.socket, readers: _Readers) -> None:
    """Answer each request with the stream, whatever it asks for (the thread's body)."""
    while True:
        reader, _ = listener.accept()
        with suppress(OSError):
            reader.settimeout(5)
            request = b""
            while b"\r\n\r\n" not in request and (part := reader.recv(4096)):
                request += part
            reader.sendall(ANSWER)
            reader.setblocking(False)
            readers.add(reader)
