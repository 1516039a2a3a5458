"""The layer over CUDA: reasons, statuses, and the double that other tests stand on."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runtime.engines.tensorrt.cuda import BINDINGS, CudaDevice, check, device_count, device_facts, load_bindings
from runtime.errors import EngineError, MissingDependencyError
from tests.fake_cuda import FakeCuda, Operation, Status, read


def test_the_bindings_are_named_with_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, BINDINGS, None)
    with pytest.raises(MissingDependencyError, match=r"a thing needs cuda-bindings.*pip install '\.\[tensorrt\]'"):
        load_bindings("tensorrt", "a thing")


def test_the_real_bindings_answer_as_the_double_does() -> None:
    """Every function and constant that the layer uses is there under that name; without a driver, the clear reason."""
    real = pytest.importorskip(BINDINGS)
    used = [name for name in dir(FakeCuda) if name.startswith("cuda")]
    assert not [name for name in used if not hasattr(real, name)]
    for kinds in ("cudaMemcpyKind", "cudaMemoryType", "cudaStreamCaptureMode"):
        fake = vars(getattr(FakeCuda, kinds))
        names = [name for name in fake if name.startswith("cudaM") or name.startswith("cudaS")]
        assert names
        assert not [name for name in names if not hasattr(getattr(real, kinds), name)]
    assert {status.name: int(status) for status in Status} == {
        s.name: int(getattr(real.cudaError_t, s.name)) for s in Status
    }
    if real.cudaGetDeviceCount()[0] == real.cudaError_t.cudaSuccess:
        pytest.skip("this machine has an NVIDIA GPU")
    with pytest.raises(EngineError, match="NVIDIA driver") as caught:
        device_count(real)
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineError, match=r"a buffer: CUDA reports cudaErrorInsufficientDriver \(CUDA driver version"):
        check(real, real.cudaMalloc(16), "a buffer")


def test_facts_of_a_device() -> None:
    api = FakeCuda(gpus=(("NVIDIA A\0", 8, 6), ("NVIDIA B", 12, 0)))
    assert device_count(api) == 2
    facts = device_facts(api, 1)
    assert (str(facts), facts.architecture) == ("cuda:1 (NVIDIA B)", "12.0")
    assert str(device_facts(api, 0)) == "cuda:0 (NVIDIA A)"
    with pytest.raises(EngineError, match=r"device 'gpu:2': this machine has 2 GPU\(s\)"):
        device_facts(api, 2)


def transfer(cuda: FakeCuda, wait: bool) -> bool:
    """Up on one stream, down on another; whether the numbers arrived."""
    device = CudaDevice(cuda, 0)
    up, down, there, back = device.stream(), device.stream(), device.event(), device.event()
    source, target, address = device.pinned(64), device.pinned(64), device.device_memory(64)
    source[:] = np.arange(64)
    device.upload(address, source, up)
    device.record(there, up)
    if wait:
        device.wait(down, there)
    device.download(target, address, down)
    device.record(back, down)
    device.wait_for(back)
    arrived = bool((target == np.arange(64)).all())
    device.close()
    device.close()
    assert not cuda.memory
    assert not cuda.live
    return arrived


@pytest.mark.parametrize("order", ["lazy", "eager", *range(10)])
def test_copies_are_ordered_by_events(order: Any) -> None:
    assert transfer(FakeCuda(order), wait=True)


def test_the_double_defers() -> None:
    """Without the wait the copy back is first, in the worst order; the double is no list of calls."""
    assert not transfer(FakeCuda("lazy"), wait=False)
    results = {transfer(FakeCuda(seed), wait=False) for seed in range(40)}
    assert results == {True, False}


def test_a_placed_array_is_there() -> None:
    cuda = FakeCuda("lazy")
    device = CudaDevice(cuda, 0)
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    address = device.place(array)
    array[:] = 0
    np.testing.assert_array_equal(read(address, (3, 4), np.int32), np.arange(12).reshape(3, 4))
    assert (device.find_device(address + 4), device.find_device(64)) == (0, None)
    device.close()


def test_a_forgotten_device_frees_all() -> None:
    cuda = FakeCuda("lazy")
    device = CudaDevice(cuda, 0)
    stream, memory = device.stream(), device.device_memory(8)
    cuda.enqueue(stream, Operation(lambda: None, touches=(memory,)))
    del device
    gc.collect()
    assert not cuda.memory
    assert not cuda.violations


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaMallocHost", "cudaStreamCreateWithFlags", "cudaEventRecord"])
def test_statuses_are_errors_of_one_line(call: str) -> None:
    cuda = FakeCuda("lazy")
    cuda.fail[call] = 0
    device = CudaDevice(cuda, 0)
    use: dict[str, Callable[[], object]] = {
        "cudaMalloc": lambda: device.device_memory(2**20),
        "cudaMallocHost": lambda: device.pinned(2**20),
        "cudaStreamCreateWithFlags": device.stream,
        "cudaEventRecord": lambda: device.record(device.event(), device.stream()),
    }
    with pytest.raises(
        EngineError, match=r"cuda:0 \(Fake RTX\), .*: CUDA reports cudaError\w+ \(\w+\); check"
    ) as caught:
        use[call]()
    assert "\n" not in str(caught.value)
    device.close()
    assert not cuda.live
