"""ONNX Runtime on a GPU, on a double that takes the CPU's part: exactly what was asked for, or one line."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from runtime.engines import open_engine
from runtime.errors import EngineError
from tests.tiny import CROP, LENGTH, forward, write_tiny_onnx

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


class FakeOnnxRuntime:
    """The module `onnxruntime` of a machine with a GPU: sessions of the real one, with other providers' names."""

    __version__ = "1.31.0"

    def __init__(self, started: tuple[str, ...] = (TENSORRT, CUDA), strays: tuple[str, ...] = ()) -> None:
        module = self
        self.providers: list[Any] = []
        self.config: dict[str, str] = {}
        self.fallback: Any = None
        self.available = [TENSORRT, CUDA, CPU]

        class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
            def __init__(self, path: str, settings: Any, providers: list[Any], enable_fallback: int) -> None:
                module.providers, module.fallback = providers, enable_fallback
                module.config = dict(settings.entries)
                super().__init__(path, settings.real, providers=[CPU], enable_fallback=enable_fallback)

            def get_providers(self) -> list[str]:
                return [name for name, _ in module.providers if name in started] + [CPU]

            def get_provider_graph_assignment_info(self) -> list[Any]:
                """What the real session recorded, under the name of the first provider; strays on the CPU."""
                first = module.providers[0][0]
                return [
                    SimpleNamespace(
                        ep_name=CPU if node.op_type in strays else first, get_nodes=lambda node=node: [node]
                    )
                    for part in super().get_provider_graph_assignment_info()
                    for node in part.get_nodes()
                ]

        self.InferenceSession = Session

    def SessionOptions(self) -> Any:  # noqa: N802 - the library's name
        real = onnxruntime.SessionOptions()
        entries: list[tuple[str, str]] = []

        def add(key: str, value: str) -> None:
            entries.append((key, value))
            real.add_session_config_entry(key, value)

        return SimpleNamespace(real=real, entries=entries, add_session_config_entry=add)

    def get_available_providers(self) -> list[str]:
        return self.available


def open_with(fake: FakeOnnxRuntime, path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)  # type: ignore[arg-type]
    return open_engine(write_tiny_onnx(path / "tiny.onnx", None), **options)


@pytest.mark.parametrize(
    ("options", "names", "device"),
    [
        ({"device": "cuda:1"}, [CUDA], "cuda:1 (cuda)"),
        ({"provider": "cuda"}, [CUDA], "cuda:0 (cuda)"),
        ({"provider": "tensorrt", "device": "gpu:2"}, [TENSORRT, CUDA], "cuda:2 (tensorrt)"),
        ({}, [CPU], "cpu"),
    ],
)
def test_the_provider_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], names: list[str], device: str
) -> None:
    fake = FakeOnnxRuntime(strays=("Reshape", "Unsqueeze"))
    engine = open_with(fake, tmp_path, monkeypatch, **options) if names != [CPU] else None
    if engine is None:
        fake = FakeOnnxRuntime(started=(CPU,))
        engine = open_with(fake, tmp_path, monkeypatch)
    assert engine.device == device
    assert [name for name, _ in fake.providers] == names
    assert fake.fallback == 0
    index = device.partition(":")[2].partition(" ")[0]
    assert all(arguments == ({"device_id": index} if index else {}) for _, arguments in fake.providers)
    frames = np.random.default_rng(0).integers(0, 256, (2, LENGTH, *CROP, 3), dtype=np.uint8)
    given = {"frames": frames, "lengths": np.array([16, 3], np.int32)}
    np.testing.assert_allclose(engine.infer(given)["conf"], forward(**given)["conf"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fake", "provider", "message"),
    [
        (FakeOnnxRuntime(started=()), "cuda", f"could not start {CUDA} and would run elsewhere"),
        (FakeOnnxRuntime(started=(CUDA,)), "tensorrt", f"could not start {TENSORRT} and would run elsewhere"),
        (
            FakeOnnxRuntime(strays=("MatMul", "Reshape")),
            "cuda",
            f"would run MatMul on the CPU, {CUDA} does not support",
        ),
    ],
)
def test_no_silent_fall_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeOnnxRuntime, provider: str, message: str
) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        open_with(fake, tmp_path, monkeypatch, provider=provider)
    assert "\n" not in str(caught.value)


def test_older_releases_forbid_the_cpu_altogether(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeOnnxRuntime()
    del fake.InferenceSession.get_provider_graph_assignment_info
    monkeypatch.delattr(onnxruntime.InferenceSession.__mro__[1], "get_provider_graph_assignment_info")
    with pytest.raises(EngineError, match="ONNX Runtime cannot load it") as caught:
        open_with(fake, tmp_path, monkeypatch, provider="cuda")
    assert fake.config == {"session.disable_cpu_ep_fallback": "1"}
    assert "\n" not in str(caught.value)  # the real library refuses, since the double's session is on the CPU


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_the_cpu_build_says_what_to_install(tmp_path: Path, provider: Any) -> None:
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is installed")
    with pytest.raises(EngineError, match=r"'gpu:0': this onnxruntime .* has no .*; pip uninstall onnxruntime, then"):
        open_engine(write_tiny_onnx(tmp_path / "tiny.onnx", None), provider=provider)
