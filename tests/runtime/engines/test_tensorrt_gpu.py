"""The same as `test_tensorrt_engine`, on a real GPU with the real libraries: `pytest -m gpu`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.benchmark.speed import run_benchmark
from runtime.detector import Detector, DetectorOptions
from runtime.engines import open_engine
from runtime.engines.pipeline import infer_in_turn
from runtime.engines.tensorrt.cuda import device_facts, load_bindings
from runtime.engines.tensorrt.engine import TensorRtEngine
from runtime.errors import AfsdError, InputError
from tests.real_tensorrt import build_tiny
from tests.tiny import CROP, LENGTH, TinyEngine, forward

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def plan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        gpu = device_facts(load_bindings(request.param, "this test"), 0)
    except AfsdError as error:
        pytest.skip(str(error))
    return build_tiny(tmp_path_factory.mktemp("plan"), request.param, gpu.architecture)


@pytest.fixture(params=[False, True], ids=["plain", "graph"])
def engine(plan: Path, request: pytest.FixtureRequest) -> Iterator[TensorRtEngine]:
    opened = open_engine(plan, cuda_graph=request.param)
    assert isinstance(opened, TensorRtEngine)
    yield opened
    opened.close()


def inputs(batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "frames": rng.integers(0, 256, (batch, LENGTH, *CROP, 3), dtype=np.uint8),
        "lengths": rng.integers(1, LENGTH + 1, batch).astype(np.int32),
    }


def assert_close(outputs: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> None:
    for name, value in forward(**given).items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-2, atol=1e-2, err_msg=name)  # TF32 may be used


def test_batches_in_turn(engine: TensorRtEngine) -> None:
    given = [inputs((1, 1, 1, 3, 3, 2, 1, 1)[k % 8], seed=k) for k in range(200)]
    kept = list(infer_in_turn(engine, iter([(k, g) for k, g in enumerate(given)])))
    for key, outputs in kept:
        assert_close(outputs, given[key])
    with pytest.raises(InputError, match="takes 1 … 3"):
        engine.infer(inputs(4))


def test_resident_inputs(engine: TensorRtEngine) -> None:
    held = engine.copy_to_device(inputs(3))
    for _ in range(5):
        assert_close(engine.infer(held), inputs(3))


def test_arrays_of_torch(engine: TensorRtEngine) -> None:
    torch: Any = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA here")
    with torch.cuda.stream(torch.cuda.Stream()):
        for k in range(20):
            given = inputs(2, k)
            frames = (torch.from_numpy(given["frames"].astype(np.int32)).cuda() + 0).to(torch.uint8)
            torch.cuda.current_stream().synchronize()
            assert_close(engine.infer({"frames": frames, "lengths": given["lengths"]}), given)


def test_the_detector(engine: TensorRtEngine) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (203, *CROP, 3), dtype=np.uint8)
    options = DetectorOptions(batch_size=2, min_score=0.3)
    expected = Detector(TinyEngine(), options=options).run(frames)
    found = Detector(engine, options=options).run(frames)
    assert abs(len(found) - len(expected)) <= len(expected) // 20


def test_the_benchmark(engine: TensorRtEngine) -> None:
    (measured,) = run_benchmark([("tiny", engine)], batches=(1,), runs=20).measurements
    assert measured.device.startswith("cuda:0 (")
    assert measured.resident_ms > 0


def test_memory_returns(plan: Path) -> None:
    api = load_bindings("tensorrt", "this test")
    free = []
    for _ in range(4):
        opened = open_engine(plan)
        opened.infer(inputs(3))
        opened.close()
        free.append(api.cudaMemGetInfo()[1])
    assert free[-1] >= free[0] - 2**20
