"""The repository in a real Triton Inference Server: videos and sequences, many at once, and errors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.cli import main
from tests.fake_tensorrt import write_tiny_plan
from tests.runtime.triton.slow_address import slow_address
from tests.shared import ROOT
from tests.tiny import CROP, LENGTH, TinyEngine, tiny_spec, write_tiny_onnx
from tests.triton_server import Server, client_environment, require_triton, running, server_environment
from tests.videos import write_video

pytestmark = pytest.mark.thorough
SCORE = 0.01
IDLE_SECONDS = 3
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\nfile:///etc/passwd\n"
CLIENTS = 20
CHECK = """
import sys
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
for path in sys.argv[1:]:
    print(text_format.Parse(open(path, encoding="utf-8").read(), ModelConfig()).name)
"""
"""Reads configurations by the server's own schema."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a video that comes slowly."""
    require_triton()
    with slow_address(tmp_path_factory.mktemp("slow")) as url:
        yield url


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, slow: str) -> Path:
    """A folder with a model, videos and a repository: "own" runs the engine itself, "joined" in the server's model."""
    folder = tmp_path_factory.mktemp("triton")
    model = write_tiny_onnx(folder / "tiny.onnx", None)
    (folder / "root").mkdir()
    for number in range(4):
        write_video(folder / f"root/{number}.avi", frames=40 + 10 * number, level=100 + number)
    write_video(folder / "root/video.mp4", frames=50)
    (folder / "root/list.m3u8").write_bytes(PLAYLIST)
    (folder / "sequences").mkdir()
    for number in range(CLIENTS):
        frames = np.random.default_rng(number).integers(0, 256, (60 + 4 * number, *CROP, 3), dtype=np.uint8)
        np.save(folder / f"sequences/{number}.npy", frames)
    flags = ["--out", str(folder / "repository"), "--root", str(folder / "root"), "--score", str(SCORE)]
    flags += ["--threads", "1", "--idle", str(IDLE_SECONDS), "--max-mb", "8"]
    assert main(["triton", str(model), *flags, "--name", "own"]) == 0
    assert main(["triton", str(model), *flags, "--name", "joined", "--network", "python", "--network-in-triton"]) == 0
    few = ["--name", "few", "--network", "none", "--max-sequences", "2"]
    assert main(["triton", str(model), *flags, *few]) == 0
    queued = ["--network", "none", "--queue", "1", "--url", slow.removesuffix("slow.avi")]
    assert main(["triton", str(model), *flags, *queued, "--name", "queued"]) == 0
    assert main(["triton", str(model), *flags, *queued, "--name", "hurried", "--max-wait", "0.5"]) == 0
    fixed = write_tiny_onnx(folder / "fixed.onnx", tiny_spec(batch=2))
    assert main(["triton", str(fixed), *flags, "--name", "fixed", "--batch", "2", "--network", "python"]) == 0
    plan = write_tiny_plan(folder / "tiny.engine")
    assert main(["triton", str(plan), *flags, "--name", "plan", "--device", "gpu:0,gpu:1", "--instances", "2"]) == 0
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    """The server; own_network is left out, since the wheel has no backend for ONNX files."""
    models = [
        "own",
        "own_stream",
        "joined_network",
        "joined",
        "joined_stream",
        "few_stream",
        "queued",
        "hurried",
        "fixed_network",
    ]
    with running(place / "repository", models, place / "server") as server:
        yield server


@pytest.fixture(scope="module")
def results(place: Path, server: Server) -> dict[str, list[Any]]:
    """The detector's results by the name of the video or sequence: label, score, segment of each detection."""
    sources = [
        *sorted(path for path in (place / "root").iterdir() if path.suffix != ".m3u8"),
        *sorted((place / "sequences").iterdir()),
    ]
    asked = {"model": str(place / "tiny.onnx"), "score": SCORE, "sources": list(map(str, sources))}
    words = [sys.executable, str(Path(__file__).with_name("reference.py"))]
    done = subprocess.run(
        words, input=json.dumps(asked), capture_output=True, text=True, check=False,
        env=server_environment(place / "server"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    documents = json.loads(done.stdout)
    return {source.name: rows(document) for source, document in zip(sources, documents, strict=True)}


def post(server: Server, path: str, body: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(f"{server.http}{path}", body, headers or {}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))


def ask(server: Server, model: str, **texts: str) -> dict[str, Any]:
    """Send a request of texts as JSON."""
    inputs = [{"name": name, "shape": [1], "datatype": "BYTES", "data": [value]} for name, value in texts.items()]
    return post(server, f"/v2/models/{model}/infer", json.dumps({"inputs": inputs}).encode())


def send(server: Server, model: str, content: bytes) -> dict[str, Any]:
    """Send a video as bytes behind the JSON of the request."""
    described = {
        "name": "VIDEO", "shape": [len(content)], "datatype": "UINT8", "parameters": {"binary_data_size": len(content)},
    }  # fmt: skip
    head = json.dumps({"inputs": [described]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return post(server, f"/v2/models/{model}/infer", head + content, headers)


def follow(server: Server, jobs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Run sequences by gRPC, all at once."""
    words = [sys.executable, str(Path(__file__).with_name("client.py")), server.grpc]
    done = subprocess.run(
        words, input=json.dumps(jobs), capture_output=True, text=True, check=False, env=client_environment()
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def rows(document: Any) -> list[Any]:
    (found,) = (json.loads(document) if isinstance(document, str) else document)["results"].values()
    return list(found)


def assert_equal(answer: dict[str, Any], want: list[Any]) -> None:
    assert "error" not in answer, answer
    outputs = {one["name"]: one for one in answer["outputs"]}
    assert rows(outputs["JSON"]["data"][0]) == want
    assert outputs["SEGMENTS"]["shape"] == [len(want), 2]
    segments = np.array(outputs["SEGMENTS"]["data"], np.float32).reshape(-1, 2)
    np.testing.assert_array_equal(segments, np.array([one["segment"] for one in want], np.float32))
    np.testing.assert_array_equal(
        np.array(outputs["SCORES"]["data"], np.float32), np.array([one["score"] for one in want], np.float32)
    )
    assert outputs["LABELS"]["data"] == [one["label"] for one in want]


def assert_sequence_equal(answers: list[dict[str, Any]], want: list[Any]) -> None:
    assert "error" not in answers[-1], answers[-1]
    assert [row for one in answers for row in rows(one["json"])] == want
    segments = np.array([segment for one in answers for segment in one["segments"]], np.float32).reshape(-1, 2)
    np.testing.assert_array_equal(segments, np.array([one["segment"] for one in want], np.float32))


def test_the_servers_schema_takes_every_configuration(place: Path) -> None:
    configs = sorted((place / "repository").glob("*/config.pbtxt"))
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *map(str, configs)],
        capture_output=True, text=True, check=False, env=client_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [path.parent.name for path in configs]
    assert len(configs) == 18


def test_only_the_backend_of_the_native_network_is_missing(server: Server) -> None:
    said = post(server, "/v2/repository/models/own_network/load", b"{}")["error"]
    assert "onnxruntime" in said
    assert "backend" in said


@pytest.mark.parametrize("model", ["own", "joined"])
def test_a_whole_video_as_path_and_as_bytes(
    model: str, place: Path, server: Server, results: dict[str, list[Any]]
) -> None:
    assert len(results["2.avi"]) > 3
    assert_equal(ask(server, model, PATH="2.avi"), results["2.avi"])
    assert_equal(send(server, model, (place / "root/2.avi").read_bytes()), results["2.avi"])


def job(file: Path, key: int | str, chunk: int, **further: Any) -> dict[str, Any]:
    return {"id": key, "frames": str(file), "chunk": chunk, "fps": 10.0, "model": "own_stream", **further}


def test_a_sequence_gives_detections_as_they_become_final(
    place: Path, server: Server, results: dict[str, list[Any]]
) -> None:
    file = place / "sequences/19.npy"
    own, joined = follow(server, [job(file, 1, 13), job(file, "a text", 8, model="joined_stream")])
    assert_sequence_equal(own, results["19.npy"])
    assert_sequence_equal(joined, results["19.npy"])
    assert own[0]["start"] < own[-1]["start"]  # before the last chunk
    assert list(own[0]["json"]["results"]) == ["sequence 1"]


def test_twenty_clients_at_once(place: Path, server: Server, results: dict[str, list[Any]]) -> None:
    jobs = [job(place / f"sequences/{number}.npy", 100 + number, 7 + number) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        sequences = pool.submit(follow, server, jobs)
        videos = [pool.submit(ask, server, "own", PATH=f"{number % 4}.avi") for number in range(CLIENTS)]
        for number, answer in enumerate(videos):
            assert_equal(answer.result(), results[f"{number % 4}.avi"])
        for number, answers in enumerate(sequences.result()):
            assert_sequence_equal(answers, results[f"{number}.npy"])


def test_errors_are_one_line_and_the_server_goes_on(
    place: Path, server: Server, results: dict[str, list[Any]], tmp_path: Path
) -> None:
    for answer, said in (
        (send(server, "own", b"no video at all" * 100), "VIDEO: not a video that FFmpeg can open"),
        (send(server, "own", PLAYLIST), "VIDEO: not a video that FFmpeg can open"),
        (ask(server, "own", PATH="list.m3u8"), "list.m3u8: a playlist"),
        (ask(server, "own", PATH="../tiny.onnx"), "expected a file below the server's root"),
        (ask(server, "own", PATH="nothing.mp4"), "nothing.mp4: file or folder not found"),
        (ask(server, "own", URL="http://169.254.169.254/"), "this server reads no addresses"),
    ):
        assert said in answer["error"]
        assert "\n" not in answer["error"]
    file = place / "sequences/1.npy"
    flat = tmp_path / "flat.npy"
    np.save(flat, np.zeros((4, 0, 10, 3), np.uint8))
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((4, 8, 10, 2), np.uint8))
    answers = follow(
        server,
        [
            job(flat, 201, 4),
            job(other, 202, 4),
            job(file, 203, 16, fps=None),
            job(file, 204, 16, start=False),
            job(file, 205, 100, end=False),
            job(file, 206, 16),
        ],
    )
    for answer, said in zip(answers, ("expected uint8", "shape", "FPS is missing", "START", None, None), strict=True):
        assert said is None or said in answer[-1]["error"]
    assert_sequence_equal(answers[-1], results["1.npy"])


@contextmanager
def occupied(server: Server, model: str, url: str) -> Iterator[Callable[[], str]]:
    """Have the one instance of a model look at a video that comes slowly; yield what cancels that."""
    words = [sys.executable, str(Path(__file__).with_name("canceller.py")), server.grpc, model, url]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=client_environment()
    ) as client:
        assert client.stdout is not None
        try:
            assert client.stdout.readline() == "sent\n"
            yield lambda: client.communicate("\n", timeout=30)[0]
        finally:
            client.kill()


def pending(server: Server, model: str) -> float:
    """Number of requests that wait for a model."""
    with urllib.request.urlopen(f"{server.metrics}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    (line,) = [one for one in lines if one.startswith(f'nv_inference_pending_request_count{{model="{model}"')]
    return float(line.split()[-1])


def test_a_cancelled_video_makes_room_and_one_too_many_is_refused(
    server: Server, slow: str, results: dict[str, list[Any]]
) -> None:
    with occupied(server, "queued", slow) as cancel, ThreadPoolExecutor(1) as pool:
        time.sleep(0.3)  # it is in work: what comes now waits
        second = pool.submit(ask, server, "queued", PATH="1.avi")
        end = time.monotonic() + 20
        while pending(server, "queued") < 1 and time.monotonic() < end:
            time.sleep(0.02)
        assert "Exceeds maximum queue size" in ask(server, "queued", PATH="2.avi")["error"]
        assert not second.done()
        assert "CANCELLED" in cancel()
        assert_equal(second.result(timeout=20), results["1.avi"])  # the slow video would take a minute more
    assert_equal(ask(server, "queued", PATH="2.avi"), results["2.avi"])


def test_what_waits_too_long_is_refused(server: Server, slow: str, results: dict[str, list[Any]]) -> None:
    with occupied(server, "hurried", slow) as cancel:
        time.sleep(0.3)
        assert ask(server, "hurried", PATH="1.avi")["error"] == "Request timeout expired"
        cancel()
    assert_equal(ask(server, "hurried", PATH="1.avi"), results["1.avi"])


def test_a_sequence_that_is_never_ended_is_forgotten(place: Path, server: Server) -> None:
    file = place / "sequences/2.npy"
    (begun,) = follow(server, [job(file, 301, 100, end=False)])
    assert not begun or "error" not in begun[-1]
    time.sleep(IDLE_SECONDS + 0.5)
    (late,) = follow(server, [job(file, 301, 100, start=False)])
    assert "START" in late[-1]["error"]


def test_a_sequence_too_many_is_refused_at_once(place: Path, server: Server) -> None:
    file = place / "sequences/1.npy"
    answers = follow(server, [job(file, key, 16, model="few_stream", end=False) for key in (401, 402, 403)])
    errors = [answer[-1]["error"] for answer in answers if answer and "error" in answer[-1]]
    assert len(errors) == 1  # else it had waited until the others were idle
    assert "2 sequences are running, the most there may be" in errors[0]


def code(page: str, language: str) -> list[str]:
    """The blocks of a page: of a language, or indented ones that ask by curl."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    if language:
        return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [block for block in re.findall(r"((?:^    .*\n)+)", text, re.MULTILINE) if "curl" in block]


def test_the_programs_of_the_page(place: Path, server: Server, results: dict[str, list[Any]], tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes((place / "root/video.mp4").read_bytes())
    (tmp_path / "frames.npy").write_bytes((place / "sequences/3.npy").read_bytes())
    program = "".join(code("triton.md", "python")).replace("localhost:8001", server.grpc).replace('"afsd', '"own')
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=client_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    video, frames = results["video.mp4"], results["3.npy"]
    said = done.stdout.splitlines()
    assert len(said) == len(video) + len(frames)
    assert said[0].split()[0] == video[0]["label"]
    assert said[len(video) :] == [f"{one['label']} {one['score']} {one['segment']}" for one in frames]
    asked = code("triton.md", "")
    assert len(asked) == 2
    for words in asked if shutil.which("curl") else ():
        words = words.replace("localhost:8000", server.http).replace("afsd/infer", "own/infer")
        answer = subprocess.run(["sh", "-c", words], capture_output=True, check=True, cwd=tmp_path).stdout
        assert_equal(json.loads(answer), video)


def test_an_engine_that_asks_the_server(place: Path, server: Server, results: dict[str, list[Any]]) -> None:
    defined, used = code("extending.md", "python")[1:3]
    used = used.replace("http://localhost:8000", server.http).replace("model.onnx", str(place / "tiny.onnx"))
    names: dict[str, Any] = {}
    program = defined + used.replace("afsd_network", "joined_network").replace("video.mp4", str(place / "root/2.avi"))
    exec(compile(program, "docs/extending.md", "exec"), names)
    found = names["found"].above(SCORE)
    np.testing.assert_allclose(found.segments, [one["segment"] for one in results["2.avi"]], rtol=1e-6)


def test_the_metrics_count_what_was_asked(server: Server) -> None:
    ask(server, "own", PATH="0.avi")
    with urllib.request.urlopen(f"{server.metrics}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    counts = {line.partition("{")[0]: line for line in lines if 'model="own"' in line}
    assert float(counts["nv_inference_request_success"].split()[-1]) >= 1


@pytest.mark.parametrize(("model", "shape"), [("joined_network", [2, 1]), ("fixed_network", [2])])
def test_the_network_alone_equals_the_engine(model: str, shape: list[int], place: Path, server: Server) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, LENGTH, *CROP, 3), dtype=np.uint8)
    lengths = np.array([LENGTH, 5], np.int32)
    inputs = [
        {"name": "frames", "shape": list(frames.shape), "datatype": "UINT8", "data": frames.ravel().tolist()},
        {"name": "lengths", "shape": shape, "datatype": "INT32", "data": lengths.tolist()},
    ]
    answer = post(server, f"/v2/models/{model}/infer", json.dumps({"inputs": inputs}).encode())
    want = TinyEngine().infer({"frames": frames, "lengths": lengths})
    for output in answer["outputs"]:
        found = np.array(output["data"], np.float32).reshape(output["shape"])
        np.testing.assert_allclose(found, want[output["name"]], rtol=1e-4, atol=1e-4)
