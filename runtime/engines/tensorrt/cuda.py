"""Wrap the part of CUDA that an engine needs: one device, its memory, streams, events and graphs; checks every status.

The wrapped module `cuda.bindings.runtime` (package cuda-bindings) is imported only when a device is opened.
"""

from __future__ import annotations

import ctypes
import importlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.sizes import memory_size
from runtime.errors import EngineError, import_failure

BINDINGS = "cuda.bindings.runtime"

INSUFFICIENT_DRIVER = "cudaErrorInsufficientDriver"
"""Status of the CUDA runtime without a driver, and with a driver that is too old."""


@dataclass(frozen=True)
class DeviceFacts:
    """Identifies a GPU."""

    index: int
    name: str
    architecture: str
    """Compute capability, as in "8.6"."""

    def __str__(self) -> str:
        return f"cuda:{self.index} ({self.name})"


def load_bindings(extra: str, purpose: str) -> Any:
    """Import the module `cuda.bindings.runtime`.

    Raises:
        MissingDependencyError: the module is not installed; the error names the extra.
    """
    try:
        return importlib.import_module(BINDINGS)
    except ImportError as error:
        raise import_failure(error, "cuda-bindings", extra, purpose) from None


def check(api: Any, result: tuple[Any, ...], what: str) -> Any:
    """Return the value of a CUDA call, whose result is (status, value…).

    Raises:
        EngineError: the status is not success.
    """
    status = result[0]
    if status != api.cudaError_t.cudaSuccess:
        _, reason = api.cudaGetErrorString(status)
        text = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise EngineError(f"{what}: CUDA reports {status.name} ({text}); check that the GPU is free and works")
    return result[1] if len(result) > 1 else None


def device_count(api: Any) -> int:
    """Return the number of CUDA devices, at least 1.

    Raises:
        EngineError: there is no driver, or no device.
    """
    status, count = api.cudaGetDeviceCount()
    if status.name == INSUFFICIENT_DRIVER:
        raise EngineError(
            "no NVIDIA driver that this CUDA can use was found (cudaErrorInsufficientDriver); "
            "install or update the driver on a machine with an NVIDIA GPU, or use an .onnx or OpenVINO .xml file"
        )
    if status.name == "cudaErrorNoDevice" or (status == api.cudaError_t.cudaSuccess and not count):
        raise EngineError(
            "the NVIDIA driver finds no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES, "
            "or use an .onnx or OpenVINO .xml file"
        )
    check(api, (status, count), "counting GPUs")
    return int(count)


def device_facts(api: Any, index: int) -> DeviceFacts:
    """Return the name and architecture of one device.

    Raises:
        EngineError: no driver, no GPU, or no GPU of this index.
    """
    count = device_count(api)
    if index >= count:
        raise EngineError(f"device 'gpu:{index}': this machine has {count} GPU(s); use gpu:0 … gpu:{count - 1}")
    properties = check(api, api.cudaGetDeviceProperties(index), f"asking for GPU {index}")
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    return DeviceFacts(index, name.rstrip("\0"), f"{properties.major}.{properties.minor}")


class CudaDevice:
    """Owns everything made on one GPU; `close` waits for the GPU's work and frees all, in reverse order.

    Streams, events and device addresses are the bindings' own handles; copies are asynchronous.
    """

    def __init__(self, api: Any, index: int) -> None:
        """Select the device.

        Raises:
            EngineError: see `device_facts`.
        """
        self.api = api
        self.facts = device_facts(api, index)
        self._release: list[tuple[Callable[[Any], object], Any]] = []
        """Functions that free, each with its handle; they hold no reference to this object, so it can be collected."""
        self._close = weakref.finalize(self, _free_all, api, index, self._release)
        self._close.atexit = False  # the driver frees all with the process, and may be gone already
        self.use()

    def use(self) -> None:
        """Make this GPU the current device of the calling thread."""
        self._done(self.api.cudaSetDevice(self.facts.index), "choosing the GPU")

    def stream(self) -> Any:
        """Make a stream that does not wait for the default stream."""
        made = self._done(self.api.cudaStreamCreateWithFlags(self.api.cudaStreamNonBlocking), "making a stream")
        self._release.append((self.api.cudaStreamDestroy, made))
        return made

    def event(self) -> Any:
        """Make an event without timing."""
        made = self._done(self.api.cudaEventCreateWithFlags(self.api.cudaEventDisableTiming), "making an event")
        self._release.append((self.api.cudaEventDestroy, made))
        return made

    def device_memory(self, size: int) -> int:
        """Allocate `size` bytes on the device and return their address."""
        address = int(self._done(self.api.cudaMalloc(size), f"allocating {memory_size(size)} on the GPU"))
        self._release.append((self.api.cudaFree, address))
        return address

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Allocate `size` bytes of page-locked host memory, from which copies run concurrently with other work.

        `close` frees the memory, so no view of it may be handed out.
        """
        address = int(self._done(self.api.cudaMallocHost(size), f"pinning {memory_size(size)} of host memory"))
        self._release.append((self.api.cudaFreeHost, address))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def place(self, array: NDArray[Any]) -> int:
        """Copy a C-contiguous array to new device memory, wait for the copy, and return the address."""
        address = self.device_memory(array.nbytes)
        kind = self.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._done(self.api.cudaMemcpy(address, array.ctypes.data, array.nbytes, kind), "copying to the GPU")
        # The call returns when the host may reuse its memory; other streams do not wait for the rest of the copy.
        self._done(self.api.cudaDeviceSynchronize(), "copying to the GPU")
        return address

    def upload(self, address: int, array: NDArray[Any], stream: Any) -> None:
        """Copy a pinned C-contiguous array to the device."""
        kind = self.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._done(
            self.api.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, stream), "copying to the GPU"
        )

    def download(self, array: NDArray[Any], address: int, stream: Any) -> None:
        """Copy from the device into a pinned C-contiguous array."""
        kind = self.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._done(
            self.api.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, stream), "copying from the GPU"
        )

    def copy(self, target: int, origin: int, size: int, stream: Any) -> None:
        """Copy `size` bytes within the device."""
        kind = self.api.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._done(self.api.cudaMemcpyAsync(target, origin, size, kind, stream), "copying on the GPU")

    def record(self, event: Any, stream: Any) -> None:
        """Mark the work given to the stream so far with the event."""
        self._done(self.api.cudaEventRecord(event, stream), "recording an event")

    def wait(self, stream: Any, event: Any) -> None:
        """Make all later work of the stream wait for the event; the host does not wait."""
        self._done(self.api.cudaStreamWaitEvent(stream, event, 0), "ordering two streams")

    def wait_for(self, event: Any) -> None:
        """Wait on the host until the work that the event marks is done, and raise the errors of that work."""
        self._done(self.api.cudaEventSynchronize(event), "the GPU's work")

    def wait_for_stream(self, stream: Any) -> None:
        """Wait on the host until all work of the stream is done."""
        self._done(self.api.cudaStreamSynchronize(stream), "the GPU's work")

    def drain(self) -> None:
        """Wait on the host for all work on the device, and ignore errors."""
        self.api.cudaDeviceSynchronize()

    @contextmanager
    def capture(self, stream: Any) -> Iterator[list[Any]]:
        """Record the block's work on the stream instead of running it; the list then holds the executable graph.

        Other threads may use CUDA meanwhile. Free the graph with `free_graph`.
        """
        graphs: list[Any] = []
        mode = self.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._done(self.api.cudaStreamBeginCapture(stream, mode), "beginning a CUDA graph")
        try:
            yield graphs
        except BaseException:
            with suppress(EngineError):  # the block's own error says more
                graph = self._done(self.api.cudaStreamEndCapture(stream), "ending a CUDA graph")
                self.api.cudaGraphDestroy(graph)
            raise
        graph = self._done(self.api.cudaStreamEndCapture(stream), "ending a CUDA graph")
        try:
            graphs.append(self._done(self.api.cudaGraphInstantiate(graph, 0), "making a CUDA graph"))
        finally:
            self.api.cudaGraphDestroy(graph)

    def launch(self, graph: Any, stream: Any) -> None:
        """Run a captured graph."""
        self._done(self.api.cudaGraphLaunch(graph, stream), "running a CUDA graph")

    def free_graph(self, graph: Any) -> None:
        """Free a captured graph that is not running; do nothing on a lost device."""
        self.api.cudaGraphExecDestroy(graph)

    def find_device(self, address: int) -> int | None:
        """Return the index of the device whose memory holds the address; None for memory of no device."""
        found = self._done(self.api.cudaPointerGetAttributes(address), "asking for an array's device")
        kinds = self.api.cudaMemoryType
        return int(found.device) if found.type in (kinds.cudaMemoryTypeDevice, kinds.cudaMemoryTypeManaged) else None

    def close(self) -> None:
        """Wait for all work and free everything; safe to call more than once.

        Errors are ignored: every call to a lost device fails, and the host memory must be freed all the same.
        """
        self._close()

    def handle(self, stream: int) -> Any:
        """Return the bindings' handle of a stream given by its address (1: the default stream, 2: the thread's)."""
        return self.api.cudaStream_t(stream)

    def _done(self, result: tuple[Any, ...], what: str) -> Any:
        return check(self.api, result, f"{self.facts}, {what}")


def _free_all(api: Any, index: int, release: list[tuple[Callable[[Any], object], Any]]) -> None:
    """Wait for all work, then free in reverse order; statuses are ignored."""
    api.cudaSetDevice(index)
    api.cudaDeviceSynchronize()
    while release:
        free, handle = release.pop()
        free(handle)
