"""Run TensorRT and TensorRT for RTX engines; copies and kernels of consecutive batches run concurrently.

    host      fill pinned ──┐                          ┌── copy out
    uploads                 └▶ H2D ─ uploaded ─┐       │
    compute                                    └▶ network ─ computed ─┐
    downloads                                                         └▶ D2H ─ finished

The three streams are ordered by events alone. Each batch in flight has its own slot (see slots.py), so a buffer is
written again only after its batch was collected. One execution context serves both slots, since one stream orders the
runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines.checks import check_inputs
from runtime.engines.options import EngineOptions
from runtime.engines.tensorrt.device_array import DeviceArray, wrap_device_arrays
from runtime.engines.tensorrt.loading import LoadedPlan, check_options, load_plan, make_context
from runtime.engines.tensorrt.slots import Slot, Ticket, make_slot, shape_of
from runtime.errors import EngineError, InputError

ALIGNMENT = 256
"""Alignment in bytes that TensorRT requires of tensor addresses; CUDA's allocations have it."""


class TensorRtEngine:
    """Runs an .engine or .plan file with its sidecar .json on one NVIDIA GPU."""

    depth = 2
    """Maximum number of batches in flight."""

    def __init__(self, path: Path, options: EngineOptions) -> None:
        """Verify and load the plan, and allocate memory for its largest batch.

        Raises:
            InputError: an option does not apply to a TensorRT engine.
            SpecError, EngineError, MissingDependencyError: see `load_plan`; EngineError also if memory runs out.
        """
        check_options(path, options)
        self._path = path
        self._plan: LoadedPlan | None = load_plan(path, options)
        self.spec, self._build, self._device = self._plan.spec, self._plan.build, self._plan.device
        self.library = f"{self._build.library} {'.'.join(self._build.version.split('.')[:3])}"
        self.device = str(self._device.facts)
        """Index and name of the GPU, as in "cuda:0 (NVIDIA GeForce RTX 4090)"."""
        self.precision: str = self._build.precision
        self._graphs = options.cuda_graph
        self._batch = 0
        """Current batch size of the context."""
        try:
            self._context: Any = make_context(self._plan, path, self._graphs)
            self._uploads, self._compute, self._downloads = (self._device.stream() for _ in range(3))
            self._produced = self._device.event()
            self._slots = [make_slot(self._device, self.spec, self._build.batch[2])]
        except BaseException:
            self.close()
            raise

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
        """Run one batch; see `runtime.engines.base.Engine.infer`.

        Each input is a host array, or an array on this GPU (anything with `__cuda_array_interface__`), which is not
        copied to the host.

        Raises:
            InputError: arrays that do not fit the ModelSpec, or a batch outside the engine's range.
            EngineError: the engine is closed, the run failed, or two batches are in flight.
        """
        return self.collect(self.submit(inputs))

    def submit(self, inputs: Mapping[str, Any]) -> Ticket:
        """Begin one batch and return its ticket while it runs; arguments and errors as in `infer`.

        Host arrays may be changed at once; arrays on the GPU must not change until the batch is collected.
        """
        given = wrap_device_arrays(inputs)
        check_inputs(self.spec, given, (np.ndarray, DeviceArray))
        batch = int(given[self.spec.inputs[0].name].shape[0])
        low, _, high = self._build.batch
        if not low <= batch <= high:
            raise InputError(f"batch: got {batch} windows, the engine {self._path.name} takes {low} … {high}")
        if self._context is None:
            raise EngineError(f"{self._path}: the engine is closed; open it again")
        self._device.use()
        self._check_devices(given)
        slot = self._find_slot()
        try:
            if batch != self._batch:
                self._set_batch(batch)
            self._send(slot, given)
            self._run(slot, batch, given)
            self._fetch(slot, batch)
        except BaseException:
            self._device.drain()  # the failed batch must not go on writing into the slot
            raise
        slot.ticket = Ticket(batch, inputs)
        return slot.ticket

    def collect(self, ticket: Ticket) -> dict[str, NDArray[np.float32]]:
        """Wait for a batch and return copies of its outputs; each ticket once.

        Raises:
            EngineError: the run failed, the engine is closed, or the ticket was collected before.
        """
        slot = self._slot_of(ticket)
        self._device.use()
        try:
            self._device.wait_for(slot.finished)
            outputs = self.spec.outputs
            return {t.name: slot.view(t.name, shape_of(t, ticket.batch), t.dtype).copy() for t in outputs}
        finally:
            slot.ticket = None

    def copy_to_device(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, DeviceArray]:
        """Copy host arrays to device memory, for repeated use in `infer`; the copies live until the engine is closed.

        Raises:
            EngineError: the engine is closed, or out of memory.
        """
        if self._context is None:
            raise EngineError(f"{self._path}: the engine is closed; open it again")
        self._device.use()
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        return {n: DeviceArray(a.shape, a.dtype, self._device.place(a), owner=self) for n, a in arrays.items()}

    def close(self) -> None:
        """Wait for all work, then free the pinned memory and everything on the device."""
        self._device.drain()
        for slot in getattr(self, "_slots", []):
            slot.ticket = None
            self._drop_graph(slot)
        self._context = None
        self._plan = None
        self._device.close()

    def _find_slot(self) -> Slot:
        """Return a slot without a batch; the second slot is made when first needed."""
        for slot in self._slots:
            if slot.ticket is None:
                return slot
        if len(self._slots) == self.depth:
            raise EngineError(f"{self._path}: {self.depth} batches are in flight; collect one before the next")
        self._slots.append(make_slot(self._device, self.spec, self._build.batch[2]))
        return self._slots[-1]

    def _slot_of(self, ticket: Ticket) -> Slot:
        for slot in self._slots:
            if slot.ticket is ticket:
                return slot
        raise EngineError(f"{self._path}: the batch was collected before, or the engine was closed; submit it again")

    def _check_devices(self, given: Mapping[str, Any]) -> None:
        for name, array in given.items():
            if isinstance(array, DeviceArray) and (found := self._device.find_device(array.address)) != self._index:
                where = "memory that is not a GPU's" if found is None else f"memory of cuda:{found}"
                raise InputError(f"engine input {name!r}: got {where}, expected an array on cuda:{self._index}")

    @property
    def _index(self) -> int:
        return self._device.facts.index

    def _send(self, slot: Slot, given: Mapping[str, Any]) -> None:
        """Copy the inputs to the slot's device memory; the network waits for all of them.

        Inputs that are on the device wait for the work of the stream that produces them.
        """
        for name, array in given.items():
            if isinstance(array, DeviceArray):
                if array.stream is not None:
                    self._device.record(self._produced, self._device.handle(array.stream))
                    self._device.wait(self._uploads, self._produced)
                if not self._bindable(array):
                    self._device.copy(slot.address[name], array.address, array.nbytes, self._uploads)
            else:
                pinned = slot.view(name, array.shape, array.dtype)
                np.copyto(pinned, array)
                self._device.upload(slot.address[name], pinned, self._uploads)
        self._device.record(slot.uploaded, self._uploads)
        self._device.wait(self._compute, slot.uploaded)

    def _bindable(self, array: DeviceArray) -> bool:
        """Whether the network can read the array in place; a graph reads only from the addresses of its capture."""
        return not self._graphs and array.address % ALIGNMENT == 0

    def _run(self, slot: Slot, batch: int, given: Mapping[str, Any]) -> None:
        """Enqueue one run of the network on the compute stream."""
        if slot.graph is not None:
            self._device.launch(slot.graph, self._compute)
            return
        for name, address in slot.address.items():
            array = given.get(name)
            bound = array.address if isinstance(array, DeviceArray) and self._bindable(array) else address
            self._accept(self._context.set_tensor_address(name, bound), f"address of {name!r}")
        if self._graphs and slot.warm == batch:
            slot.graph = self._capture()
            self._device.launch(slot.graph, self._compute)
        else:  # the first run at a batch size chooses kernels and allocates, which is not allowed in a capture
            self._enqueue()
            slot.warm = batch

    def _set_batch(self, batch: int) -> None:
        """Wait for the context's work, set another batch size, and drop the graphs of the old one."""
        self._device.wait_for_stream(self._compute)
        self._batch = 0
        for slot in self._slots:
            self._drop_graph(slot)
            slot.warm = 0
        for tensor in self.spec.inputs:
            shape = shape_of(tensor, batch)
            self._accept(self._context.set_input_shape(tensor.name, shape), f"shape {shape} of {tensor.name!r}")
        self._batch = batch

    def _capture(self) -> Any:
        """Capture one run with the current addresses as a CUDA graph."""
        try:
            with self._device.capture(self._compute) as graphs:
                self._enqueue()
        except EngineError as error:
            raise EngineError(f"{error}; open the engine without cuda_graph") from error
        return graphs[0]

    def _enqueue(self) -> None:
        self._accept(self._context.execute_async_v3(int(self._compute)), "run")

    def _fetch(self, slot: Slot, batch: int) -> None:
        """Copy the outputs to the host after the network's run."""
        self._device.record(slot.computed, self._compute)
        self._device.wait(self._downloads, slot.computed)
        for tensor in self.spec.outputs:
            pinned = slot.view(tensor.name, shape_of(tensor, batch), tensor.dtype)
            self._device.download(pinned, slot.address[tensor.name], self._downloads)
        self._device.record(slot.finished, self._downloads)

    def _accept(self, done: bool, what: str) -> None:
        """Raise with the reason from TensorRT's log if a call returned False."""
        if not done:
            reason = self._plan.log.reason() if self._plan else ""
            raise EngineError(f"{self._path}: TensorRT refused the {what}: {reason}; build the engine again")

    def _drop_graph(self, slot: Slot) -> None:
        if slot.graph is not None:
            self._device.free_graph(slot.graph)
            slot.graph = None
