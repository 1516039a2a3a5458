"""Fixtures of the tests of streaming networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.to_onnx import export_onnx
from export.to_streaming import export_streaming
from tests.conftest import MadeOnce
from tests.export.streaming.small import Networks, save_sensitive


@pytest.fixture(scope="session")
def networks(made_once: MadeOnce) -> Networks:
    def fill(folder: Path) -> None:
        clip = export_onnx(save_sensitive(folder / "small.ckpt"), say=lambda _: None)
        for to in ("onnx", "openvino"):
            export_streaming(clip, to=to, say=lambda _: None)

    folder = made_once("streaming", fill)
    streams = {"onnx": folder / "small.stream.onnx", "openvino": folder / "small.stream.xml"}
    return Networks(folder / "small.ckpt", folder / "small.onnx", streams)
