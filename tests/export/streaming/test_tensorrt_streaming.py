"""A streaming TensorRT engine on doubles of CUDA and TensorRT; ONNX Runtime runs its parts and judges it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.cli import main
from runtime.detector import Detector, DetectorOptions
from runtime.engines import open_engine
from runtime.engines.artifact import read_artifact
from runtime.engines.sidecar import read_sidecar, sidecar_path, write_sidecar
from runtime.engines.streaming import StreamingEngine
from runtime.engines.tensorrt.device_array import DeviceArray
from runtime.engines.tensorrt.streaming import TensorRtStreamingEngine
from runtime.errors import AfsdError, EngineError, InputError, SpecError
from tests.conftest import MadeOnce
from tests.export.streaming.small import Networks, fresh, noise, padded, require_apart, require_equal, stream_features
from tests.fake_cuda import FakeCuda, Status
from tests.fake_tensorrt import installed, write_streaming_plans
from tests.streaming import cut

ORDERS = ("lazy", "eager", 1, 2)
"""Orders of deferred work (`tests.fake_cuda`)."""

Install = Callable[..., FakeCuda]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    yield from installed(monkeypatch)


@pytest.fixture
def plans(networks: Networks, made_once: MadeOnce, tmp_path: Path) -> Path:
    """Plans of the small network, which the test may change."""
    made = made_once(
        "streaming-plans",
        lambda folder: write_streaming_plans(folder / "small.stream.engine", networks.streams["onnx"]) and None,
    )
    for name in ("small.stream.engine", "small.stream.json"):
        shutil.copyfile(made / name, tmp_path / name)
    return tmp_path / "small.stream.engine"


def first_step(engine: StreamingEngine, states: Any = None, seed: int = 0) -> Any:
    """Features and states of a chunk of 64 frames."""
    frames = noise(64 + engine.streaming.overlap, seed=seed)[None]
    return engine.step({"frames": frames}, engine.empty_states() if states is None else states, start=0)


@pytest.mark.parametrize(
    "order", [ORDERS[0], *(pytest.param(order, marks=pytest.mark.thorough) for order in ORDERS[1:])]
)
def test_features_are_those_of_the_onnx_file(
    networks: Networks, plans: Path, install: Install, order: str | int
) -> None:
    install(order)
    engine, judge = fresh(plans), fresh(networks.streams["onnx"])
    assert isinstance(engine, TensorRtStreamingEngine)
    assert (engine.device, engine.library, engine.precision) == ("cuda:0 (Fake RTX)", "tensorrt 11.4.0", "fp32")
    for frames, chunks in ((1, (16,)), (31, (8, 128)), (60, (16,)), (203, (8, 16, 64, 128))):
        video = noise(frames)
        for chunk in chunks:
            require_equal(stream_features(engine, video, chunk), stream_features(judge, video, chunk))
    engine.close()


def test_the_head_is_that_of_the_onnx_file(networks: Networks, plans: Path, install: Install) -> None:
    install()
    engine, judge = fresh(plans), fresh(networks.streams["onnx"])
    rng = np.random.default_rng(0)
    for batch in (1, 3, 1, 4):
        given = {
            f"level_{k}": rng.standard_normal((batch, 64, 32 // rate)).astype(np.float32)
            for k, rate in ((0, 4), (1, 8))
        }
        require_equal(engine.infer(given), judge.infer(given))
    with pytest.raises(InputError, match=r"batch: got 5 windows, the engine small\.stream\.engine takes 1 … 4"):
        engine.infer({name: np.zeros((5, *array.shape[1:]), np.float32) for name, array in given.items()})
    engine.close()


def test_detections_are_those_of_the_onnx_file(networks: Networks, plans: Path, install: Install) -> None:
    install(3)
    video, options = padded(noise(203)), DetectorOptions(stride=16, min_score=0.0, score_threshold=0.0, batch_size=3)
    expected = Detector(networks.streams["onnx"], options=options).run(video, fps=10.0)
    assert len(expected)
    with Detector(plans, options=options) as detector:
        found = detector.run(video, fps=10.0)
        pieces = [detector.run(cut(video, seed), fps=10.0) for seed in range(2)]
    np.testing.assert_allclose(found.segments, expected.segments, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(pieces[0].segments, pieces[1].segments)


def test_states_stay_on_the_gpu(plans: Path, install: Install) -> None:
    cuda = install()
    engine = fresh(plans)
    features, states = first_step(engine)
    assert all(isinstance(state, DeviceArray) for state in states.values())
    frames = {"frames": noise(64 + engine.streaming.overlap)[None]}
    before = cuda.calls["cudaMemcpyAsync"]
    engine.step(frames, states, start=64)
    assert cuda.calls["cudaMemcpyAsync"] - before == 1 + len(features)
    before = cuda.calls["cudaMemcpyAsync"]
    engine.step(frames, states, start=64, valid=100, end=104)
    assert cuda.calls["cudaMemcpyAsync"] - before == 1 + 3 + len(features)
    engine.close()


def test_a_state_is_the_callers(plans: Path, install: Install) -> None:
    """A step writes over no states that somebody holds: the same step gives the same again, and videos do not mix."""
    install(4)
    engine = fresh(plans)
    frames = {"frames": noise(64 + engine.streaming.overlap, seed=5)[None]}
    _, kept = first_step(engine)
    first, _ = engine.step(frames, kept, start=64)
    for _ in range(4):
        again, _ = engine.step(frames, kept, start=64)
        for name, value in first.items():
            np.testing.assert_array_equal(again[name], value)
    require_apart(engine)
    engine.close()


def test_memory_does_not_grow_with_the_video(plans: Path, install: Install) -> None:
    cuda = install()
    engine = fresh(plans)
    stream_features(engine, noise(100), 16)
    allocated = len(cuda.memory)
    stream_features(engine, noise(400), 16)
    assert len(cuda.memory) == allocated
    engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.empty_states()
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.infer({f"level_{k}": np.zeros((1, 64, 32 // rate), np.float32) for k, rate in ((0, 4), (1, 8))})


def test_a_forgotten_engine_frees_its_memory(plans: Path, install: Install) -> None:
    cuda = install()
    engine = fresh(plans)
    _, states = first_step(engine)
    del engine
    assert not cuda.memory
    assert states


def test_a_missing_wait_is_seen(
    networks: Networks, plans: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The double itself: without the wait the features are not there yet, so the tests above can fail."""
    cuda = install("lazy")
    engine = fresh(plans)
    expected, _ = first_step(fresh(networks.streams["onnx"]))
    monkeypatch.setattr(cuda, "cudaStreamSynchronize", lambda stream: (Status.cudaSuccess,))
    found, _ = first_step(engine)
    with pytest.raises(AssertionError):
        require_equal(found, expected)
    engine.close()


@pytest.mark.parametrize("after", [0, 2, 9])
@pytest.mark.parametrize(
    "call", ["cudaMalloc", "cudaMallocHost", "cudaStreamCreateWithFlags", "cudaMemcpyAsync", "cudaStreamSynchronize"]
)
def test_nothing_leaks_when_a_call_fails(plans: Path, install: Install, call: str, after: int) -> None:
    cuda = install(4)
    cuda.fail[call] = after
    engine: StreamingEngine | None = None
    failure: AfsdError | None = None
    try:
        engine = fresh(plans)
        stream_features(engine, noise(70), 8)
    except AfsdError as error:
        failure = error
    if engine is None:
        assert not cuda.memory
    called = cuda.calls.get(call, 0)
    if engine is not None:
        cuda.fail.clear()
        expected, _ = first_step(engine)  # usable again after a call that failed
        found, _ = first_step(engine)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
        engine.close()
    if called > after:
        assert failure is not None
        assert "CUDA reports cudaError" in str(failure)
        assert "\n" not in str(failure)


class TestMessages:
    def test_options_that_do_not_suit(self, plans: Path, install: Install) -> None:
        install()
        for options, error, words in (
            ({"cuda_graph": True}, InputError, "takes no cuda_graph, since its states move; leave it out"),
            ({"device": "cpu"}, EngineError, "runs on an NVIDIA GPU alone"),
            ({"threads": 2}, InputError, "takes neither threads nor precision"),
        ):
            with pytest.raises(error, match=words):
                open_engine(plans, **options)  # type: ignore[arg-type]

    def test_arrays_that_do_not_fit(self, plans: Path, install: Install, tmp_path: Path) -> None:
        install()
        engine, other = fresh(plans), fresh(plans)
        host = {f"state_{k}": np.zeros(s.shape, s.dtype) for k, s in enumerate(engine.streaming.states)}
        for states in (host, other.empty_states()):
            with pytest.raises(InputError, match="state_0: is not one that a step of this engine gave"):
                first_step(engine, states)
        frames = {"frames": noise(136 + engine.streaming.overlap)[None]}
        with pytest.raises(InputError, match=r"chunk: got 136 frames, the engine .* takes 8 … 128"):
            engine.step(frames, engine.empty_states(), start=64)
        first_step(engine)
        other.close()
        engine.close()

    def test_a_library_that_refuses(self, plans: Path, install: Install) -> None:
        install()
        engine = fresh(plans)
        assert isinstance(engine, TensorRtStreamingEngine)
        engine._parts["edge"]._plan.engine.refuse = True
        with pytest.raises(EngineError, match="TensorRT refused the run of the part edge: enqueue refused"):
            first_step(engine)
        engine.close()

    @pytest.mark.parametrize(
        ("part", "tensor", "change", "words"),
        [
            (0, 0, {"name": "steady/frame"}, "the inputs of its part steady differ from its ModelSpec in steady/frame"),
            (1, 0, {"shape": [1, -1, 30, 32, 3]}, r"edge/frames is \[1, None, 30, 32, 3\], its ModelSpec says"),
            (1, 4, {"dtype": "HALF"}, "edge/state_0' is HALF, its ModelSpec says float32"),
            (2, 0, {"shape": [-1, 64, 9]}, r"head/level_0 is \[None, 64, 9\]"),
        ],
    )
    def test_plans_that_do_not_fit(
        self, plans: Path, install: Install, part: int, tensor: int, change: dict[str, Any], words: str
    ) -> None:
        install()
        build = read_artifact(plans).build
        assert build is not None
        contents = read_plans(plans)
        contents[part]["tensors"][tensor] |= change
        rewrite(plans, contents)
        with pytest.raises(SpecError, match=words):
            open_engine(plans)

    def test_a_range_that_the_sidecar_does_not_say(self, plans: Path, install: Install) -> None:
        install()
        contents = read_plans(plans)
        contents[0]["profile"]["steady/frames"][2][1] -= 8
        rewrite(plans, contents)
        with pytest.raises(SpecError, match=r"steady/frames takes shapes .*, its sidecar says lengths \(8, 64, 128\)"):
            open_engine(plans)

    def test_a_file_that_is_cut_short(self, plans: Path, install: Install) -> None:
        install()
        plans.write_bytes(plans.read_bytes()[:-1])
        with pytest.raises(SpecError, match="is damaged or was changed after its export"):
            open_engine(plans)
        with pytest.raises(SpecError, match=r"has [0-9,]+ bytes, its parts have [0-9,]+; copy the model again"):
            open_engine(plans, verify=False)

    def test_a_sidecar_without_parts(self, plans: Path, install: Install) -> None:
        install()
        artifact = read_artifact(plans)
        assert artifact.build is not None
        write_sidecar(plans, artifact.spec, replace(artifact.build, parts=()))
        with pytest.raises(SpecError, match="describes a streaming network, but lists no parts"):
            open_engine(plans)
        content = json.loads(sidecar_path(plans).read_text())
        content["build"]["parts"] = [{"name": "head", "size": 1, "lengths": [1, 1, 1]}]
        sidecar_path(plans).write_text(json.dumps(content))
        with pytest.raises(SpecError, match="parts: expected steady, edge, head; build the engine again"):
            open_engine(plans)


def test_info_names_the_parts(plans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(plans), "--verify"]) == 0
    text = capsys.readouterr().out
    assert "each frame once, features 48 frames late" in text
    assert "name steady, size " in text
    assert main(["info", str(plans), "--json"]) == 0
    build = json.loads(capsys.readouterr().out)["build"]
    assert [part["name"] for part in build["parts"]] == ["steady", "edge", "head"]
    assert sum(part["size"] for part in build["parts"]) == plans.stat().st_size


def read_plans(path: Path) -> list[dict[str, Any]]:
    """The plans of a double's file, as JSON."""
    data, contents = path.read_bytes(), []
    build = read_artifact(path).build
    assert build is not None
    for part in build.parts:
        contents.append(json.loads(data[: part.size]))
        data = data[part.size :]
    return contents


def rewrite(path: Path, contents: list[dict[str, Any]]) -> None:
    """Write other plans with a sidecar that fits them."""
    sidecar = read_sidecar(sidecar_path(path))
    build, plans = sidecar.build(), [json.dumps(content).encode() for content in contents]
    path.write_bytes(b"".join(plans))
    parts = tuple(replace(part, size=len(plan)) for part, plan in zip(build.parts, plans, strict=True))
    write_sidecar(path, sidecar.spec, replace(build, parts=parts))
