"""Jobs over HTTP, on a real server with workers in processes of their own: results, refusals, faults, cancellation."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.detector import Detector, DetectorOptions
from runtime.results.detections import results_document
from runtime.service import admission, answers, routes, server
from runtime.service.intake import disk
from runtime.service.intake.fetching import Fetch
from runtime.service.workers import pool
from tests.runtime.service.doubles import CRASH, GREEDY, HANG, WAIT, DoubleEngine
from tests.runtime.service.serving import MP4, Served, serving
from tests.videos import write_video

SCORE = 0.1


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(score=SCORE, patience=5.0) as running:
        yield running


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of one level each, which the double knows, and one that moves."""
    folder = tmp_path_factory.mktemp("videos")
    for name, level in (("crash", CRASH), ("hang", HANG), ("greedy", GREEDY)):
        write_video(folder / f"{name}.mp4", frames=20, level=level, speed=0, noise=0)
    write_video(folder / "wait.mp4", frames=2000, level=WAIT, speed=0, noise=0)
    write_video(folder / "clip.mp4", frames=64)
    return folder


def only_result(served: Served, job: dict[str, Any]) -> list[dict[str, Any]]:
    answer = served.client.get(job["urls"]["result"])
    assert answer.status_code == 200
    (found,) = answer.json()["results"].values()
    return list(found)


@pytest.mark.parametrize("way", ["raw", "form", "path"])
def test_a_job_gives_what_the_detector_finds(way: str, served: Served, videos: Path) -> None:
    clip = videos / "clip.mp4"
    if way == "raw":
        job = served.post(clip)
    elif way == "form":
        answer = served.client.post(
            "/v1/jobs", files={"video": ("clip.mp4", clip.read_bytes())}, data={"score": str(SCORE)}
        )
        job = answer.json()
    else:
        with served.options(root=videos):
            job = served.client.post("/v1/jobs", json={"path": "clip.mp4"}).json()
    events = served.events(job)
    found = Detector(DoubleEngine(), options=DetectorOptions(min_score=SCORE)).run(clip).sorted("score")
    document = served.client.get(job["urls"]["result"]).json()
    want = json.loads(json.dumps(results_document([found])))
    assert len(found) > 3
    assert document["results"] == want["results"]
    assert document["external_data"]["clip"] == want["external_data"]["clip"] | {
        "path": "clip.mp4", "model": "double", "threshold": SCORE,
    }  # fmt: skip
    streamed = [one for _, kind, data in events if kind == "detections" for one in data["detections"]]
    assert sorted(streamed, key=json.dumps) == sorted(want["results"]["clip"], key=json.dumps)
    assert events[0] == (1, "state", {"state": "queued"})
    assert events[-1][1:] == ("done", {
        "state": "done", "detections": len(found), "result": job["urls"]["result"], "report": job["urls"]["report"],
    })  # fmt: skip
    numbers = [number for number, kind, _ in events if kind != "progress"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert served.events(job, after=numbers[1]) == [event for event in events if event[0] > numbers[1]]


def test_the_report_shows_the_video_from_the_job_s_address(served: Served, videos: Path) -> None:
    job = served.end(served.post(videos / "clip.mp4", name="<script>x</script>.mp4"))
    report = served.client.get(job["urls"]["report"])
    assert report.headers["content-type"] == "text/html; charset=utf-8"
    assert report.headers["x-content-type-options"] == "nosniff"
    assert 'src="video"' in report.text
    assert "media-src &#x27;self&#x27;;" in report.text
    assert "<script>x" not in report.text
    assert "sent with preview=true" in report.text  # what a client can do about a video that a browser does not play
    assert "--embed" not in report.text
    assert str(served.folder) not in report.text
    part = served.client.get(job["urls"]["video"], headers={"Range": "bytes=4-11"})
    assert part.status_code == 206
    assert part.content == (videos / "clip.mp4").read_bytes()[4:12]
    assert part.headers["content-type"] == "video/mp4"
    assert "sandbox" in part.headers["content-security-policy"]


@pytest.mark.parametrize(
    "name", ["../../../evil.mp4", "..\\..\\evil.mp4", "/etc/passwd", "a\0b\n.mp4", "", "." * 300, "ü" * 400 + ".mkv"]
)
def test_a_name_of_a_client_is_shown_and_never_a_path(name: str, served: Served, videos: Path) -> None:
    jobs = list(served.folder.iterdir())
    job = served.end(served.post(videos / "clip.mp4", name=name))
    assert job["state"] == "done"
    assert len(job["video"]) <= 140
    assert not set(job["video"]) & set("/\\\0\n")
    files = {path.name for path in (served.folder / job["id"]).iterdir()}
    assert files <= {"video", "video.mp4", "video.mkv", "result.json", "report.html"}
    assert {path.name for path in served.folder.iterdir()} <= {job["id"]} | {path.name for path in jobs}


def send(served: Served, content: bytes = b"x", kind: str = "video/mp4", **more: Any) -> tuple[int, str]:
    headers = {"Content-Type": kind} | more.pop("headers", {})
    answer = served.client.request(
        more.pop("method", "POST"), more.pop("at", "/v1/jobs"), content=content, headers=headers, **more
    )
    body = answer.json()
    assert set(body) == {"error"}
    assert "\n" not in body["error"]
    return answer.status_code, body["error"]


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        ({"kind": "text/html"}, 415, "got text/html"),
        ({"kind": ""}, 415, "got none"),
        ({"content": b""}, 400, "empty"),
        ({"params": {"score": "2"}}, 400, "score: got 2.0"),
        ({"params": {"score": "x"}}, 400, "score: got 'x', expected a number"),
        ({"params": {"speed": "x"}}, 400, "speed: unknown key"),
        ({"params": {"exclusive": "x"}}, 400, "exclusive: got 'x'"),
        ({"params": {"preview": "perhaps"}}, 400, "true or false"),
        ({"kind": "application/json", "content": b"{"}, 400, "an object in JSON"),
        ({"kind": "application/json", "content": b"{}"}, 400, "one of them"),
        ({"kind": "application/json", "content": b"[" * 50_000}, 400, "an object in JSON"),
        ({"kind": "application/json", "content": b" " * 70_000}, 413, "larger than"),
        ({"kind": "application/json", "content": b'{"path": "a"}'}, 403, "--root"),
        ({"kind": "application/json", "content": b'{"url": "file:///etc/passwd"}'}, 400, "http://"),
        ({"kind": "application/json", "content": b'{"url": "http://user:secret@host/"}'}, 400, "names a user"),
        ({"kind": "application/json", "content": b'{"url": "http://[x"}'}, 400, "url"),
        ({"kind": "application/json", "content": b'{"url": "http://a:/x@["}'}, 400, "url: http://"),
        ({"kind": "application/json", "content": b'{"url": "http://a:25/x"}'}, 400, "url: got port 25"),
        ({"kind": "multipart/form-data"}, 400, "boundary"),
        ({"kind": "multipart/form-data; boundary=b"}, 400, "not a form"),
        ({"kind": "multipart/form-data; boundary=b", "content": b"--b--\r\n"}, 400, "no file"),
        ({"headers": {"Host": "evil.example"}}, 403, "--allowed-host"),
        ({"headers": {"Origin": "http://evil.example"}}, 403, "another site"),
        ({"headers": {"Origin": "null"}}, 403, "another site"),
        ({"headers": {"Origin": "http://["}}, 403, "another site"),
        ({"headers": {"X": "y" * 20_000}}, 431, "at most 16,384"),
        ({"headers": {"Content-Encoding": "gzip"}}, 415, "Content-Encoding"),
        ({"kind": "application/json", "content": b'{"url": "http://a/", "\\ud800": 1}'}, 400, "?: unknown key"),
        ({"headers": {"Sec-Fetch-Site": "cross-site"}}, 403, "another site"),
        ({"at": "/nowhere"}, 404, "no such address"),
        ({"method": "PUT"}, 405, "method"),
        ({"method": "GET", "at": "/v1/jobs/unknown"}, 404, "no such job"),
        ({"method": "DELETE", "at": "/v1/jobs/..%2f..%2fx"}, 404, "no such"),
        ({"method": "GET", "at": "/assets/..%2fworker.py"}, 404, "no such"),
    ],
)
def test_refusals(request_: dict[str, Any], status: int, reason: str, served: Served) -> None:
    got, said = send(served, **request_)
    assert (got, reason in said) == (status, True), said


def test_limits_of_size_disk_and_queue(served: Served, videos: Path) -> None:
    clip = (videos / "clip.mp4").read_bytes()
    with served.options(max_upload=1000):
        assert send(served, clip)[0] == 413

        def pieces() -> Iterator[bytes]:  # without Content-Length
            yield from (clip[k : k + 500] for k in range(0, 3000, 500))

        assert served.client.post("/v1/jobs", content=pieces(), headers=MP4).status_code == 413
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "RESERVE", 1 << 60)
        assert send(served, clip)[0] == 507
        assert served.client.post("/v1/jobs", content=iter([clip]), headers=MP4).status_code == 507  # of no length
    used = served.metric("afsd_service_disk_bytes")
    store = served.service._pool._store  # type: ignore[union-attr]
    store.disk.limit, limit = int(used) + 10, store.disk.limit
    assert send(served, clip)[0] == 507
    store.disk.limit = limit
    assert served.metric("afsd_service_disk_bytes") == used
    slow = served.post(videos / "wait.mp4")
    served.until(slow, "running")
    with served.options(queue=1):
        waiting = served.post(videos / "clip.mp4")
        answer = served.client.post("/v1/jobs", content=clip, headers=MP4)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert served.client.get(waiting["urls"]["result"]).status_code == 409
    assert served.client.delete(waiting["urls"]["job"]).status_code == 204
    assert served.client.delete(slow["urls"]["job"]).status_code == 204


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("ffconcat version 1.0\nfile {clip}\n", "playlist"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{clip}\n#EXT-X-ENDLIST\n", "video"),
        ("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n", "video"),
        ("root:x:0:0:root:/root:/bin/sh\n", "video"),
    ],
)
def test_a_playlist_reads_no_other_file(content: str, reason: str, served: Served, videos: Path) -> None:
    text = content.format(clip=videos / "clip.mp4").encode()
    for name in ("list.m3u8", "list.mp4", "list"):
        job = served.end(served.post(text, name=name))
        assert job["state"] == "failed"
        assert reason in job["reason"]
        assert str(served.folder) not in job["reason"]


def test_a_truncated_video_fails_unless_it_is_allowed(served: Served, videos: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.avi", frames=100).read_bytes()
    job = served.end(served.post(whole[: len(whole) // 2], name="cut.avi"))
    assert job["state"] == "failed"
    assert "cut.avi" in job["reason"]
    job = served.end(served.post(whole[: len(whole) // 2], name="cut.avi", allow_truncated="true"))
    assert job["state"] == "done"
    assert job["warnings"]


def test_a_video_that_is_too_long_is_refused_before_the_work(served: Served, videos: Path) -> None:
    with served.options(max_seconds=5.0):
        job = served.end(served.post(videos / "clip.mp4"))
    assert job["state"] == "failed"
    assert "at most 5 s" in job["reason"]


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "reason"), [("crash", "signal 11"), ("greedy", "memory"), ("hang", "more than 1 s")])
def test_what_a_video_does_to_a_worker_fails_its_job_alone(
    name: str, reason: str, served: Served, videos: Path
) -> None:
    replaced = served.metric("afsd_service_workers_replaced_total")
    with served.options(max_processing=1.0 if name == "hang" else 60.0):
        job = served.post(videos / f"{name}.mp4")
        after = served.post(videos / "clip.mp4")
        job = served.end(job)
    assert (job["state"], reason in job["reason"]) == ("failed", True), job["reason"]
    assert served.end(after)["state"] == "done"
    assert served.metric("afsd_service_workers_replaced_total") == replaced + 1


@pytest.mark.thorough
def test_frames_by_websocket_give_what_the_detector_finds(served: Served) -> None:
    """One of the cases of test_live.py, which is dearer."""
    socket_client = pytest.importorskip("websockets.sync.client")
    frames = np.random.default_rng(0).integers(0, 255, (48, 1, 1, 3), np.uint8).repeat(20, 1).repeat(24, 2)
    messages: list[dict[str, Any]] = []
    with socket_client.connect(f"{served.address.replace('http', 'ws')}/v1/live", proxy=None, legacy=True) as line:
        line.send(json.dumps({"format": "rgb24", "width": 24, "height": 20, "fps": 10}))
        line.send(frames[:31].tobytes())
        line.send(frames[31:].tobytes())
        line.send('{"event": "end"}')
        messages += map(json.loads, line)
    got = [one for message in messages if message["event"] == "detections" for one in message["detections"]]
    found = Detector(DoubleEngine(), options=DetectorOptions(min_score=SCORE)).run(frames, fps=10.0)
    assert got == [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found]
    assert len(got) > 1


def test_cancellation_stops_at_the_next_window_and_leaves_nothing(served: Served, videos: Path) -> None:
    replaced = served.metric("afsd_service_workers_replaced_total")
    job, waiting = served.post(videos / "wait.mp4"), served.post(videos / "wait.mp4")
    served.until(job, "running")
    for one in (waiting, job):
        assert served.client.delete(one["urls"]["job"]).status_code == 204
        assert served.client.get(one["urls"]["job"]).status_code == 410
        assert served.client.delete(one["urls"]["job"]).status_code == 410
    begun = time.monotonic()
    assert served.end(served.post(videos / "clip.mp4"))["state"] == "done"
    assert time.monotonic() - begun < 25  # the whole would take 37 s of waiting
    assert not (served.folder / job["id"]).exists()
    assert not (served.folder / waiting["id"]).exists()
    assert served.metric("afsd_service_workers_replaced_total") == replaced


def test_who_follows_sees_the_cancellation(served: Served, videos: Path) -> None:
    job = served.post(videos / "wait.mp4")
    with served.client.stream("GET", job["urls"]["events"]) as answer:
        served.client.delete(job["urls"]["job"])
        text = answer.read().decode()
    assert text.rstrip().endswith('event: cancelled\ndata: {"state": "cancelled", "reason": "was deleted"}')


@pytest.mark.thorough
def test_a_worker_that_hangs_in_a_cancelled_job_is_replaced(
    served: Served, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "STOP_S", 0.2)
    job = served.post(videos / "hang.mp4")
    served.until(job, "running")
    served.client.delete(job["urls"]["job"])
    assert served.end(served.post(videos / "clip.mp4"))["state"] == "done"


def raw(served: Served, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Send bytes as they are and return all that comes."""
    host, _, port = served.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        for piece in pieces:
            line.sendall(piece)
            time.sleep(pause_s)
        got = b""
        while data := line.recv(65536):
            got += data
    return got


@pytest.mark.thorough
def test_slow_senders_are_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_S", 0.3)
    host = served.address.removeprefix("http://").encode()
    assert raw(served, b"GET / HTTP/1.1\r\nHo") == b""
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: " + host + b"\r\nContent-Type: video/mp4\r\nContent-Length: 9999999\r\n\r\n"
    )
    with served.options(patience=0.3):
        answer = raw(served, head, b"x" * 100)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"100 bytes came in " in answer
    assert raw(served, b"GET /" + b"x" * 20_000).startswith(b"HTTP/1.1 400 ")


def test_a_body_of_two_lengths_is_refused(served: Served) -> None:
    """A proxy might take what follows for another request (RFC 9112, section 6.3)."""
    host = served.address.removeprefix("http://").encode()
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: " + host + b"\r\nContent-Type: video/mp4\r\n"
    both = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    answer = raw(served, head + both + b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_that_nobody_reads_has_a_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a GET it would hold its connection for ever, at a byte now and then."""
    monkeypatch.setattr(server, "HEADER_S", 0.2)
    host, _, port = served.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nContent-Length: 999\r\n\r\n".encode())
        line.settimeout(0.05)
        deadline, got = time.monotonic() + 20, b""
        with suppress(ConnectionError):
            while time.monotonic() < deadline:
                line.sendall(b"x")
                with suppress(TimeoutError):
                    if not (data := line.recv(4096)):
                        break
                    got += data
    assert got.startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() < deadline


def test_a_client_that_goes_away_leaves_nothing(served: Served) -> None:
    before = set(served.folder.iterdir())  # of jobs before this one, which may go meanwhile
    host = served.address.removeprefix("http://")
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port))) as line:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nContent-Type: video/mp4\r\nContent-Length: 99999\r\n\r\n"
        line.sendall(head.encode() + b"x" * 1000)
        deadline = time.monotonic() + 20
        while not (new := set(served.folder.iterdir()) - before) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(new) == 1
    while new & set(served.folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not new & set(served.folder.iterdir())


@pytest.mark.thorough
def test_a_token_is_asked_for(served: Served, videos: Path) -> None:
    token = "0123456789abcdef"
    with served.options(token=token):
        assert served.client.get("/v1/model").status_code == 401
        assert served.client.get("/metrics").status_code == 401
        assert send(served)[0] == 401
        for path in ("/", "/healthz", "/readyz", "/openapi.json", "/assets/start.js"):
            assert served.client.get(path).status_code == 200
        assert served.client.get("/v1/model", headers={"Authorization": f"bearer {token}"}).status_code == 200
        assert served.client.get("/v1/model", headers={"Authorization": "Bearer é".encode()}).status_code == 401
        assert served.client.post("/v1/login", json={"token": "x"}).status_code == 401
        login = served.client.post("/v1/login", json={"token": token})
        assert login.status_code == 204
        assert {"httponly", "samesite=strict"} <= {
            part.strip().lower() for part in login.headers["set-cookie"].split(";")
        }
        assert served.client.get("/v1/model").status_code == 200
        served.client.cookies.clear()


def test_paths_stay_within_the_root(served: Served, videos: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (root / "in" / "a.mp4").write_bytes((videos / "clip.mp4").read_bytes())
    (root / "inside.mp4").symlink_to(root / "in" / "a.mp4")
    (root / "outside.mp4").symlink_to(videos / "clip.mp4")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "b.mp4").write_bytes(b"x")
    with served.options(root=root):
        for path in ("in/a.mp4", "inside.mp4", "in/../in/a.mp4"):
            answer = served.client.post("/v1/jobs", json={"path": path})
            assert answer.status_code == 202, path
            assert served.end(answer.json())["state"] == "done"
        for bad in (
            "outside.mp4",
            "../root2/b.mp4",
            str(videos / "clip.mp4"),
            "/etc/passwd",
            "in",
            "",
            "a\0b",
            "x" * 9999,
        ):
            assert served.client.post("/v1/jobs", json={"path": bad}).status_code in (400, 404), bad
        address = answer.json()["urls"]["video"]  # of in/a.mp4
        assert served.client.get(address).content == (videos / "clip.mp4").read_bytes()
        (root / "in" / "a.mp4").rename(root / "in" / "b.mp4")
        (root / "in" / "a.mp4").symlink_to(tmp_path / "root2" / "b.mp4")  # by whoever may write there
        assert served.client.get(address).status_code == 404
        (root / "in" / "a.mp4").unlink()
        (root / "in" / "b.mp4").rename(root / "in" / "a.mp4")
    assert (root / "in" / "a.mp4").exists()


def test_ended_jobs_expire(served: Served, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = served.end(served.post(videos / "clip.mp4"))
    with served.options(keep=0.01):
        deadline = time.monotonic() + 20
        while (answer := served.client.get(job["urls"]["job"])).status_code != 410 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "expired" in answer.json()["error"]
        while any(served.folder.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not any(served.folder.iterdir())  # of all tests before
    assert served.metric("afsd_service_disk_bytes") == 0
    assert served.metric("afsd_service_jobs", state="done") == 0


def test_metrics_count_what_happened(served: Served, videos: Path) -> None:
    done = served.metric("afsd_service_jobs_ended_total", outcome="done")
    seconds = served.metric("afsd_service_video_seconds_total")
    count = served.metric("afsd_service_job_seconds_count")
    served.end(served.post(videos / "clip.mp4"))
    assert served.metric("afsd_service_jobs_ended_total", outcome="done") == done + 1
    assert served.metric("afsd_service_video_seconds_total") == pytest.approx(seconds + 6.4)
    assert served.metric("afsd_service_job_seconds_count") == count + 1
    assert served.metric("afsd_service_job_seconds_bucket", le="+Inf") == count + 1
    assert served.metric("afsd_service_answers_total", status="410") > 0
    assert served.metric("afsd_service_memory_bytes") > 1e6


def until(holds: Callable[[], object]) -> bool:
    """Wait until something holds, and return whether it does."""
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(holds())


def waiting(served: Served) -> float:
    return served.metric("afsd_service_queue_length")


def test_what_goes_wrong_with_an_address_gives_the_place_in_the_queue_back(
    served: Served, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Addresses of which the checks knew nothing, as of http://a:/x@[, must not shut the queue one by one."""
    monkeypatch.setattr(Fetch, "run", lambda *_: [][0])
    before = set(served.folder.iterdir())
    with served.options(queue=1):
        for _ in range(3):
            assert send(served, b'{"url": "http://a:/x@["}', "application/json")[0] == 400
            assert waiting(served) == 0
        job = served.end(served.client.post("/v1/jobs", json={"url": "http://a/x.mp4?key=secret"}).json())
    assert (job["state"], job["reason"]) == ("failed", "unforeseen IndexError; the service's own log has more")
    assert waiting(served) == 0
    assert until(lambda: set(served.folder.iterdir()) <= before)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("afsd: warning: unforeseen IndexError while http://a/x.mp4?… was fetched")


def test_a_video_that_comes_for_too_long_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LINGER_S", 0.1)
    host = served.address.removeprefix("http://").encode()
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: " + host + b"\r\nContent-Type: video/mp4\r\nContent-Length: 9999999\r\n\r\n"
    )
    begun = time.monotonic()
    with served.options(max_receive=0.3):
        answer = raw(served, head, *[b"x" * 100_000] * 3, pause_s=0.1)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the whole in 0.3 s" in answer
    assert time.monotonic() < begun + 4  # before --patience


def test_what_is_around_the_file_of_a_form_counts(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "FORM_BYTES", 1000)
    form = b'--b\r\nContent-Disposition: form-data; name="v"; filename="a"\r\n\r\nx\r\n--b--\r\n'

    def pieces() -> Iterator[bytes]:  # without Content-Length
        yield form
        yield b"\r\n" * 2000

    with served.options(max_upload=1000):
        answer = served.client.post(
            "/v1/jobs", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
    assert answer.status_code == 413


def test_a_client_that_reads_nothing_is_given_up(served: Served, videos: Path) -> None:
    """A video of zeros that is larger than what the system keeps of it for the client."""
    job = served.end(served.post(videos / "clip.mp4"))
    (video,) = (served.folder / job["id"]).glob("video*")
    size = 24 << 20
    with video.open("r+b") as file:
        file.truncate(size)
    host, _, port = served.address.removeprefix("http://").partition(":")
    connections = served.service.connections
    with served.options(patience=0.2), socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect((host, int(port)))
        mine = line.getsockname()[1]
        line.sendall(f"GET {job['urls']['video']} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert until(lambda: mine in {one.client[1] for one in list(connections)})
        assert until(lambda: mine not in {one.client[1] for one in list(connections)})
    assert served.client.get(job["urls"]["video"]).num_bytes_downloaded == size  # who reads gets it whole
    served.client.delete(job["urls"]["job"])


def test_who_follows_is_bounded(served: Served, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MOST_FOLLOWERS", 1)
    job = served.post(videos / "wait.mp4")
    with served.client.stream("GET", job["urls"]["events"]) as first:
        assert first.status_code == 200
        refused = served.client.get(job["urls"]["events"])
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        served.client.delete(job["urls"]["job"])
        first.read()
    assert served.client.get("/v1/model").status_code == 200


def test_health_is_told_when_all_connections_are_taken(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _, port = served.address.removeprefix("http://").partition(":")
    monkeypatch.setattr(admission, "MOST_CONNECTIONS", 1)
    with socket.create_connection((host, int(port))), socket.create_connection((host, int(port))):
        assert until(lambda: len(served.service.connections) > 2)
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/v1/model", 503)):
            assert served.client.get(path).status_code == status
        monkeypatch.setattr(server, "MOST_CONNECTIONS", 0)
        monkeypatch.setattr(server, "SPARE_CONNECTIONS", 1)
        with socket.create_connection((host, int(port)), timeout=20) as one_too_many, suppress(ConnectionResetError):
            assert one_too_many.recv(1) == b""
    assert until(lambda: served.client.get("/v1/model").status_code == 200)


def test_a_job_that_is_not_done_keeps_no_file(served: Served) -> None:
    used = served.metric("afsd_service_disk_bytes")
    job = served.end(served.post(b"\0" * 50_000))
    assert job["state"] == "failed"
    assert until(lambda: served.metric("afsd_service_disk_bytes") <= used)
    assert not (served.folder / job["id"]).exists()
    assert served.client.get(job["urls"]["job"]).json()["reason"] == job["reason"]  # which is still told


def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_alone(served: Served) -> None:
    token = "0123456789abcdef"
    for behind_tls in (False, True):
        with served.options(token=token, behind_tls=behind_tls):
            cookie = served.client.post("/v1/login", json={"token": token}).headers["set-cookie"].lower()
        assert ("secure" in {part.strip() for part in cookie.split(";")}) is behind_tls
    served.client.cookies.clear()
