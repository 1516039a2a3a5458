"""The Python models of a repository, run by a double of Triton, against the detector."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from runtime.cli import main
from runtime.detector import Detector, DetectorOptions
from runtime.engines.base import Engine
from runtime.errors import EngineError, InputError, VideoError
from runtime.results.detections import Detections
from runtime.triton import network_model, reading, stream_model, video_model
from runtime.triton.engine import TritonEngine
from runtime.triton.reading import BoundedReader, Bounds
from runtime.triton.serving import cancellation_of
from runtime.triton.settings import Settings
from tests.runtime.triton.double import Request, Response, TritonError, initial, utilities
from tests.tiny import CROP, LENGTH, TinyEngine, tiny_spec, write_tiny_onnx
from tests.videos import write_video

SCORE = 0.01
WAIT_SECONDS = 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository of models under the name "own" and one with "joined", and with a root of videos."""
    folder = tmp_path_factory.mktemp("triton")
    model = write_tiny_onnx(folder / "tiny.onnx", None)
    (folder / "root").mkdir()
    write_video(folder / "root/a.avi", frames=70)
    flags = ["--out", str(folder / "repository"), "--root", str(folder / "root"), "--score", str(SCORE)]
    flags += ["--network", "python", "--threads", "1", "--max-mb", "1"]
    assert main(["triton", str(model), *flags, "--name", "own"]) == 0
    assert main(["triton", str(model), *flags, "--name", "joined", "--network-in-triton"]) == 0
    return folder


Open = Callable[..., Any]


@pytest.fixture
def open_model(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Maker of a model by its name, as Triton makes it."""
    opened: list[Any] = []

    def open_model(module: Any, name: str, run: Any = None) -> Any:
        monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utilities(run))  # type: ignore[arg-type]
        opened.append(module.TritonPythonModel())
        opened[-1].initialize(initial(place / "repository" / name))
        return opened[-1]

    yield open_model
    for model in opened:
        model.finalize()


def expected(place: Path, source: Any = None, **options: Any) -> Detections:
    detector = Detector(place / "tiny.onnx", options=DetectorOptions(min_score=SCORE))
    with detector:
        return detector.run(place / "root/a.avi" if source is None else source, **options)


def text(value: str) -> np.ndarray:
    return np.array([value.encode()], np.object_)


def rows(document: str) -> list[Any]:
    (found,) = json.loads(document)["results"].values()
    return list(found)


def assert_equal(response: Response, found: Detections) -> None:
    outputs = response.arrays()
    assert rows(outputs["JSON"][0].decode()) == rows(found.to_json())
    assert outputs["SCORES"].dtype == outputs["SEGMENTS"].dtype == np.float32
    np.testing.assert_array_equal(outputs["SCORES"], found.scores.astype(np.float32))
    np.testing.assert_array_equal(outputs["SEGMENTS"], found.segments.astype(np.float32))
    assert [label.decode() for label in outputs["LABELS"]] == [one.label for one in found]


def test_a_whole_video_as_path_and_as_bytes(place: Path, open_model: Open) -> None:
    model = open_model(video_model, "own")
    content = np.fromfile(place / "root/a.avi", np.uint8)
    want = expected(place)
    assert len(want) > 3
    by_path, by_bytes, named = model.execute(
        [
            Request({"PATH": text("a.avi")}),
            Request({"VIDEO": content}),
            Request({"VIDEO": content, "NAME": text("ü 行"), "FPS": np.array([10], np.float32)}),
        ]
    )
    for response in (by_path, by_bytes, named):
        assert_equal(response, want)
    documents = [json.loads(one.arrays()["JSON"][0]) for one in (by_path, by_bytes, named)]
    assert [next(iter(document["results"])) for document in documents] == ["a", "video", "ü 行"]
    facts = documents[0]["external_data"]["a"]
    assert (facts["path"], facts["model"]) == ("a.avi", "tiny.onnx")
    assert str(place) not in json.dumps(documents)


def test_every_error_is_one_line_of_its_request(place: Path, open_model: Open) -> None:
    model = open_model(video_model, "own")
    junk = np.arange(100, dtype=np.uint8)
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "got no video, expected one of VIDEO, PATH, URL"),
        ({"PATH": text("a.avi"), "VIDEO": junk}, "got VIDEO and PATH"),
        ({"PATH": text("../tiny.onnx")}, "expected a file below the server's root"),
        ({"PATH": text("nothing.mp4")}, "nothing.mp4: file or folder not found"),
        ({"PATH": np.array([b"\xff"], np.object_)}, "PATH: got bytes that are no text"),
        ({"PATH": np.array([b"a", b"b"], np.object_)}, "PATH: got 2 texts"),
        ({"URL": text("http://host/a.mp4")}, "this server reads no addresses"),
        ({"VIDEO": junk}, "VIDEO: not a video that FFmpeg can open"),
        ({"VIDEO": junk[:0]}, "VIDEO: got 0 bytes"),
        ({"VIDEO": np.zeros(2**20 + 1, np.uint8)}, "VIDEO: got 1,048,577 bytes"),
        ({"PATH": text("a.avi"), "NAME": text("../b")}, "NAME is '../b'"),
        ({"PATH": text("a.avi"), "FPS": np.array([-1], np.float32)}, "fps: got -1"),
    ]
    responses = model.execute([*(Request(inputs) for inputs, _ in cases), Request({"PATH": text("a.avi")})])
    for response, (_, said) in zip(responses, cases, strict=False):
        error = response.error()
        assert error is not None
        assert said in error.message()
        assert "\n" not in error.message()
        assert str(place) not in error.message()
        assert error.code == TritonError.INVALID_ARG
    assert_equal(responses[-1], expected(place))


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"


def test_a_video_that_names_another_file_opens_none(place: Path, open_model: Open) -> None:
    secret = write_video(place / "secret.mp4", frames=40)
    playlist = place / "root/list.m3u8"
    playlist.write_text(PLAYLIST.format(secret), encoding="utf-8")
    content = np.frombuffer(playlist.read_bytes(), np.uint8)
    model = open_model(video_model, "own")
    refused = "list.m3u8: a playlist, an image or another file that is no container of video"
    for inputs, said in (({"PATH": text("list.m3u8")}, refused), ({"VIDEO": content}, "VIDEO: not a video")):
        (response,) = model.execute([Request(inputs)])
        error = response.error()
        assert error is not None
        assert said in error.message()
        assert str(place) not in error.message()


@pytest.mark.parametrize(
    ("limits", "fps", "said"),
    [
        ({"max_video_s": 5.0}, None, "a.avi: got 7 s or more, expected at most 5 s of video"),
        ({"max_video_s": 30.0}, 1.0, "a.avi: got 70 s or more, expected at most 30 s of video"),
        ({"max_processing_s": 1e-6}, None, "took more than 1e-06 s, the most that this server gives a video"),
    ],
)
def test_a_video_that_is_too_long(
    limits: dict[str, float], fps: float | None, said: str, place: Path, open_model: Open
) -> None:
    model = open_model(video_model, "own")
    settings = model._place.settings
    model._place = replace(model._place, settings=replace(settings, **limits))
    rate = None if fps is None else np.array([fps], np.float32)
    (response,) = model.execute([Request({"PATH": text("a.avi"), "FPS": rate})])
    assert said in response.error().message()
    assert response.error().code == TritonError.INVALID_ARG
    model._place = replace(model._place, settings=settings)
    (response,) = model.execute([Request({"PATH": text("a.avi")})])
    assert_equal(response, expected(place))


def test_an_address_below_an_allowed_one(place: Path, open_model: Open) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(place / "root"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        model = open_model(video_model, "own")
        settings = replace(model._place.settings, url_prefixes=(address,))
        model._place = replace(model._place, settings=settings)
        found, climbing = model.execute([Request({"URL": text(f"{address}{name}")}) for name in ("a.avi", "..?x")])
        server.shutdown()
    assert_equal(found, expected(place))
    assert json.loads(found.arrays()["JSON"][0])["external_data"]["a"]["path"] == f"{address}a.avi"
    assert "not among the addresses" in climbing.error().message()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def test_frames_that_come_slowly_end_with_the_time(place: Path) -> None:
    bounds = Bounds("a", Settings("", max_processing_s=0.05), lambda: False)
    with closing(BoundedReader(str(place / "root/a.avi"), bounds)) as reader:
        assert reader.grab()
        time.sleep(0.06)
        with pytest.raises(VideoError, match="took more than"):
            reader.grab()


@pytest.mark.parametrize("source", ["PATH", "VIDEO", "folder"])
def test_a_cancelled_request_is_given_up_and_the_next_is_answered(
    source: str, place: Path, open_model: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ASK_EVERY_S", 0.0)
    model = open_model(video_model, "own")
    if source == "folder":
        (place / "root/images").mkdir()
        for number in range(70):
            assert cv2.imwrite(str(place / f"root/images/{number:03}.png"), np.full((*CROP, 3), 3 * number, np.uint8))
    content = np.fromfile(place / "root/a.avi", np.uint8)
    inputs = {
        "PATH": {"PATH": text("a.avi")}, "VIDEO": {"VIDEO": content},
        "folder": {"PATH": text("images"), "FPS": np.array([10], np.float32)},
    }[source]  # fmt: skip
    whole, cancelled, late = Request(inputs), Request(inputs), Request(inputs)
    (want,) = model.execute([whole])
    assert whole.asked > 4
    cancelled.cancelled_at, late.cancelled_at = whole.asked // 2, whole.asked + 1
    given_up, answered = model.execute([cancelled, late])
    error = given_up.error()
    assert error is not None
    assert error.code == TritonError.CANCELLED
    assert error.message().endswith(": the request was cancelled")
    assert cancelled.asked <= cancelled.cancelled_at + 1  # one more by the thread that reads, and not a frame more
    assert rows(answered.arrays()["JSON"][0].decode()) == rows(want.arrays()["JSON"][0].decode())


def test_the_server_is_not_asked_for_each_frame(place: Path, open_model: Open) -> None:
    request = Request({"PATH": text("a.avi")})
    begun = time.monotonic()
    open_model(video_model, "own").execute([request])
    assert 1 <= request.asked <= 2 + (time.monotonic() - begun) / reading.ASK_EVERY_S


def test_a_server_that_cannot_say_whether_a_request_is_cancelled() -> None:
    assert cancellation_of(object())() is False


def test_an_error_of_the_code_is_a_line_too(place: Path, open_model: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(video_model, "own")
    monkeypatch.setattr(model._detector, "run", lambda *_, **__: 1 / 0)
    (response,) = model.execute([Request({"PATH": text("a.avi")})])
    error = response.error()
    assert (error.message(), error.code) == (
        "internal error (ZeroDivisionError: division by zero)", TritonError.INTERNAL,
    )  # fmt: skip


def frames_of(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *CROP, 3), dtype=np.uint8)


def stream(model: Any, frames: np.ndarray, chunk: int, sequence: int | str = 5) -> list[Response]:
    """Send the frames of a sequence, each chunk after the answer to the one before."""
    responses: list[Response] = []
    for start in range(0, len(frames), chunk):
        first, last = start == 0, start + chunk >= len(frames)
        request = Request(
            {
                "FRAMES": frames[start : start + chunk],
                "FPS": np.array([10], np.float32) if first else None,
                "START": np.array([first], np.float32),
                "END": np.array([last], np.float32),
            },
            sequence,
        )
        assert model.execute([request]) is None
        assert request.sender.ended.wait(WAIT_SECONDS)
        responses += request.sender.responses
    return responses


@pytest.mark.parametrize("chunk", [9, 90])
def test_a_sequence_of_chunks(place: Path, open_model: Open, chunk: int) -> None:
    frames = frames_of(90)
    responses = stream(open_model(stream_model, "own_stream"), frames, chunk, "camera 1")
    found = [row for one in responses for row in rows(one.arrays()["JSON"][0].decode())]
    assert found == rows(expected(place, frames, fps=10.0).to_json())
    assert len(responses[-1].arrays()["LABELS"]) == 0
    assert list(json.loads(responses[0].arrays()["JSON"][0])["results"]) == ["sequence camera 1"]


def test_a_wrong_chunk_is_a_line_and_the_next_sequence_runs(place: Path, open_model: Open) -> None:
    model = open_model(stream_model, "own_stream")
    controls = {"START": np.array([1], np.float32), "END": np.array([0], np.float32)}
    for inputs, said in (
        ({"FRAMES": np.zeros((2, 3, 4), np.uint8)}, "FRAMES: got uint8 [2, 3, 4]"),
        ({"FRAMES": frames_of(2)}, "FPS is missing"),
        ({}, "FRAMES: missing"),
        ({"FRAMES": frames_of(9000)}, "expected at most 1,048,576"),
    ):
        request = Request({**inputs, **controls}, 1)
        model.execute([request])
        assert request.sender.ended.wait(WAIT_SECONDS)
        (response,) = request.sender.responses
        assert said in response.error().message()  # type: ignore[union-attr]
    assert stream(model, frames_of(20), 20)


def test_the_network_alone_joins_requests(open_model: Open) -> None:
    model = open_model(network_model, "own_network")
    rng = np.random.default_rng(0)

    def windows(count: int) -> dict[str, np.ndarray]:
        return {
            "frames": rng.integers(0, 256, (count, LENGTH, *CROP, 3), dtype=np.uint8),
            "lengths": np.full((count, 1), LENGTH, np.int32),
        }

    given = [windows(1), windows(3), windows(2)]
    seen: list[int] = []
    infer = model._engine.infer
    model._engine.infer = lambda inputs: seen.append(len(inputs["frames"])) or infer(inputs)
    responses = model.execute([Request(one) for one in given])
    assert seen == [6]
    for one, response in zip(given, responses, strict=True):
        want = TinyEngine().infer({**one, "lengths": one["lengths"][:, 0]})
        for name, array in response.arrays().items():
            np.testing.assert_allclose(array, want[name], rtol=1e-4, atol=1e-4)
    wrong = Request({"frames": given[0]["frames"][:, :3], "lengths": given[0]["lengths"]})
    (response,) = model.execute([wrong])
    assert "engine input 'frames'" in response.error().message()


def served(model: str, inputs: dict[str, np.ndarray]) -> Response:
    """Answer as the server's network would: `lengths` is a column."""
    assert model == "joined_network"
    assert inputs["lengths"].shape == (len(inputs["frames"]), 1)
    found = TinyEngine().infer({**inputs, "lengths": inputs["lengths"][:, 0]})
    from tests.runtime.triton.double import Tensor

    return Response([Tensor(name, np.ascontiguousarray(array)) for name, array in found.items()])


def test_the_network_of_the_server_is_an_engine(place: Path, open_model: Open) -> None:
    want = Detector(TinyEngine(), options=DetectorOptions(min_score=SCORE)).run(place / "root/a.avi")
    (response,) = open_model(video_model, "joined", served).execute([Request({"PATH": text("a.avi")})])
    assert_equal(response, want)
    frames = frames_of(50)
    want = Detector(TinyEngine(), options=DetectorOptions(min_score=SCORE)).run(frames, fps=10.0)
    responses = stream(open_model(stream_model, "joined_stream", served), frames, 11)
    assert [row for one in responses for row in rows(one.arrays()["JSON"][0].decode())] == rows(want.to_json())


def test_what_the_servers_network_does_wrong() -> None:
    inputs = {"frames": np.zeros((1, LENGTH, *CROP, 3), np.uint8), "lengths": np.array([LENGTH], np.int32)}
    refused = Response([], TritonError("queue\nfull"))
    engine = TritonEngine("n", tiny_spec(), utilities(lambda *_: refused))
    assert isinstance(engine, Engine)
    with pytest.raises(EngineError, match="the model n of this server failed: queue full"):
        engine.infer(inputs)
    with pytest.raises(EngineError, match="gave no loc, conf"):
        TritonEngine("n", tiny_spec(), utilities(lambda *_: Response([]))).infer(inputs)
    with pytest.raises(InputError, match="engine inputs"):
        engine.infer({})
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.infer(inputs)
