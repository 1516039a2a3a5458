"""The TensorRT engine on doubles of CUDA and TensorRT: numbers, order, memory, and every message."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.detector import Detector, DetectorOptions
from runtime.engines import Engine, open_engine
from runtime.engines.pipeline import OverlappingEngine, infer_in_turn
from runtime.engines.sidecar import sidecar_path
from runtime.engines.tensorrt.cuda import BINDINGS
from runtime.engines.tensorrt.engine import TensorRtEngine
from runtime.errors import AfsdError, EngineError, InputError, MissingDependencyError, SpecError
from runtime.two_streams import TwoStreamEngine
from tests.fake_cuda import FakeCuda, Memory, Operation, Status, write
from tests.fake_tensorrt import DataType, FakeTensorRt, TensorIOMode, installed, tensors_of, write_tiny_plan
from tests.fake_tensorrt import Engine as FakeEngine
from tests.real_tensorrt import build_tiny
from tests.tiny import CROP, LENGTH, TinyEngine, forward, tiny_spec

UPLOADS, COMPUTE, DOWNLOADS = 2, 3, 4
"""Numbers that the double gives the engine's streams."""

ORDERS: list[tuple[str | int, tuple[int, ...]]] = [
    ("lazy", ()), ("eager", (UPLOADS,)), ("eager", (DOWNLOADS, COMPUTE)), *((seed, ()) for seed in range(20)),
]  # fmt: skip

Install = Callable[..., FakeCuda]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    yield from installed(monkeypatch)


def inputs(batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "frames": rng.integers(0, 256, (batch, LENGTH, *CROP, 3), dtype=np.uint8),
        "lengths": rng.integers(1, LENGTH + 1, batch).astype(np.int32),
    }


def opened(path: Path, **options: Any) -> TensorRtEngine:
    engine = open_engine(path, **options)
    assert isinstance(engine, TensorRtEngine)
    return engine


def assert_forward(outputs: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> None:
    for name, value in forward(**given).items():
        assert outputs[name].dtype == np.float32
        np.testing.assert_array_equal(outputs[name], value, err_msg=name)


def run_series(engine: Engine, count: int = 8) -> None:
    """Batches of changing sizes in turn; every output must be that of its own input, also when all are done."""
    given = [inputs((1, 1, 1, 3, 3, 2, 1, 1)[k % 8], seed=k) for k in range(count)]
    kept = list(infer_in_turn(engine, iter([(k, g) for k, g in enumerate(given)])))
    assert [key for key, _ in kept] == list(range(count))
    for key, outputs in kept:
        assert_forward(outputs, given[key])


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(("order", "favour"), ORDERS)
def test_engine_equals_the_network(
    install: Install, tmp_path: Path, order: str | int, favour: tuple[int, ...], graph: bool
) -> None:
    install(order, favour)
    engine = opened(write_tiny_plan(tmp_path / "tiny.engine"), cuda_graph=graph)
    assert isinstance(engine, Engine)
    assert isinstance(engine, OverlappingEngine)
    assert (engine.device, engine.library, engine.precision) == ("cuda:0 (Fake RTX)", "tensorrt 11.4.0", "fp16")
    for batch in (1, 3, 1, 1):
        assert_forward(engine.infer(inputs(batch)), inputs(batch))
    run_series(engine, 16)
    engine.close()


def test_host_and_gpu_work_at_once(install: Install, tmp_path: Path) -> None:
    cuda = install("lazy")
    engine = opened(write_tiny_plan(tmp_path / "tiny.engine"))
    first, second = engine.submit(inputs(1, 1)), engine.submit(inputs(1, 2))
    assert cuda.ran == 0  # nothing was waited for
    with pytest.raises(EngineError, match="2 batches are in flight; collect one"):
        engine.submit(inputs(1))
    assert_forward(engine.collect(second), inputs(1, 2))
    assert_forward(engine.collect(first), inputs(1, 1))
    with pytest.raises(EngineError, match="was collected before"):
        engine.collect(first)
    allocated = len(cuda.memory)
    run_series(engine)
    assert len(cuda.memory) == allocated
    engine.close()


@pytest.mark.parametrize("mutation", ["ignore_waits", "ignore_synchronize"])
def test_a_missing_wait_is_seen(install: Install, tmp_path: Path, mutation: str) -> None:
    """The double itself: without the waits the same series gives wrong numbers, so the tests above can fail."""
    wrong = orders_gone_wrong(install, tmp_path, lambda cuda: setattr(cuda, mutation, True))
    assert wrong >= len(ORDERS) // 2


def orders_gone_wrong(install: Install, tmp_path: Path, spoil: Callable[[Any], None]) -> int:
    """In how many orders of the deferred work a series gives wrong numbers on a spoilt double."""
    wrong = 0
    for order, favour in ORDERS:
        cuda = install(order, favour)
        engine = opened(write_tiny_plan(tmp_path / "tiny.engine"))
        spoil(cuda)
        try:
            run_series(engine)
        except AssertionError:
            wrong += 1
        engine.close()
        cuda.violations.clear()
    return wrong


def test_each_wait_between_streams_is_needed(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away one of the two waits of `submit` at a time."""
    for dropped in (0, 1):

        def spoil(cuda: Any, dropped: int = dropped) -> None:
            real, count = cuda.cudaStreamWaitEvent, iter(range(10**6))

            def wait(*arguments: Any) -> Any:
                return (Status.cudaSuccess,) if next(count) % 2 == dropped else real(*arguments)

            monkeypatch.setattr(cuda, "cudaStreamWaitEvent", wait)

        assert orders_gone_wrong(install, tmp_path, spoil) > 3


def test_graphs_are_captured_once_per_slot_and_shape(install: Install, tmp_path: Path) -> None:
    cuda = install("lazy")
    engine = opened(write_tiny_plan(tmp_path / "tiny.engine"), cuda_graph=True)
    for _ in range(5):
        assert_forward(engine.infer(inputs(2)), inputs(2))
    assert (cuda.calls["cudaGraphInstantiate"], cuda.calls["cudaGraphLaunch"]) == (1, 4)
    engine.infer(inputs(1))
    assert (cuda.calls["cudaGraphInstantiate"], cuda.calls["cudaGraphLaunch"]) == (1, 4)
    for k in range(3):
        assert_forward(engine.infer(inputs(2, k)), inputs(2, k))
    assert (cuda.calls["cudaGraphInstantiate"], cuda.calls["cudaGraphLaunch"]) == (2, 6)
    engine.close()


def test_rtx_compiles_before_it_is_captured(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeTensorRt(install(), "1.7.1.116")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", library)  # type: ignore[arg-type]
    path = write_tiny_plan(tmp_path / "tiny.engine", library="tensorrt-rtx", version="1.7.1.116")
    for graph in (False, True):
        engine = opened(path, cuda_graph=graph)
        assert engine.library == "tensorrt-rtx 1.7.1"
        assert library.engines[-1].eager == graph
        run_series(engine)
        engine.close()


class OnGpu:
    """An array in the double's device memory, as pycuda or torch would offer it."""

    def __init__(self, cuda: FakeCuda, array: np.ndarray, offset: int = 0, late: bool = False, **changes: Any) -> None:
        _, self.start = cuda.cudaMalloc(array.nbytes + offset)
        assert self.start is not None
        address = self.start + offset
        if late:  # another stream writes it, some time
            _, stream = cuda.cudaStreamCreateWithFlags(1)
            cuda.enqueue(stream, Operation(lambda: write(address, array)))
            changes["stream"] = int(stream)  # type: ignore[call-overload]
            self.stream = stream
        else:
            write(address, array)
        interface = {"shape": array.shape, "typestr": array.dtype.str, "data": (address, False), "version": 3}
        self.__cuda_array_interface__ = interface | changes

    def free(self, cuda: FakeCuda) -> None:
        cuda.cudaFree(self.start)  # type: ignore[arg-type]
        if hasattr(self, "stream"):
            cuda.cudaStreamDestroy(self.stream)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("offset", [0, 4])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("order", ["lazy", 1, 2, 3])
def test_arrays_on_the_gpu(
    install: Install, tmp_path: Path, order: str | int, late: bool, offset: int, graph: bool
) -> None:
    cuda = install(order)
    engine = opened(write_tiny_plan(tmp_path / "tiny.engine"), cuda_graph=graph)
    for k in range(4):
        given = inputs(2, k)
        array = OnGpu(cuda, given["frames"], offset, late)
        copies = cuda.calls.get("cudaMemcpyAsync", 0)
        assert_forward(engine.infer({"frames": array, "lengths": given["lengths"]}), given)
        moved = offset != 0 or graph
        assert cuda.calls["cudaMemcpyAsync"] - copies == 1 + moved + len(tiny_spec().outputs)
        array.free(cuda)
    engine.close()


def test_resident_inputs_are_used_again_and_again(install: Install, tmp_path: Path) -> None:
    cuda = install("lazy")
    engine = opened(write_tiny_plan(tmp_path / "tiny.engine"))
    held = engine.copy_to_device(inputs(2))
    before = cuda.calls.get("cudaMemcpyAsync", 0)
    for _ in range(3):
        assert_forward(engine.infer(held), inputs(2))
    assert cuda.calls["cudaMemcpyAsync"] - before == 3 * len(tiny_spec().outputs)
    engine.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"typestr": "<f4"}, "'frames': got float32, expected an array of uint8"),
        ({"shape": (1, LENGTH, *CROP, 2)}, r"got shape \[1, 16, 8, 10, 2\]"),
        ({"strides": (1, 1, 1, 1, 1)}, r"has strides \(1, 1, 1, 1, 1\); expected a C-contiguous array"),
        ({"mask": object()}, "has a mask"),
        ({"stream": 0}, "has stream 0; expected None, 1, 2"),
        ({"data": None}, "is malformed"),
        ({"data": (64, False)}, "got memory that is not a GPU's, expected an array on cuda:0"),
    ],
)
def test_gpu_arrays_that_do_not_fit(install: Install, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    cuda = install()
    engine = opened(write_tiny_plan(tmp_path / "tiny.engine"))
    array = OnGpu(cuda, inputs(1)["frames"], **changes)
    with pytest.raises(InputError, match=message):
        engine.infer({"frames": array, "lengths": inputs(1)["lengths"]})
    array.free(cuda)
    engine.close()


def test_an_array_on_another_gpu(install: Install, tmp_path: Path) -> None:
    cuda = install(gpus=(("A", 8, 6), ("B", 8, 6)))
    engine = opened(write_tiny_plan(tmp_path / "tiny.engine"), device="gpu:1")
    assert engine.device == "cuda:1 (B)"
    cuda.current = 0
    array = OnGpu(cuda, inputs(1)["frames"])
    with pytest.raises(InputError, match="got memory of cuda:0, expected an array on cuda:1"):
        engine.infer({"frames": array, "lengths": inputs(1)["lengths"]})
    assert_forward(engine.infer(inputs(1)), inputs(1))
    assert {device for kind, _, device in cuda.memory.values() if kind == Memory.cudaMemoryTypeHost} == {1}
    array.free(cuda)
    engine.close()


def test_batch_outside_the_profile_before_any_work(install: Install, tmp_path: Path) -> None:
    cuda = install()
    engine = opened(write_tiny_plan(tmp_path / "tiny.engine", batch=(2, 2, 3)))
    calls = dict(cuda.calls)
    for batch in (1, 4):
        with pytest.raises(InputError, match=rf"batch: got {batch} windows, the engine tiny.engine takes 2 … 3"):
            engine.infer(inputs(batch))
    assert cuda.calls == calls
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(inputs(2))
    with pytest.raises(EngineError, match="closed"):
        engine.copy_to_device(inputs(2))
    engine.close()


CUDA_CALLS = (
    "cudaMalloc", "cudaMallocHost", "cudaStreamCreateWithFlags", "cudaEventCreateWithFlags", "cudaMemcpyAsync",
    "cudaEventRecord", "cudaStreamWaitEvent", "cudaEventSynchronize", "cudaGraphInstantiate", "cudaGraphLaunch",
    "cudaStreamEndCapture",
)  # fmt: skip


@pytest.mark.parametrize("after", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("call", CUDA_CALLS)
def test_nothing_leaks_when_a_call_fails(install: Install, tmp_path: Path, call: str, after: int) -> None:
    cuda = install(4)
    cuda.fail[call] = after
    path = write_tiny_plan(tmp_path / "tiny.engine")
    engine: TensorRtEngine | None = None
    failure: AfsdError | None = None
    try:
        engine = opened(path, cuda_graph=True)
        run_series(engine, 16)
        for k in range(4):
            engine.infer(inputs(1, k))
    except AfsdError as error:
        failure = error
    if engine is None:
        assert not cuda.memory
    else:
        cuda.fail.clear()  # the engine is usable again after a call that failed
        assert_forward(engine.infer(inputs(1, 7)), inputs(1, 7))
        engine.close()
    if cuda.calls.get(call, 0) > after:
        assert failure is not None
        assert "cuda:0 (Fake RTX), " in str(failure)
        assert "CUDA reports cudaError" in str(failure)
        assert "\n" not in str(failure)


def test_an_engine_that_is_forgotten_frees_its_memory(install: Install, tmp_path: Path) -> None:
    cuda = install()
    engine = opened(write_tiny_plan(tmp_path / "tiny.engine"))
    engine.infer(inputs(1))
    assert cuda.memory
    del engine
    assert not cuda.memory


def test_refusals_of_the_library_carry_its_reason(install: Install, tmp_path: Path) -> None:
    install()
    engine = opened(write_tiny_plan(tmp_path / "tiny.engine"))
    engine._plan.engine.refuse = True  # type: ignore[union-attr]
    with pytest.raises(EngineError, match="TensorRT refused the run: enqueue refused"):
        engine.infer(inputs(1))
    engine.close()


def test_the_detector_gives_the_same_on_both(install: Install, tmp_path: Path) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (203, *CROP, 3), dtype=np.uint8)
    expected = Detector(TinyEngine()).run(frames)
    assert len(expected) > 10
    for order, favour in ORDERS[:8]:
        install(order, favour)
        path = write_tiny_plan(tmp_path / "tiny.engine")
        for batch in (1, 2):
            with Detector(path, options=DetectorOptions(batch_size=batch)) as detector:
                found = detector.run(frames)
                parts = list(detector.stream(frames))
                next(detector.stream(frames))  # left in the middle: the engine is free again
                again = detector.run(frames)
                assert detector.timing.windows == 25
            for other in (found, again, type(found).concatenate(parts)):
                np.testing.assert_array_equal(other.segments, expected.segments)
                np.testing.assert_array_equal(other.scores, expected.scores)


def test_two_streams_overlap(install: Install, tmp_path: Path) -> None:
    cuda = install("lazy")
    rgb = opened(write_tiny_plan(tmp_path / "rgb.engine"))
    flow = opened(write_tiny_plan(tmp_path / "flow.engine", tiny_spec("flow")))
    pair = TwoStreamEngine(rgb, flow)
    plain = TwoStreamEngine(TinyEngine(), TinyEngine(tiny_spec("flow")))
    mixed = TwoStreamEngine(rgb, TinyEngine(tiny_spec("flow")))
    assert (pair.depth, plain.depth, mixed.depth) == (2, 1, 1)
    given = [{**inputs(1, k), "flow": inputs(1, k + 50)["frames"][..., :2]} for k in range(5)]
    for engine in (pair, mixed):
        for key, outputs in infer_in_turn(engine, iter(list(enumerate(given)))):
            for name, value in plain.infer(given[key]).items():
                np.testing.assert_array_equal(outputs[name], value)
    cuda.fail["cudaEventSynchronize"] = cuda.calls["cudaEventSynchronize"]
    with pytest.raises(EngineError):
        pair.infer(given[0])
    cuda.fail.clear()
    pair.infer(given[0])
    pair.close()


# --- what is refused at loading, in this order ---------------------------------------------------------------------


def test_files_are_verified_first(install: Install, tmp_path: Path) -> None:
    install(gpus=())
    path = write_tiny_plan(tmp_path / "tiny.engine")
    whole, sidecar = path.read_bytes(), sidecar_path(path).read_text()
    path.write_bytes(whole[:-10])
    with pytest.raises(
        SpecError, match=r"tiny\.engine: is damaged or was changed .* tiny\.json says .*; copy the model"
    ):
        open_engine(path)
    path.write_bytes(whole)
    content = json.loads(sidecar)
    for key, value, message in [
        ("build", None, "'build' does not fit a TensorRT engine"),
        ("build", {**content["build"], "batch": [3, 2, 1]}, "'build' does not fit a TensorRT engine"),
        ("spec", {**content["spec"], "window_length": -1}, "its ModelSpec does not fit"),
        ("build", {**content["build"], "precision": "int8"}, "edited after the build, its checksum does not fit"),
        ("build", {**content["build"], "architectures": ["8.6", "8.9"]}, "edited after the build"),
        ("spec", {**content["spec"], "window_stride": 4}, "edited after the build"),
        ("checksum", "", "edited after the build"),
        ("sha256", {}, "edited after the build"),
    ]:
        sidecar_path(path).write_text(json.dumps({**content, key: value}))
        with pytest.raises(SpecError, match=message):
            open_engine(path)
    sidecar_path(path).unlink()
    with pytest.raises(SpecError, match=r"its sidecar tiny\.json is missing"):
        open_engine(path)


@pytest.mark.parametrize(("library", "module"), [("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx")])
def test_missing_libraries_name_the_extra(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, module: str
) -> None:
    install()
    path = write_tiny_plan(tmp_path / "tiny.engine", library=library)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"needs {module}, which is not installed.*'\.\[{library}\]'"):
        open_engine(path)
    monkeypatch.setitem(sys.modules, module, FakeTensorRt(FakeCuda()))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, BINDINGS, None)
    with pytest.raises(MissingDependencyError, match=rf"needs cuda-bindings.*'\.\[{library}\]'"):
        open_engine(path)


@pytest.mark.parametrize(
    ("options", "build", "message"),
    [
        ({}, {"version": "10.9.0.34"}, r"built by tensorrt 10\.9\.0\.34, installed is 11\.4\.0\.106; build the engine"),
        ({"status": Status.cudaErrorInsufficientDriver}, {}, "no NVIDIA driver that this CUDA can use was found"),
        ({"status": Status.cudaErrorNoDevice}, {}, "the NVIDIA driver finds no GPU"),
        ({"gpus": ()}, {}, "the NVIDIA driver finds no GPU"),
        ({"gpus": (("Old", 7, 5),)}, {}, r"built for GPUs of architecture 8\.6, cuda:0 \(Old\) has 7\.5; build"),
        (
            {},
            {"plan": b"no plan"},
            r"tensorrt 11\.4\.0\.106 cannot load it: Error Code 1: Serialization \(magic",
        ),
    ],
)
def test_what_cannot_run_here(
    install: Install, tmp_path: Path, options: dict[str, Any], build: dict[str, Any], message: str
) -> None:
    install(**options)
    with pytest.raises(EngineError, match=message) as caught:
        open_engine(write_tiny_plan(tmp_path / "tiny.plan", **build))
    assert "\n" not in str(caught.value)


def test_devices_that_do_not_suit(install: Install, tmp_path: Path) -> None:
    install()
    path = write_tiny_plan(tmp_path / "tiny.engine")
    with pytest.raises(EngineError, match="runs on an NVIDIA GPU alone, got device 'cpu'"):
        open_engine(path, device="cpu")
    with pytest.raises(EngineError, match=r"device 'gpu:3': this machine has 1 GPU\(s\); use gpu:0"):
        open_engine(path, device="cuda:3")
    with pytest.raises(InputError, match="takes neither threads nor precision"):
        open_engine(path, threads=2)
    with pytest.raises(InputError, match=r"provider cuda: ONNX Runtime's, for \.onnx files"):
        open_engine(path, provider="cuda")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "frame"}, "its inputs are frame, lengths, its ModelSpec says frames, lengths"),
        ({"shape": [-1, 32, 8, 10, 3]}, r"input 'frames' is \[\?, 32, 8, 10, 3\]"),
        ({"dtype": "HALF"}, "'frames' is HALF, its ModelSpec says uint8"),
        ({"shape": [2, 16, 8, 10, 3]}, r"'frames' takes batches \(min, opt, max\) \(2, 2, 2\), its sidecar says"),
    ],
)
def test_tensors_that_do_not_fit(install: Install, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    install()
    tensors = tensors_of(tiny_spec())
    tensors[0] |= change
    plan = json.dumps({"tensors": tensors, "batch": [1, 1, 3]}).encode()
    with pytest.raises(SpecError, match=message):
        open_engine(write_tiny_plan(tmp_path / "tiny.engine", plan=plan))


def test_a_library_that_is_broken(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.11: cannot open shared object file')\n")
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match=r"tensorrt is installed but does not load: libnvinfer\.so\.11: cannot open"):
        open_engine(write_tiny_plan(tmp_path / "tiny.engine"))


def test_the_real_library_refuses_in_one_line(install: Install, tmp_path: Path) -> None:
    """TensorRT for RTX itself on bytes that are no plan; the GPU is the double's."""
    library = pytest.importorskip("tensorrt_rtx")
    install()
    path = write_tiny_plan(
        tmp_path / "tiny.engine", plan=b"x" * 1000, library="tensorrt-rtx", version=library.__version__
    )
    with pytest.raises(EngineError, match=r"tensorrt-rtx .* cannot load it: .*Error Code") as caught:
        open_engine(path)
    assert "\n" not in str(caught.value)


def test_without_a_driver_the_real_bindings_say_so(tmp_path: Path) -> None:
    """Real cuda-bindings and TensorRT for RTX, on a machine without a driver."""
    library = pytest.importorskip("tensorrt_rtx")
    runtime = pytest.importorskip(BINDINGS)
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("this machine has an NVIDIA GPU")
    path = write_tiny_plan(tmp_path / "tiny.engine", library="tensorrt-rtx", version=library.__version__)
    with pytest.raises(EngineError, match="NVIDIA driver"):
        open_engine(path)


def test_a_real_plan_without_a_driver(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that TensorRT for RTX built here: all checks pass up to the GPU, which only the double claims to have."""
    runtime = pytest.importorskip(BINDINGS)
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("this machine has an NVIDIA GPU")
    path = build_tiny(tmp_path, "tensorrt-rtx", "8.6")
    with pytest.raises(EngineError, match="no NVIDIA driver that this CUDA can use was found"):
        open_engine(path)
    install()
    with pytest.raises(EngineError, match=r"tensorrt-rtx .* cannot load it: .*; build the engine again") as caught:
        open_engine(path)
    assert "\n" not in str(caught.value)


def test_the_doubles_use_the_library_s_names() -> None:
    """What the double offers, TensorRT for RTX has under the same names."""
    real = pytest.importorskip("tensorrt_rtx")
    pairs = [
        (real.IExecutionContext, ("set_input_shape", "set_tensor_address", "execute_async_v3")),
        (real.ICudaEngine, [name for name in vars(FakeEngine) if name.startswith(("get_", "num_", "create_"))]),
        (real.Runtime, ("deserialize_cuda_engine",)),
        (real.ILogger, ("INTERNAL_ERROR", "ERROR", "log")),
        (real.DataType, list(DataType.__members__)),
        (real.TensorIOMode, list(TensorIOMode.__members__)),
        (real.IRuntimeConfig, ("dynamic_shapes_kernel_specialization_strategy",)),
        (real.DynamicShapesKernelSpecializationStrategy, ("EAGER",)),
    ]
    assert [(kind.__name__, n) for kind, names in pairs for n in names if not hasattr(kind, n)] == []
    for kind, double in ((real.DataType, DataType), (real.TensorIOMode, TensorIOMode)):
        assert {n: int(getattr(kind, n)) for n in double.__members__} == {
            n: int(m) for n, m in double.__members__.items()
        }
