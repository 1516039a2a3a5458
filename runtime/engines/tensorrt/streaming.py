"""Run the plans of a streaming network with TensorRT and TensorRT for RTX; the states stay on the GPU between steps.

    host      frames ──┐                                    ┌── features
    stream             └▶ H2D ─ states, frames ▶ step ─ features ▶ D2H
                                    ▲                │
                                    └── new states ◀─┘   in device memory

A step waits for the one before, so one CUDA stream orders all work, and every call ends with the host waiting for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from runtime.engines.base import Arrays
from runtime.engines.options import EngineOptions
from runtime.engines.streaming import Run, StreamingEngine
from runtime.engines.tensorrt.build_facts import PlanPart
from runtime.engines.tensorrt.cuda import CudaDevice
from runtime.engines.tensorrt.device_array import DeviceArray
from runtime.engines.tensorrt.engine import ALIGNMENT
from runtime.engines.tensorrt.loading import (
    LoadedPlan,
    check_options,
    load_plans,
    make_context,
    require_type,
    tensors_of,
)
from runtime.errors import EngineError, InputError, SpecError
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import EDGE, EDGES, HEAD, Streaming, StreamState


class TensorRtStreamingEngine(StreamingEngine):
    """Runs the .engine or .plan file of a streaming network, three plans, with its sidecar .json on one NVIDIA GPU.

    The states that `empty_states` and `step` return are arrays on the GPU, for `step` of this engine alone. Their
    memory is used again when nobody holds them, so it does not grow with the length of a video.
    """

    def __init__(self, path: Path, options: EngineOptions) -> None:
        """Verify and load the plans, and allocate memory for the longest chunk and the largest batch.

        Raises:
            InputError: an option does not apply to a streaming TensorRT engine.
            SpecError, EngineError, MissingDependencyError: see `load_plans`; SpecError also if the tensors of a plan do
                not fit, EngineError if memory runs out.
        """
        check_options(path, options)
        if options.cuda_graph:
            raise InputError(f"{path}: a streaming network takes no cuda_graph, since its states move; leave it out")
        plans = load_plans(path, options)
        first = next(iter(plans.values()))
        build, self._device = first.build, first.device
        self._parts: dict[str, _Part] = {}
        try:
            library = f"{build.library} {'.'.join(build.version.split('.')[:3])}"
            super().__init__(first.spec, str(path), library, str(self._device.facts), build.precision)
            stream = self._device.stream()
            for part in build.parts:
                self._parts[part.name] = _Part(path, plans[part.name], part, stream)
            self._memory = _StateMemory(self._device, self.streaming)
        except BaseException:
            self.close()
            raise

    def empty_states(self) -> Arrays:
        """Return the states before the first frame, on the GPU.

        Raises:
            EngineError: the engine is closed, or out of memory.
        """
        if not self._parts:
            raise self._closed()
        self._device.use()
        return self._memory.arrays(self._memory.empty())

    def close(self) -> None:
        """Wait for all work, then free the pinned memory and everything on the device; see `StreamingEngine`."""
        self._device.drain()
        self._parts = {}
        self._device.close()

    def _part(self, part: str, length: int) -> Run:
        """See `StreamingEngine`."""
        if not self._parts:
            raise self._closed()
        return self._head if part == HEAD else lambda inputs: self._step(self._parts[part], length, inputs)

    def _head(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        self._device.use()
        return self._parts[HEAD].run(inputs, len(next(iter(inputs.values()))), {})

    def _step(self, part: _Part, length: int, inputs: Mapping[str, Any]) -> Arrays:
        """Run a step from the states among the inputs, and return its features and the new states."""
        self._device.use()
        names = [name for name, _ in name_states(self.streaming)]
        given = {name: self._memory.find(name, inputs[name]) for name in names}
        new = self._memory.take()
        bound = {f"next_{name}": address for name, address in self._memory.addresses(new).items()}
        others = {name: array for name, array in inputs.items() if name not in given}
        found = part.run(others, length, {**given, **bound})
        return {**found, **{f"next_{name}": array for name, array in self._memory.arrays(new).items()}}


def name_states(streaming: Streaming) -> list[tuple[str, StreamState]]:
    """Return the states of a streaming network with their names."""
    return [(f"state_{number}", state) for number, state in enumerate(streaming.states)]


class PartTensor(NamedTuple):
    """Describes an input or output of a part: its type, and its shape at a length of the part's open axis."""

    dtype: str
    shape: Callable[[int], tuple[int, ...]]


def inputs_of(spec: ModelSpec, part: str) -> dict[str, PartTensor]:
    """Return the inputs of a part of a streaming network but for its states, by name without that of the part."""
    streaming = _streaming_of(spec)
    if part == HEAD:
        return {f.name: _features_of_windows(spec, f.channels, f.rate) for f in streaming.features}
    frames = {
        tensor.name: _frames(streaming.overlap, tuple(int(size) for size in tensor.shape[2:]))
        for tensor in spec.inputs
        if tensor.name != "lengths"
    }
    return frames | ({name: PartTensor("int64", lambda _: (1,)) for name in EDGES} if part == EDGE else {})


def outputs_of(spec: ModelSpec, part: str) -> dict[str, PartTensor]:
    """Return the outputs of a part of a streaming network but for its states, by name without that of the part."""
    if part == HEAD:
        return {t.name: _batched(t.dtype, tuple(int(size) for size in t.shape[1:])) for t in spec.outputs}
    return {f.name: _features_of_chunk(f.channels, f.rate) for f in _streaming_of(spec).features}


def states_of(spec: ModelSpec, part: str, *, new: bool) -> dict[str, PartTensor]:
    """Return the states that a part takes, or the new ones that it gives; the head has none."""
    states = [] if part == HEAD else name_states(_streaming_of(spec))
    return {f"{'next_' if new else ''}{name}": _fixed(state.dtype, state.shape) for name, state in states}


def _fixed(dtype: str, shape: tuple[int, ...]) -> PartTensor:
    return PartTensor(dtype, lambda _: shape)


def _batched(dtype: str, shape: tuple[int, ...]) -> PartTensor:
    return PartTensor(dtype, lambda batch: (batch, *shape))


def _frames(overlap: int, shape: tuple[int, ...]) -> PartTensor:
    return PartTensor("uint8", lambda frames: (1, overlap + frames, *shape))


def _features_of_chunk(channels: int, rate: int) -> PartTensor:
    return PartTensor("float32", lambda frames: (1, channels, frames // rate))


def _features_of_windows(spec: ModelSpec, channels: int, rate: int) -> PartTensor:
    return _batched("float32", (channels, spec.window_length // rate))


def _streaming_of(spec: ModelSpec) -> Streaming:
    assert spec.streaming is not None  # `load_plans` has checked it
    return spec.streaming


class _Part:
    """Runs one plan, from host memory to host memory; states are bound where they lie."""

    def __init__(self, path: Path, plan: LoadedPlan, part: PlanPart, stream: Any) -> None:
        self._path, self._plan, self._stream, self._device = path, plan, stream, plan.device
        self._name, self._lengths = part.name, part.lengths
        self._inputs, self._outputs = inputs_of(plan.spec, part.name), outputs_of(plan.spec, part.name)
        _check_part(path, plan, part)
        self._context: Any = make_context(plan, path, graphs=False)
        self._length = 0
        largest = part.lengths[2]
        sizes = {
            name: prod(tensor.shape(largest)) * np.dtype(tensor.dtype).itemsize
            for name, tensor in {**self._inputs, **self._outputs}.items()
        }
        self._host = {name: self._device.pinned(size) for name, size in sizes.items()}
        self._address = {name: self._device.device_memory(size) for name, size in sizes.items()}

    def run(self, inputs: Mapping[str, NDArray[Any]], length: int, states: Mapping[str, int]) -> Arrays:
        """Run the plan and return its outputs.

        Args:
            inputs: inputs by name.
            length: length of the open axis: frames of the chunk, or windows of the batch.
            states: device address of each state, old and new.

        Raises:
            InputError: a length for which the plan was not built.
            EngineError: the run failed.
        """
        low, _, high = self._lengths
        if not low <= length <= high:
            what = f"batch: got {length} windows" if self._name == HEAD else f"chunk: got {length} frames"
            raise InputError(f"{what}, the engine {self._path.name} takes {low} … {high}")
        try:
            if length != self._length:
                self._set_length(length)
            for name, array in inputs.items():
                pinned = self._view(name, self._inputs[name], length)
                np.copyto(pinned, array)
                self._device.upload(self._address[name], pinned, self._stream)
            for name, address in {**self._address, **states}.items():
                self._accept(self._context.set_tensor_address(f"{self._name}/{name}", address), f"address of {name!r}")
            self._accept(self._context.execute_async_v3(int(self._stream)), "run")
            views = {name: self._view(name, tensor, length) for name, tensor in self._outputs.items()}
            for name, view in views.items():
                self._device.download(view, self._address[name], self._stream)
            self._device.wait_for_stream(self._stream)
        except BaseException:
            self._device.drain()  # the failed run must not go on writing into states that others take
            raise
        return {name: view.copy() for name, view in views.items()}

    def _set_length(self, length: int) -> None:
        """Set the shapes of the inputs; no run is in flight."""
        self._length = 0
        spec = self._plan.spec
        for name, tensor in {**self._inputs, **states_of(spec, self._name, new=False)}.items():
            shape = tensor.shape(length)
            self._accept(
                self._context.set_input_shape(f"{self._name}/{name}", shape), f"shape {list(shape)} of {name!r}"
            )
        self._length = length

    def _view(self, name: str, tensor: PartTensor, length: int) -> NDArray[Any]:
        """Return the start of a tensor's pinned memory as an array."""
        shape, kind = tensor.shape(length), np.dtype(tensor.dtype)
        array: NDArray[Any] = self._host[name][: prod(shape) * kind.itemsize].view(kind).reshape(shape)
        return array

    def _accept(self, done: bool, what: str) -> None:
        """Raise with the reason from TensorRT's log if a call returned False."""
        if not done:
            raise EngineError(
                f"{self._path}: TensorRT refused the {what} of the part {self._name}: {self._plan.log.reason()}; "
                "build the engine again"
            )


def _check_part(path: Path, plan: LoadedPlan, part: PlanPart) -> None:
    """Compare tensors and lengths of a plan with ModelSpec and sidecar (SpecError: one differs)."""
    library, spec, name = plan.keep[-1], plan.spec, part.name
    for given, tensors in (
        (True, {**inputs_of(spec, name), **states_of(spec, name, new=False)}),
        (False, {**outputs_of(spec, name), **states_of(spec, name, new=True)}),
    ):
        found = tensors_of(plan.engine, library, inputs=given)
        expected = {f"{name}/{short}": tensor for short, tensor in tensors.items()}
        if found.keys() != expected.keys():
            kind, differing = "inputs" if given else "outputs", sorted(found.keys() ^ expected.keys())
            raise SpecError(f"{path}: the {kind} of its part {name} differ from its ModelSpec in {differing[0]}")
        for full, tensor in expected.items():
            best = tensor.shape(part.lengths[1])
            if len(found[full]) != len(best) or any(
                size not in (None, own) for size, own in zip(found[full], best, strict=True)
            ):
                raise SpecError(f"{path}: {full} is {list(found[full])}, its ModelSpec says {list(best)}")
            require_type(path, plan.engine, library, full, tensor.dtype)
            if given and None in found[full]:
                built = [tuple(shape) for shape in plan.engine.get_tensor_profile_shape(full, 0)]
                if built != [tensor.shape(length) for length in part.lengths]:
                    raise SpecError(f"{path}: {full} takes shapes {built}, its sidecar says lengths {part.lengths}")


class _StateSet:
    """Holds the memory of all states after one step, and gives it back when nobody holds any of them."""

    def __init__(self, address: int, free: list[int], *, lent: bool) -> None:
        self.address, self.free = address, free
        if lent:
            weakref.finalize(self, free.append, address).atexit = False


class _StateMemory:
    """Allocates the sets of states of an engine in device memory; a set is one block."""

    def __init__(self, device: CudaDevice, streaming: Streaming) -> None:
        self._device, self._states = device, dict(name_states(streaming))
        self._offsets: dict[str, int] = {}
        self._size = 0
        for name, state in self._states.items():
            self._offsets[name] = self._size
            size = prod(state.shape) * np.dtype(state.dtype).itemsize
            self._size += -(-size // ALIGNMENT) * ALIGNMENT
        self._free: list[int] = []
        self._empty: int | None = None

    def take(self) -> _StateSet:
        """Return a set that holds anything (EngineError: out of memory)."""
        address = self._free.pop() if self._free else self._device.device_memory(self._size)
        return _StateSet(address, self._free, lent=True)

    def empty(self) -> _StateSet:
        """Return the set before the first frame, which is never written to (EngineError: out of memory)."""
        if self._empty is None:
            block = np.zeros(self._size, np.uint8)
            for name, state in self._states.items():
                size = prod(state.shape) * np.dtype(state.dtype).itemsize
                block[self._offsets[name] :][:size].view(state.dtype)[:] = state.zero
            self._empty = self._device.place(block)
        return _StateSet(self._empty, self._free, lent=False)

    def addresses(self, states: _StateSet) -> dict[str, int]:
        """Return the device addresses of the states of a set by name."""
        return {name: states.address + offset for name, offset in self._offsets.items()}

    def arrays(self, states: _StateSet) -> Arrays:
        """Return the states of a set by name, as arrays on the GPU that keep it alive."""
        found = {
            name: DeviceArray(self._states[name].shape, np.dtype(self._states[name].dtype), address, states)
            for name, address in self.addresses(states).items()
        }
        return cast(Arrays, found)

    def find(self, name: str, value: Any) -> int:
        """Return the device address of a state (InputError: it is none of this engine)."""
        if (
            not isinstance(value, DeviceArray)
            or not isinstance(value.owner, _StateSet)
            or value.owner.free is not self._free
        ):
            raise InputError(f"{name}: is not one that a step of this engine gave, or `empty_states`")
        return value.address
