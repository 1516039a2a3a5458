"""A double of `tensorrt` (and `tensorrt_rtx`): plans of the tiny network, run on the streams of `tests.fake_cuda`.

A plan is JSON that says what its tensors are. The network reads its inputs from device memory when its stream runs
it, not when it is enqueued. A plan of a part of a streaming network names an ONNX file, which ONNX Runtime runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runtime.engines.artifact import read_artifact
from runtime.engines.onnx.parts import cut_part
from runtime.engines.sidecar import write_sidecar
from runtime.engines.tensorrt.build_facts import PARTS, EngineBuild, PlanPart
from runtime.engines.tensorrt.cuda import BINDINGS
from runtime.spec.model import ModelSpec
from tests.fake_cuda import FakeCuda, Operation, read, write
from tests.tiny import forward, tiny_spec

VERSION = "11.4.0.106"


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    UINT8 = 5
    INT64 = 8


class TensorIOMode(IntEnum):
    INPUT = 1
    OUTPUT = 2


TYPES = {
    "uint8": DataType.UINT8, "int8": DataType.INT8, "int32": DataType.INT32, "int64": DataType.INT64,
    "float16": DataType.HALF, "float32": DataType.FLOAT,
}  # fmt: skip

ONNX_TYPES = {"float": "float32"}
"""ONNX Runtime's name of a type → numpy's, where they differ."""


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
        if not all(least <= size <= most for least, size, most in zip(low, shape, high, strict=True)):
            self.engine.logger.log(ILogger.ERROR, f"{name}: shape {shape} is outside the profile\nmore")
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
        inputs = {t["name"]: TYPES_OF[t["dtype"]] for t in self.engine.tensors if t["mode"] == "INPUT"}
        missing = len(self.shapes) < len(inputs) or len(self.addresses) < len(self.engine.tensors)
        if self.engine.refuse or missing:
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
            outputs = self.engine.run({n: read(addresses[n], shapes[n], kind) for n, kind in inputs.items()})
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
        self.batch: list[int] = content.get("batch", [])
        self.profile: dict[str, list[list[int]]] = content.get("profile", {})
        self.model: str = content.get("model", "")
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
        if self.batch:
            return [(size, *self.get_tensor_shape(name)[1:]) for size in self.batch]
        return [tuple(shape) for shape in self.profile.get(name, [self.get_tensor_shape(name)] * 3)]

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the network on the host."""
        if not self.model:
            return dict(forward(**inputs))
        session = onnx_session(self.model)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))

    def create_runtime_config(self) -> SimpleNamespace:
        return SimpleNamespace(dynamic_shapes_kernel_specialization_strategy="lazy")

    def create_execution_context(self, config: SimpleNamespace | None = None) -> Context:
        self.eager = config is not None and config.dynamic_shapes_kernel_specialization_strategy == "eager"
        self.contexts.append(Context(self))
        return self.contexts[-1]


TYPES_OF = {kind.name: np.dtype(name) for name, kind in TYPES.items()}


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


LENGTHS = {"steady": (8, 64, 128), "edge": (8, 64, 176), "head": (1, 1, 4)}
"""Lengths that the plans of a double take."""


@cache
def onnx_session(path: str) -> Any:
    """A session of ONNX Runtime, which not every test of this module needs, kept for all tests of the process."""
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def plan_of(model: Path, lengths: Sequence[int]) -> bytes:
    """The plan of an ONNX file; `lengths` are the smallest, optimal and largest size of an input's open axis."""
    session = onnx_session(str(model))
    tensors = [
        {
            "name": tensor.name,
            "mode": mode,
            "shape": [size if isinstance(size, int) else -1 for size in tensor.shape],
            "dtype": TYPES[ONNX_TYPES.get(kind := tensor.type[len("tensor(") : -1], kind)].name,
        }
        for mode, values in (("INPUT", session.get_inputs()), ("OUTPUT", session.get_outputs()))
        for tensor in values
    ]
    profile = {
        str(t["name"]): [[length if size < 0 else size for size in t["shape"]] for length in lengths]
        for t in tensors
        if t["mode"] == "INPUT" and -1 in t["shape"]
    }
    return json.dumps({"tensors": tensors, "profile": profile, "model": str(model)}).encode()


def write_streaming_plans(path: Path, stream: Path, **build: Any) -> Path:
    """Write the plans of a streaming ONNX file with their sidecar; `build` replaces fields of the EngineBuild."""
    spec = read_artifact(stream).spec
    assert spec.streaming is not None
    plans, parts = b"", []
    for part in PARTS:
        model = path.with_name(f"{path.stem}.{part}.onnx")
        model.write_bytes(cut_part(stream, part))
        more = 0 if part == "head" else spec.streaming.overlap
        plan = plan_of(model, [length + more for length in LENGTHS[part]])
        plans += plan
        parts.append(PlanPart(part, len(plan), LENGTHS[part]))
    facts: dict[str, Any] = {
        "library": "tensorrt", "version": VERSION, "architectures": ("8.6",), "precision": "fp32",
        "batch": LENGTHS["head"], "pooling": "function", "parts": tuple(parts),
    }  # fmt: skip
    path.write_bytes(plans)
    write_sidecar(path, spec, EngineBuild(**{**facts, **build}))
    return path


def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeCuda]]:
    """Put the doubles in place of the libraries; whatever a test does, nothing may be left and nothing violated."""
    made: list[FakeCuda] = []

    def put(*arguments: Any, **options: Any) -> FakeCuda:
        cuda = FakeCuda(*arguments, **options)
        monkeypatch.setitem(sys.modules, BINDINGS, cuda)  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt(cuda))  # type: ignore[arg-type]
        made.append(cuda)
        return cuda

    yield put
    for cuda in made:
        assert not cuda.memory
        assert not cuda.live
        assert not cuda.violations
