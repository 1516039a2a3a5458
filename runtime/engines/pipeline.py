"""Keep several batches in flight: the host prepares the next batch while the device runs one."""

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
    """Runs batches asynchronously: `submit` begins what `infer` does, `collect` ends it."""

    @property
    def depth(self) -> int:
        """Maximum number of batches in flight."""
        ...

    def submit(self, inputs: Inputs) -> Any:
        """Begin a batch and return its ticket; its arrays must stay as they are until it is collected."""
        ...

    def collect(self, ticket: Any) -> Outputs:
        """Wait for a batch and return its outputs; each ticket once."""
        ...


class Immediate:
    """Gives any engine the methods of an `OverlappingEngine`; `submit` runs the whole batch."""

    depth = 1

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def submit(self, inputs: Inputs) -> Outputs:
        """Run the batch and return its outputs as the ticket."""
        return self._engine.infer(inputs)

    def collect(self, ticket: Outputs) -> Outputs:
        """Return the outputs of the batch, which are the ticket."""
        return ticket


def as_overlapping(engine: Engine) -> OverlappingEngine:
    """Return the engine if it overlaps batches, else the engine in `Immediate`."""
    return engine if isinstance(engine, OverlappingEngine) else Immediate(engine)


def runs_for_throughput(engine: Engine) -> bool:
    """Return whether an engine was opened in the mode "throughput" and has it."""
    return getattr(engine, "mode", "latency") == "throughput"


def infer_in_turn(
    engine: Engine,
    batches: Iterator[tuple[T, Inputs] | None],
    timed: Callable[[], AbstractContextManager[None]] = nullcontext,
    patient: bool = False,
) -> Iterator[tuple[T, Outputs]]:
    """Run batches and yield their outputs in order, with as many in flight as the engine allows.

    Results and errors are those of one `infer` after the other: an error of a batch, or of `batches`, is raised after
    the outputs of all batches before it.

    Args:
        engine: any engine.
        batches: pairs of a key, which is returned with the outputs, and the inputs. None: the next batch is not ready,
            so all batches in flight are collected first; a live source must not delay results until its next window.
        timed: context around every use of the engine, for timing; `batches` is advanced outside of it.
        patient: whether results may wait for the next batch though it is not ready, so that the engine need not: a None
            is passed over. For sources with an end.
    """
    pipe = as_overlapping(engine)
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
                        room = room if patient else 0
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
        for _, ticket in flying:  # the caller stopped iterating, or a batch failed: free the engine for its next use
            with suppress(EngineError):
                pipe.collect(ticket)
