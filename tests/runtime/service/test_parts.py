"""Parts of the service by themselves: forms, events, addresses, the OpenAPI description, the reader for strangers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from starlette.requests import ClientDisconnect

from runtime.detector import Detector, DetectorOptions
from runtime.errors import InputError, VideoError
from runtime.results.detections import results_document
from runtime.service.events import EventLog
from runtime.service.intake.fetching import split_url
from runtime.service.intake.multipart import FormReader
from runtime.service.intake.networks import is_public
from runtime.service.job_options import JobOptions, read_options, read_words
from runtime.service.live import LinesResponse
from runtime.service.openapi import OPTIONS, describe_service
from runtime.service.refusals import RefusedError
from runtime.service.workers.task import run_job
from runtime.service.workers.worker import Models, open_engines
from runtime.video.readers.pyav import PyAVReader
from tests.tiny import TinyEngine
from tests.tiny_backbone import MixingModel, TinyBackbone, feature_model_spec
from tests.videos import write_video

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CONTENT = b"\r\n--b\r\n\0\xff--b" * 3
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="score"\r\n\r\n0.5\r\n'
    b'--b\r\nContent-Disposition: form-data; name="video"; filename="a b.mp4"\r\nContent-Type: video/mp4\r\n\r\n'
    + CONTENT.replace(b"\r\n--b", b"\r\n-+b")
    + b"\r\n--b--\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_form_is_the_same_however_it_is_cut(size: int) -> None:
    form = FormReader("multipart/form-data; boundary=b")
    got = b"".join(form.feed(FORM[k : k + size]) for k in range(0, len(FORM), size))
    form.finish()
    assert got == CONTENT.replace(b"\r\n--b", b"\r\n-+b")
    assert (form.file_name, form.fields) == ("a b.mp4", {"score": "0.5"})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (FORM[:-8], "cut off"),
        (FORM.replace(b'name="score"', b'name="x"; filename="y"'), "more than one file"),
        (FORM.replace(b"0.5", b"0" * 2000), "longer than"),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 20 + FORM, "more than 16"),
    ],
)
def test_a_form_that_is_none_is_refused(body: bytes, reason: str) -> None:
    form = FormReader("multipart/form-data; boundary=b")
    with pytest.raises(RefusedError, match=reason):
        (form.feed(body), form.finish())


def test_events_are_followed_from_any_point_and_progress_shows_the_latest() -> None:
    async def run() -> None:
        log = EventLog()
        log.add("state", {"n": 1})

        async def follow(after: int) -> list[str]:
            return [event.to_sse() async for event in log.follow(after) if event is not None]

        early, late = asyncio.create_task(follow(0)), asyncio.create_task(follow(1))
        await asyncio.sleep(0)
        for share in (0.1, 0.2, 0.3):
            log.show({"share": share})
        await asyncio.sleep(0.01)
        log.add("done", {"text": "a\nb"}, last=True)
        log.add("state", {})  # nothing follows the last
        last = 'id: 2\nevent: done\ndata: {"text": "a\\nb"}\n\n'
        progress = 'event: progress\ndata: {"share": 0.3}\n\n'
        assert await late == [progress, last]
        assert await early == ['id: 1\nevent: state\ndata: {"n": 1}\n\n', progress, last]
        assert await follow(2) == []
        log.forget()
        assert [await follow(after) for after in (0, 1, 2)] == [[last], [last], []]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("192.168.0.1", False), ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False), ("::1", False), ("::", False), ("fe80::1%eth0", False), ("fd00::1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:93.184.216.34", True), ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False), ("2002:7f00:1::", False), ("ff02::1", False), ("192.0.2.1", False),
        # what the registries of special addresses name, and Python only in some of its versions
        ("64:ff9b:1::7f00:1", False), ("64:ff9b::5db8:d822", True), ("192.0.0.1", False), ("192.0.0.9", False),
        ("192.0.0.192", False), ("fec0::1", False), ("::7f00:1", False), ("::5db8:d822", False),
        ("168.63.129.16", False), ("168.63.129.17", True), ("::ffff:168.63.129.16", False), ("::ffff:0:a00:1", False),
        ("192.88.99.1", False), ("192.31.196.1", False), ("192.52.193.1", False), ("192.175.48.1", False),
        ("198.18.0.1", False), ("198.51.100.1", False), ("203.0.113.1", False), ("240.0.0.1", False),
        ("2002:5db8:d822::", False), ("2001::1", False), ("2001:1::1", False), ("2001:2::1", False),
        ("2001:3::1", False), ("2001:4:112::1", False), ("2001:10::1", False), ("2001:20::1", False),
        ("2001:30::1", False), ("2001:200::1", True), ("2001:db8::1", False), ("2620:4f:8000::1", False),
        ("3fff::1", False), ("5f00::1", False), ("100::1", False), ("100:0:0:1::1", False), ("4000::1", False),
        ("fd00:ec2::254", False),
    ],
)  # fmt: skip
def test_addresses_of_private_networks_are_known_in_every_form(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/b",
        "http://",
        "http://a:99999/",
        "http://a\n/b",
        "//a/b",
        3,
        "http://u:p@a/",
        "http://a:25/",
        "https://a:0/",
    ],
)
def test_what_is_no_address_is_refused(url: object) -> None:
    with pytest.raises(RefusedError):
        split_url(url)


def test_options_mean_the_same_as_words_and_as_json() -> None:
    options = JobOptions(score=0.5, exclusive="class", merge_gap=1.0, min_length=0.5, fps=25.0, preview=True)
    words = {"score": "0.5", "exclusive": "class", "merge_gap": "1", "min_length": "0.5", "fps": "25", "preview": "yes"}
    values = {"score": 0.5, "exclusive": "class", "merge_gap": 1, "min_length": 0.5, "fps": 25, "preview": True}
    assert read_words(words) == read_options(values) == options
    for read in (read_words, read_options):
        with pytest.raises(InputError, match=r"^speed: unknown key; .*min_length, name, preview, score$"):
            read({"speed": "1"})


def test_the_description_is_openapi_and_has_every_route_and_option() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from runtime.service.jobs import JobStore
    from runtime.service.options import ServiceOptions
    from runtime.service.routes import Routes

    document = json.loads(json.dumps(describe_service()))
    schema = json.loads((GOLDEN / "openapi_3_1_schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    for part in (document["components"]["schemas"]).values():
        jsonschema.Draft202012Validator.check_schema(part)
    named = set(re.findall(r'"#/components/(\w+/\w+)"', json.dumps(document)))
    components = document["components"]
    assert {f"{kind}/{name}" for kind in ("schemas", "responses") for name in components[kind]} >= named
    assert set(OPTIONS) == set(JobOptions.__dataclass_fields__)

    async def routes() -> set[tuple[str, str]]:
        options = ServiceOptions()
        made: Any = Routes(options, JobStore(Path(), options), None)  # type: ignore[arg-type]  # nothing is asked
        app = made._starlette()
        made.close()
        return {
            (route.path, method.lower())
            for route in app.routes
            for method in (getattr(route, "methods", None) or {"GET"}) - {"HEAD"}
        }

    described = {
        (path, method) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    assert asyncio.run(routes()) == described


def test_a_reader_for_strangers_opens_a_video_and_nothing_that_it_names(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", frames=10)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n", encoding="utf-8")
    PyAVReader(str(playlist)).close()  # which a user's own may
    with pytest.raises(VideoError, match=r"^shown\.m3u8: a playlist"):
        PyAVReader(str(playlist), contained=True, known_as="shown.m3u8")
    with pytest.raises(VideoError, match="an address"):
        PyAVReader("http://127.0.0.1/a.mp4", contained=True)
    reader = PyAVReader(str(clip), contained=True, known_as="shown.mov")
    assert (reader.name, reader.label, reader.scan()) == ("shown", "shown.mov", (10, 1.0))
    reader.close()


class Heard:
    """A line that keeps what is said on it."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def say(self, event: str, **data: Any) -> None:
        self.messages.append({"event": event, **data})

    def check(self) -> None:
        """Nothing is to be cancelled."""


def test_a_rate_that_makes_hours_of_a_short_file_is_refused_before_the_work(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", frames=20)
    engines = open_engines(Models("model", open=lambda path, **_: TinyEngine()))
    task = {"video": str(clip), "folder": str(tmp_path), "name": "clip.mp4", "source": "clip.mp4", "score": 0.0}
    task |= {"max_seconds": 100.0}
    heard: Any = Heard()
    with pytest.raises(VideoError, match="got 200 s or more, expected at most 100 s"):
        run_job(task | {"options": {"fps": 0.1}}, engines, heard)
    assert [message["event"] for message in heard.messages] == ["opened"]
    run_job(task | {"max_seconds": 1.0, "options": {"fps": 100.0}}, engines, heard)  # the client's rate counts


def open_on_features(path: str, **_: Any) -> Any:
    return TinyBackbone() if path == "backbone" else MixingModel(feature_model_spec("afsd"))


def test_a_model_on_features_takes_videos_through_its_backbone(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", frames=300)
    engines = open_engines(Models("model", backbones=("backbone",), open=open_on_features))
    heard: Any = Heard()
    task = {"video": str(clip), "folder": str(tmp_path), "name": "clip.avi", "source": "clip.avi", "score": 0.0}
    run_job(task | {"max_seconds": 100.0, "options": {"exclusive": "class"}}, engines, heard)
    options = DetectorOptions(exclusive="class")
    want = Detector(MixingModel(feature_model_spec("afsd")), backbone=TinyBackbone(), options=options).run(clip)
    got = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["results"]["clip"]
    assert got == json.loads(json.dumps(results_document([want.sorted("score")])))["results"]["clip"]
    assert len(got) > 3
    assert heard.messages[0] == {"event": "opened", "type": "video/x-msvideo", "seconds": 30.0}
    assert heard.messages[-1] | {"real_time_factor": 0} == {
        "event": "done", "detections": len(got), "preview": False, "video_seconds": 30.0, "real_time_factor": 0,
    }  # fmt: skip


def test_a_model_on_features_without_backbone_is_refused_at_the_start() -> None:
    with pytest.raises(InputError, match="--backbone"):
        open_engines(Models("model", open=open_on_features))


def test_workers_are_spread_over_the_devices() -> None:
    models = Models("model", opening={"device": "cpu", "threads": 2}, devices=("gpu:0", "gpu:1"))
    assert [dict(models.for_worker(k).opening) for k in range(3)] == [
        {"device": device, "threads": 2} for device in ("gpu:0", "gpu:1", "gpu:0")
    ]


def test_a_live_client_that_reads_nothing_is_given_up() -> None:
    async def run() -> None:
        ended = False

        async def lines() -> AsyncGenerator[str]:
            nonlocal ended
            try:
                while True:
                    yield "x"
            finally:
                ended = True

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await asyncio.sleep(60)

        response: Any = LinesResponse(lines(), 0.05)
        with pytest.raises(ClientDisconnect):
            await response({"type": "http"}, None, send)
        assert ended

    asyncio.run(run())
