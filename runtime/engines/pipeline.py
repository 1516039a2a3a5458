"""Several batches in flight: while the device works on one, the host prepares the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from runtime.engines.base import Engine
from runtime.errors import EngineError

T = TypeVar("T")

Inputs = Mapping[str, NDArray[Any]]
Outputs = dict[str, NDArray[np.float32]]


@runtime_checkable
class OverlappingEngine(Protocol):
    """What an engine has beside `Engine` when `infer` can be parted into its beginning and its end."""

    @property
    def depth(self) -> int:
        """Batches that may be in flight at once."""
        ...

    def submit(self, inputs: Inputs) -> Any:
        """Begin a batch; gives a ticket. Host arrays may be changed at once."""
        ...

    def collect(self, ticket: Any) -> Outputs:
        """Wait for the batch and give its outputs, once."""
        ...


class Immediate:
    """Any engine in the form of one that overlaps: a batch is done when it was submitted."""

    depth = 1

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def submit(self, inputs: Inputs) -> Outputs:
        """Run the batch; its outputs are the ticket."""
        return self._engine.infer(inputs)

    def collect(self, ticket: Outputs) -> Outputs:
        """The outputs."""
        return ticket


def overlapping(engine: Engine) -> OverlappingEngine:
    """The engine by its overlapping side, where it has one."""
    return engine if isinstance(engine, OverlappingEngine) else Immediate(engine)


def infer_in_turn(
    engine: Engine,
    batches: Iterator[tuple[T, Inputs] | None],
    timed: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[tuple[T, Outputs]]:
    """Run batches and give their outputs in order, with as many in flight as the engine allows.

    What a caller sees is what one `infer` after the other would give, errors included: an error of a batch, or of
    `batches`, is raised after the outputs of all batches before it.

    Args:
        engine: any.
        batches: each with a key that comes back beside its outputs. None: the next one will take its time, so give
            first what is in flight; a live source must not wait for its next window.
        timed: a context in which the engine is used, for timing; `batches` is advanced outside of it.
    """
    pipe = overlapping(engine)
    flying: deque[tuple[T, Any]] = deque()
    try:
        more = True
        failure: Exception | None = None
        while more or flying:
            room = 0
            if more and failure is None:
                room = pipe.depth - 1
                try:
                    batch = next(batches)
                    if batch is None:
                        room = 0
                    else:
                        with timed():
                            flying.append((batch[0], pipe.submit(batch[1])))
                except StopIteration:
                    more, room = False, 0
                except Exception as error:
                    more, room, failure = False, 0, error
            while len(flying) > room:
                key, ticket = flying.popleft()
                with timed():
                    outputs = pipe.collect(ticket)
                yield key, outputs
        if failure is not None:
            raise failure
    finally:
        for _, ticket in flying:  # the caller has left, or a batch failed: free the engine for its next use
            with suppress(EngineError):
                pipe.collect(ticket)
