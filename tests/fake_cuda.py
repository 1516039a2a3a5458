# ruff: noqa: N802, N815 - the names are CUDA's
"""A double of `cuda.bindings.runtime` on host memory in which asynchronous work really is deferred.

Each stream is a queue of operations. Nothing runs when it is enqueued. What runs, and when, is decided by an order:

- "lazy": at a synchronisation only what it needs runs, as late as stream semantics permit;
- "eager": everything that may run does at once, the stream named first in `favour` ahead of the others;
- an int: after every call a random number of operations run, of random streams, from that seed.

So a missing wait gives stale or overwritten numbers in one of the orders. Device memory is host memory with addresses
that copies are checked against. `violations` holds what a real device would not forgive or not tell.
"""

from __future__ import annotations

import ctypes
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

Status = IntEnum(
    "Status",
    {
        "cudaSuccess": 0, "cudaErrorInvalidValue": 1, "cudaErrorMemoryAllocation": 2, "cudaErrorInsufficientDriver": 35,
        "cudaErrorNoDevice": 100, "cudaErrorInvalidDevice": 101, "cudaErrorLaunchFailure": 719,
        "cudaErrorStreamCaptureUnsupported": 900,
    },
)  # fmt: skip


class Copy(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class Memory(IntEnum):
    cudaMemoryTypeUnregistered = 0
    cudaMemoryTypeHost = 1
    cudaMemoryTypeDevice = 2
    cudaMemoryTypeManaged = 3


@dataclass(eq=False)
class Operation:
    """Work in a stream: runs when what it waits for is done."""

    run: Callable[[], None]
    waits: Operation | None = None
    touches: tuple[int, ...] = ()
    """Addresses it reads or writes."""
    done: bool = False


@dataclass(eq=False)
class Stream:
    number: int
    queue: deque[Operation] = field(default_factory=deque)
    captured: list[Operation] | None = None

    def __int__(self) -> int:
        return self.number


@dataclass
class Event:
    mark: Operation | None = None


@dataclass
class Graph:
    operations: list[Operation]


class FakeCuda:
    """Set it as sys.modules["cuda.bindings.runtime"]."""

    cudaError_t = Status
    cudaMemcpyKind = Copy
    cudaMemoryType = Memory
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaStreamNonBlocking = 1
    cudaEventDisableTiming = 2

    def __init__(
        self,
        order: str | int = "lazy",
        favour: tuple[int, ...] = (),
        gpus: tuple[tuple[str, int, int], ...] = (("Fake RTX", 8, 6),),
        status: Status = Status.cudaSuccess,
    ) -> None:
        self.order, self.favour, self.gpus, self.status = order, favour, gpus, status
        self.random = random.Random(order if isinstance(order, int) else 0)
        self.memory: dict[int, tuple[Memory, Any, int]] = {}
        """Live allocations: kind, buffer, device."""
        self.live: set[int] = set()
        """Identities of live streams, events and graphs."""
        self.streams: dict[int, Stream] = {1: Stream(1)}
        self.kept: list[Any] = []
        self.calls: dict[str, int] = {}
        self.fail: dict[str, int] = {}
        """Function → number of calls after which it fails."""
        self.violations: list[str] = []
        self.current = 0
        self.ran = 0
        self.ignore_waits = False
        """The mutation: cudaStreamWaitEvent does nothing."""
        self.ignore_synchronize = False
        """The mutation: cudaEventSynchronize returns at once."""

    # --- scheduling ---------------------------------------------------------------------------------------------

    def _step(self, stream: Stream) -> bool:
        """Run the head of a stream if it may run."""
        if not stream.queue:
            return False
        head = stream.queue[0]
        if head.waits is not None and not head.waits.done:
            return False
        stream.queue.popleft()
        for address in head.touches:
            if not self._inside(address, 1):
                self.violations.append("work on memory that was freed")
                head.done = True
                return True
        head.run()
        head.done = True
        self.ran += 1
        return True

    def _let_run(self) -> None:
        """What the order runs by itself after a call."""
        if self.order == "eager":
            ordered = sorted(self.streams.values(), key=lambda s: (s.number not in self.favour, s.number))
            while any(self._step(stream) for stream in ordered):
                pass
        elif isinstance(self.order, int):
            for _ in range(self.random.randrange(6)):
                self._step(self.random.choice(list(self.streams.values())))

    def _finish(self, operation: Operation) -> None:
        """Run what an operation needs and no more."""
        while not operation.done:
            stream = next(s for s in self.streams.values() if operation in s.queue)
            head = stream.queue[0]
            if head.waits is not None and not head.waits.done:
                self._finish(head.waits)
            self._step(stream)

    def enqueue(self, stream: Any, operation: Operation) -> Status:
        """Give a stream an operation; also how the fake TensorRT runs networks."""
        found = self.streams.get(int(stream))
        if found is None:
            return Status.cudaErrorInvalidValue
        if found.captured is not None:
            found.captured.append(operation)
        else:
            found.queue.append(operation)
            self._let_run()
        return Status.cudaSuccess

    def capturing(self, stream: Any) -> bool:
        return self.streams[int(stream)].captured is not None

    def _called(self, name: str) -> Status:
        self.calls[name] = self.calls.get(name, 0) + 1
        if name in self.fail and self.calls[name] > self.fail[name]:
            return Status.cudaErrorMemoryAllocation if "Malloc" in name else Status.cudaErrorLaunchFailure
        return Status.cudaSuccess

    # --- devices ------------------------------------------------------------------------------------------------

    def cudaGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return Status.cudaSuccess, status.name.removeprefix("cudaError").lower().encode()

    def cudaGetDeviceCount(self) -> tuple[Status, int | None]:
        return self.status, len(self.gpus) if self.status == 0 else None

    def cudaGetDeviceProperties(self, index: int) -> tuple[Status, Any]:
        name, major, minor = self.gpus[index]
        return Status.cudaSuccess, SimpleNamespace(name=name.encode(), major=major, minor=minor)

    def cudaSetDevice(self, index: int) -> tuple[Status]:
        self.current = index
        return (self._called("cudaSetDevice"),)

    def cudaDeviceSynchronize(self) -> tuple[Status]:
        for stream in self.streams.values():
            while stream.queue:
                self._finish(stream.queue[-1])
        return (self._called("cudaDeviceSynchronize"),)

    # --- memory -------------------------------------------------------------------------------------------------

    def _allocate(self, name: str, size: int, kind: Memory) -> tuple[Status, int | None]:
        status = self._called(name)
        if any(stream.captured is not None for stream in self.streams.values()):
            return Status.cudaErrorStreamCaptureUnsupported, None
        if status:
            return status, None
        buffer = (ctypes.c_uint8 * (size + 256))()
        address = -(-ctypes.addressof(buffer) // 256) * 256
        ctypes.memset(address, 0xA5, size)  # fresh memory is not zero
        self.memory[address] = kind, buffer, self.current
        return Status.cudaSuccess, address

    def cudaMalloc(self, size: int) -> tuple[Status, int | None]:
        return self._allocate("cudaMalloc", size, Memory.cudaMemoryTypeDevice)

    def cudaMallocHost(self, size: int) -> tuple[Status, int | None]:
        return self._allocate("cudaMallocHost", size, Memory.cudaMemoryTypeHost)

    def _free(self, address: int) -> tuple[Status]:
        if address not in self.memory:
            self.violations.append("freed twice")
            return (Status.cudaErrorInvalidValue,)
        if any(stream.queue for stream in self.streams.values()):
            self.violations.append("freed while work was in flight")
        self.kept.append(self.memory.pop(address)[1])
        return (Status.cudaSuccess,)

    cudaFree = cudaFreeHost = _free

    def _inside(self, address: int, size: int, kinds: tuple[Memory, ...] = tuple(Memory)) -> bool:
        return any(
            start <= address and address + size <= start + len(buffer) - 256 and kind in kinds
            for start, (kind, buffer, _) in self.memory.items()
        )

    def cudaPointerGetAttributes(self, address: int) -> tuple[Status, Any]:
        for start, (kind, buffer, device) in self.memory.items():
            if start <= address < start + len(buffer) - 256:
                return Status.cudaSuccess, SimpleNamespace(type=kind, device=device)
        return Status.cudaSuccess, SimpleNamespace(type=Memory.cudaMemoryTypeUnregistered, device=-1)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: Copy, stream: Any) -> tuple[Status]:
        status = self._called("cudaMemcpyAsync")
        device, host = (Memory.cudaMemoryTypeDevice,), (Memory.cudaMemoryTypeHost,)
        sides = {
            Copy.cudaMemcpyHostToDevice: (device, host), Copy.cudaMemcpyDeviceToHost: (host, device),
            Copy.cudaMemcpyDeviceToDevice: (device, device),
        }[kind]  # fmt: skip
        if status or not (self._inside(target, size, sides[0]) and self._inside(source, size, sides[1])):
            return (status or Status.cudaErrorInvalidValue,)
        copy = Operation(lambda: ctypes.memmove(target, source, size) and None, touches=(target, source))
        return (self.enqueue(stream, copy),)

    def cudaMemcpy(self, target: int, source: int, size: int, kind: Copy) -> tuple[Status]:
        """Of pageable memory: returns when it was read; the device's part is done in the default stream later."""
        if not self._inside(target, size, (Memory.cudaMemoryTypeDevice,)):
            return (Status.cudaErrorInvalidValue,)
        staged = ctypes.string_at(source, size)
        copy = Operation(lambda: ctypes.memmove(target, staged, size) and None, touches=(target,))
        return (self._called("cudaMemcpy") or self.enqueue(1, copy),)

    # --- streams, events, graphs --------------------------------------------------------------------------------

    def _made(self, thing: Any) -> Any:
        self.kept.append(thing)  # so that identities stay unique
        self.live.add(id(thing))
        return thing

    def _gone(self, thing: Any) -> tuple[Status]:
        if id(thing) not in self.live:
            self.violations.append(f"{type(thing).__name__} destroyed twice")
        self.live.discard(id(thing))
        return (Status.cudaSuccess,)

    cudaEventDestroy = cudaGraphDestroy = cudaGraphExecDestroy = _gone

    def cudaStream_t(self, number: int) -> Stream:
        return self.streams[number]

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, Stream | None]:
        status = self._called("cudaStreamCreateWithFlags")
        if status:
            return status, None
        stream = self._made(Stream(max(self.streams) + 1))
        self.streams[stream.number] = stream
        return Status.cudaSuccess, stream

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Status]:
        del self.streams[stream.number]
        return self._gone(stream)

    def cudaStreamSynchronize(self, stream: Any) -> tuple[Status]:
        queue = self.streams[int(stream)].queue
        if queue:
            self._finish(queue[-1])
        return (self._called("cudaStreamSynchronize"),)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Status, Event | None]:
        status = self._called("cudaEventCreateWithFlags")
        return (status, None) if status else (status, self._made(Event()))

    def cudaEventRecord(self, event: Event, stream: Any) -> tuple[Status]:
        status = self._called("cudaEventRecord")
        if status == Status.cudaSuccess:
            event.mark = Operation(lambda: None)
            status = self.enqueue(stream, event.mark)
        return (status,)

    def cudaStreamWaitEvent(self, stream: Any, event: Event, flags: int) -> tuple[Status]:
        if event.mark is None or event.mark.done or self.ignore_waits:
            return (self._called("cudaStreamWaitEvent"),)
        return (self._called("cudaStreamWaitEvent") or self.enqueue(stream, Operation(lambda: None, event.mark)),)

    def cudaEventSynchronize(self, event: Event) -> tuple[Status]:
        if event.mark is not None and not self.ignore_synchronize:
            self._finish(event.mark)
        return (self._called("cudaEventSynchronize"),)

    def cudaStreamBeginCapture(self, stream: Stream, mode: int) -> tuple[Status]:
        stream.captured = []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Status, Any]:
        captured, stream.captured = stream.captured or [], None
        status = self._called("cudaStreamEndCapture")
        return status, None if status else self._made(Graph(captured))

    def cudaGraphInstantiate(self, graph: Graph, flags: int) -> tuple[Status, Any]:
        status = self._called("cudaGraphInstantiate")
        return (status, None) if status else (status, self._made(Graph(list(graph.operations))))

    def cudaGraphLaunch(self, graph: Graph, stream: Any) -> tuple[Status]:
        status = self._called("cudaGraphLaunch")
        if id(graph) not in self.live:
            self.violations.append("a graph was launched after it was freed")
        for operation in graph.operations:
            status = status or self.enqueue(stream, Operation(operation.run, touches=operation.touches))
        return (status,)


def read(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A copy of memory as an array."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    return np.frombuffer(ctypes.string_at(address, size), kind).reshape(shape)


def write(address: int, array: np.ndarray) -> None:
    """Write an array to memory."""
    data = np.ascontiguousarray(array).tobytes()
    ctypes.memmove(address, data, len(data))
