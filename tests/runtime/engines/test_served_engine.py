"""docs/extending.md: the engine that asks a server, on a double of the server in this process."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.detector import Detector
from runtime.engines.base import Engine
from runtime.errors import EngineError
from tests.shared import ROOT
from tests.tiny import CROP, LENGTH, TinyEngine, tiny_spec, write_tiny_onnx
from tests.videos import write_video

TEXT = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
HEAD = "Inference-Header-Content-Length"


def blocks() -> tuple[str, str]:
    """The class, and the program that uses it."""
    chapter = TEXT.partition("## A server behind Detector")[2].partition("\n## ")[0]
    defined, used = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)
    return defined, used


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(code, "docs/extending.md", "exec"), names)
    return names


class Handler(BaseHTTPRequestHandler):
    """Answers as the KServe protocol says, with numbers as bytes behind the JSON, for the tiny network."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        split = int(self.headers[HEAD])
        asked, at, arrays = json.loads(body[:split]), split, {}
        for tensor in asked["inputs"]:
            size = tensor["parameters"]["binary_data_size"]
            kind = {"UINT8": np.uint8, "INT32": np.int32}[tensor["datatype"]]
            arrays[tensor["name"]] = np.frombuffer(body[at : at + size], kind).reshape(tensor["shape"])
            at += size
        assert at == len(body)
        if self.path != "/v2/models/afsd_network/infer":
            return self.answer(404, json.dumps({"error": "no such model"}).encode(), {})
        assert arrays["lengths"].shape == (len(arrays["frames"]), 1)
        found = TinyEngine().infer({"frames": arrays["frames"], "lengths": arrays["lengths"][:, 0]})
        outputs, content = [], b""
        for name in reversed([output["name"] for output in asked["outputs"]]):  # any order is right
            data = found[name].tobytes()
            size = {"binary_data_size": len(data)}
            outputs.append({"name": name, "datatype": "FP32", "shape": found[name].shape, "parameters": size})
            content += data
        head = json.dumps({"model_name": "afsd_network", "outputs": outputs}).encode()
        return self.answer(200, head + content, {HEAD: str(len(head))})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_program_finds_what_the_engine_finds(address: str, tmp_path: Path) -> None:
    defined, used = blocks()
    model = write_tiny_onnx(tmp_path / "model.onnx", None)
    video = write_video(tmp_path / "video.mp4", frames=60)
    used = used.replace("http://localhost:8000", address).replace("model.onnx", str(model))
    found = run(defined + used.replace("video.mp4", str(video)), {})["found"]
    want = Detector(TinyEngine()).run(video)
    assert len(want) > 3
    assert found.to_json() == want.to_json()
    np.testing.assert_array_equal(found.segments, want.segments)


def test_it_is_an_engine_and_its_errors_are_lines(address: str) -> None:
    served = run(blocks()[0], {})["ServedEngine"]
    inputs = {"frames": np.zeros((1, LENGTH, *CROP, 3), np.uint8), "lengths": np.array([LENGTH], np.int32)}
    assert isinstance(served(address, "afsd_network", tiny_spec()), Engine)
    with pytest.raises(EngineError, match="no such model"):
        served(address, "other", tiny_spec()).infer(inputs)
    with pytest.raises(EngineError, match="no answer"):
        served("http://127.0.0.1:9", "afsd_network", tiny_spec()).infer(inputs)
