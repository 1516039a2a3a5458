"""A double of `tensorrt` (and `tensorrt_rtx`): plans of the tiny network, run on the streams of `tests.fake_cuda`.

A plan is JSON that says what its tensors are. The network reads its inputs from device memory when its stream runs
it, not when it is enqueued.
"""

from __future__ import annotations

import json
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from runtime.engines.sidecar import write_sidecar
from runtime.engines.tensorrt.build_facts import EngineBuild
from runtime.spec.model import ModelSpec
from tests.fake_cuda import FakeCuda, Operation, read, write
from tests.tiny import forward, tiny_spec

VERSION = "11.4.0.106"


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    INT32 = 3
    UINT8 = 5


class TensorIOMode(IntEnum):
    INPUT = 1
    OUTPUT = 2


TYPES = {"uint8": DataType.UINT8, "int32": DataType.INT32, "float32": DataType.FLOAT}


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


class Context:
    """IExecutionContext of the tiny network."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.cuda = engine, engine.cuda
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.generation = 0
        self.warm = False
        self.pending: list[Operation] = []

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if any(not operation.done for operation in self.pending):
            self.cuda.violations.append("shapes of a context changed while it was running")
        low, _, high = self.engine.get_tensor_profile_shape(name, 0)
        if not low[0] <= shape[0] <= high[0]:
            self.engine.logger.log(ILogger.ERROR, f"{name}: batch {shape[0]} is outside the profile\nmore")
            return False
        self.shapes[name] = tuple(shape)
        self.generation += 1
        self.warm = False
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        if address % 256:
            self.cuda.violations.append("address of a tensor is not aligned")
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self.engine.refuse or len(self.shapes) < 2 or len(self.addresses) < len(self.engine.tensors):
            self.engine.logger.log(ILogger.ERROR, "enqueue refused")
            return False
        if self.cuda.capturing(stream) and not self.warm:
            self.engine.logger.log(ILogger.ERROR, "not warm: allocating while capturing")
            return False
        self.warm = True
        shapes, addresses, generation = dict(self.shapes), dict(self.addresses), self.generation

        def run() -> None:
            if generation != self.generation:
                self.cuda.violations.append("a graph ran after the context's shapes changed")
            given = {"frames": np.uint8, "lengths": np.int32}
            outputs = forward(**{n: read(addresses[n], shapes[n], kind) for n, kind in given.items()})  # type: ignore[arg-type]
            for name, value in outputs.items():
                write(addresses[name], value)

        operation = Operation(run, touches=tuple(addresses.values()))
        if not self.cuda.capturing(stream):
            self.pending = [o for o in self.pending if not o.done] + [operation]
        return self.cuda.enqueue(stream, operation) == 0


class Engine:
    """ICudaEngine."""

    def __init__(self, content: dict[str, Any], cuda: FakeCuda, logger: ILogger) -> None:
        self.tensors: list[dict[str, Any]] = content["tensors"]
        self.batch: list[int] = content["batch"]
        self.cuda, self.logger = cuda, logger
        self.refuse = False
        self.eager = False
        self.contexts: list[Context] = []

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def _tensor(self, name: str) -> dict[str, Any]:
        return next(t for t in self.tensors if t["name"] == name)

    def get_tensor_name(self, index: int) -> str:
        return str(self.tensors[index]["name"])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode[self._tensor(name)["mode"]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensor(name)["shape"])

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self._tensor(name)["dtype"]]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [(size, *self.get_tensor_shape(name)[1:]) for size in self.batch]

    def create_runtime_config(self) -> SimpleNamespace:
        return SimpleNamespace(dynamic_shapes_kernel_specialization_strategy="lazy")

    def create_execution_context(self, config: SimpleNamespace | None = None) -> Context:
        self.eager = config is not None and config.dynamic_shapes_kernel_specialization_strategy == "eager"
        self.contexts.append(Context(self))
        return self.contexts[-1]


class FakeTensorRt:
    """Set it as sys.modules["tensorrt"] or ["tensorrt_rtx"]."""

    ILogger = ILogger
    DataType = DataType
    TensorIOMode = TensorIOMode
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")

    def __init__(self, cuda: FakeCuda, version: str = VERSION) -> None:
        self.cuda, self.__version__ = cuda, version
        self.engines: list[Engine] = []

    def Runtime(self, logger: ILogger) -> SimpleNamespace:  # noqa: N802 - the library's name
        def deserialize(plan: bytes) -> Engine | None:
            try:
                self.engines.append(Engine(json.loads(plan), self.cuda, logger))
            except ValueError:
                logger.log(ILogger.INFO, "Loaded engine size: 0 MiB")
                logger.log(ILogger.ERROR, "Error Code 1: Serialization (magic tag)\nIn throwUnlessHeaderOk")
                return None
            return self.engines[-1]

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


def write_tiny_plan(path: Path, spec: ModelSpec | None = None, plan: bytes | None = None, **build: Any) -> Path:
    """Write a plan of the tiny network with its sidecar; `build` replaces fields of the EngineBuild."""
    spec = tiny_spec() if spec is None else spec
    facts: dict[str, Any] = {
        "library": "tensorrt", "version": VERSION, "architectures": ("8.6",), "precision": "fp16", "batch": (1, 1, 3),
        "pooling": "none",
    }  # fmt: skip
    facts |= build
    if plan is None:
        content = {"tensors": tensors_of(spec), "batch": facts["batch"]}
        plan = json.dumps(content).encode()
    path.write_bytes(plan)
    write_sidecar(path, spec, EngineBuild(**facts))
    return path


def tensors_of(spec: ModelSpec) -> list[dict[str, Any]]:
    """A plan's tensors as a spec declares them."""
    return [
        {
            "name": t.name,
            "mode": mode,
            "shape": [-1 if isinstance(size, str) else size for size in t.shape],
            "dtype": TYPES[t.dtype].name,
        }
        for mode, tensors in (("INPUT", spec.inputs), ("OUTPUT", spec.outputs))
        for t in tensors
    ]
