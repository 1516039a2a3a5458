"""Live input: frames by WebSocket, and containers while they are sent, give what the detector finds in them."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.detector import Detector, DetectorOptions
from runtime.results.detections import Detections
from tests.runtime.service.doubles import CRASH, DoubleEngine
from tests.runtime.service.serving import Served, serving

client = pytest.importorskip("websockets.sync.client")
pytestmark = pytest.mark.thorough
SCORE = 0.1
Message = dict[str, Any]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(score=SCORE, patience=20.0, max_live=1) as running:
        yield running


def moving(count: int, level: int = 120) -> NDArray[np.uint8]:
    """Frames [T,36,40,3] that become brighter and darker."""
    rng = np.random.default_rng(3)
    wave = level + 60 * np.sin(np.arange(count) / 5)[:, None, None, None]
    return np.clip(wave + rng.integers(-20, 20, (count, 36, 40, 3)), 0, 255).astype(np.uint8)


def opened(served: Served, **hello: Any) -> Any:
    """A WebSocket whose first message is sent."""
    address = f"{served.address.replace('http', 'ws')}/v1/live"
    line = client.connect(address, max_size=None, proxy=None, legacy=True)
    line.send(json.dumps({"format": "rgb24", "width": 40, "height": 36, "fps": 10} | hello))
    return line


def rest(line: Any) -> tuple[list[Message], int]:
    """All messages until the service closes, and the code with which it does."""
    from websockets.exceptions import ConnectionClosedError

    messages: list[Message] = []
    with line, suppress(ConnectionClosedError):
        for text in line:
            messages.append(json.loads(text))
    return messages, line.protocol.close_code


def entries(found: Detections) -> list[Message]:
    return [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found]


def listed(messages: list[Message]) -> list[Message]:
    return [one for message in messages if message["event"] == "detections" for one in message["detections"]]


def detect(frames: Any, **options: Any) -> list[Message]:
    return entries(Detector(DoubleEngine(), options=DetectorOptions(min_score=SCORE)).run(frames, **options))


@pytest.mark.parametrize("form", ["rgb24", "png"])
def test_frames_give_what_the_detector_finds(form: str, served: Served) -> None:
    frames = moving(70)
    line = opened(served, format=form)
    if form == "rgb24":
        for start, end in ((0, 1), (1, 30), (30, 37), (37, 70)):
            line.send(frames[start:end].tobytes())
    else:
        for frame in frames:
            line.send(cv2.imencode(".png", frame[..., ::-1])[1].tobytes())
    line.send('{"event": "end"}')
    messages, code = rest(line)
    assert messages[0]["event"] == "ready"
    assert messages[0]["classes"] == ["jump", "throw"]
    assert messages[-1] == {"event": "ended", "video_seconds": 7.0}
    assert code == 1000
    found = listed(messages)
    assert found == detect(frames, fps=10.0)
    assert len(found) > 3


def test_detections_come_while_frames_do(served: Served) -> None:
    frames = moving(400)
    line = opened(served)
    for start in range(0, 400, 10):
        line.send(frames[start : start + 10].tobytes())
    early = json.loads(line.recv(timeout=60))  # ready
    while early["event"] != "detections":
        early = json.loads(line.recv(timeout=60))
    line.send('{"event": "end"}')
    messages, _ = rest(line)
    assert listed([early, *messages]) == detect(frames, fps=10.0)


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        ({"format": "h264"}, "format: got 'h264'"),
        ({"width": 0}, "width: got 0"),
        ({"width": "40"}, "width"),
        ({"fps": -1}, "fps: got -1"),
        ({"speed": 1}, "speed: unknown key"),
        ({"width": 16_000, "height": 16_000}, "larger than"),
    ],
)
def test_a_first_message_that_is_wrong_is_refused(hello: Message, reason: str, served: Served) -> None:
    messages, code = rest(opened(served, **hello))
    assert [message["event"] for message in messages] == ["refused"]
    assert reason in messages[0]["reason"]
    assert code == 1008


@pytest.mark.parametrize(
    ("form", "data", "reason"),
    [
        ("rgb24", b"x" * 100, "got 100 bytes, expected a multiple of 4,320"),
        ("rgb24", b"", "got 0 bytes"),
        ("jpeg", b"x" * 100, "no JPEG or PNG"),
        ("png", cv2.imencode(".png", np.zeros((5, 6, 3), np.uint8))[1].tobytes(), "got 6 × 5 pixels"),
        ("png", cv2.imencode(".png", np.zeros((36, 40, 3), np.uint8))[1].tobytes()[:40], "damaged"),
        ("rgb24", "hello", "expected bytes of frames"),
    ],
)
def test_a_message_that_is_no_frame_ends_the_input_alone(form: str, data: Any, reason: str, served: Served) -> None:
    line = opened(served, format=form)
    line.send(data)
    messages, code = rest(line)
    assert messages[-1]["event"] == "failed"
    assert reason in messages[-1]["reason"]
    assert code == 1011


def test_one_too_many_is_refused_and_a_client_that_goes_makes_room(served: Served) -> None:
    first = opened(served)
    assert json.loads(first.recv())["event"] == "ready"
    messages, _ = rest(opened(served))
    assert (messages[-1]["event"], messages[-1]["status"]) == ("refused", 429)
    first.close()
    deadline = time.monotonic() + 20
    while served.metric("afsd_service_live_inputs") and time.monotonic() < deadline:
        time.sleep(0.02)
    again = opened(served)
    assert json.loads(again.recv())["event"] == "ready"
    again.close()


def test_a_page_of_another_site_opens_no_socket(served: Served) -> None:
    from websockets.exceptions import InvalidStatus

    address = f"{served.address.replace('http', 'ws')}/v1/live"
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        with pytest.raises(InvalidStatus, match="403"):
            client.connect(address, additional_headers=headers, proxy=None)


def test_a_container_is_read_while_it_is_sent(served: Served, tmp_path: Path) -> None:
    """The last quarter of it is sent once detections have come."""
    clip = write_transport_stream(tmp_path / "clip.ts", moving(400))
    content = clip.read_bytes()
    host, _, port = served.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(f"POST /v1/live HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())

        def send(data: bytes) -> None:
            line.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        cut = 3 * len(content) // 4
        send(content[:cut])
        answer = HTTPResponse(line)
        answer.begin()
        messages: list[Message] = []
        while not listed(messages):
            messages.append(json.loads(answer.readline()))
        send(content[cut:])
        send(b"")
        messages += map(json.loads, answer)
    assert messages[0]["event"] == "ready"
    assert messages[-1]["event"] == "ended"
    found = listed(messages)
    assert found == detect(clip)
    assert len(found) > 10


def write_transport_stream(path: Path, frames: NDArray[np.uint8]) -> Path:
    import av

    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=10, width=40, height=36, pix_fmt="yuv420p")
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_worker_that_crashes_ends_its_input_alone(served: Served, tmp_path: Path) -> None:
    line = opened(served)
    line.send(np.full((40, 36, 40, 3), CRASH, np.uint8).tobytes())
    messages, code = rest(line)
    assert "signal 11" in messages[-1]["reason"]
    assert code == 1011
    frames = moving(30)
    line = opened(served)
    line.send(frames.tobytes())
    line.send('{"event": "end"}')
    assert rest(line)[0][-1]["event"] == "ended"


def test_a_container_that_is_none_is_told_before_the_end_of_the_body(served: Served) -> None:
    answer = httpx.post(
        f"{served.address}/v1/live", content=io.BytesIO(b"root:x:0:0\n" * 50_000), trust_env=False, timeout=60
    )
    messages = [json.loads(line) for line in answer.text.splitlines()]
    assert messages[-1]["event"] == "failed"
    assert "video" in messages[-1]["reason"]
