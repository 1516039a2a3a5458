"""Let several threads use one engine, one call after the other."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines.base import Arrays, Engine
from runtime.engines.streaming import Run, StreamingEngine
from runtime.errors import EngineError


def share(engine: Engine) -> Engine:
    """Return the engine for use in several threads; closing it leaves the given one open."""
    return _SharedStreaming(engine) if isinstance(engine, StreamingEngine) else _Shared(engine)


class _Shared:
    """Runs one batch of an engine at a time."""

    def __init__(self, engine: Engine) -> None:
        self.spec, self.library, self.device, self.precision = (
            engine.spec, engine.library, engine.device, engine.precision,
        )  # fmt: skip
        self._engine: Engine | None = engine
        self._lock = Lock()

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """See `Engine`."""
        with self._lock:
            if self._engine is None:
                raise EngineError("the engine is closed; open it again")
            return self._engine.infer(inputs)

    def close(self) -> None:
        """See `Engine`; waits for the call that runs."""
        with self._lock:
            self._engine = None


class _SharedStreaming(StreamingEngine):
    """Runs one step or one batch of a streaming network at a time; the states are the callers'."""

    def __init__(self, engine: StreamingEngine) -> None:
        super().__init__(engine.spec, "the model", engine.library, engine.device, engine.precision)
        self.without_masks = engine.without_masks
        self._engine: StreamingEngine | None = engine
        self._lock = Lock()

    def step(
        self, frames: Arrays, states: Arrays, *, start: int, valid: int | None = None, end: int | None = None
    ) -> tuple[Arrays, Arrays]:
        """See `StreamingEngine`."""
        with self._lock:
            return self._open().step(frames, states, start=start, valid=valid, end=end)

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """See `StreamingEngine`."""
        with self._lock:
            return self._open().infer(inputs)

    def empty_states(self) -> Arrays:
        """See `StreamingEngine`."""
        with self._lock:
            return self._open().empty_states()

    def close(self) -> None:
        """See `StreamingEngine`; waits for the call that runs."""
        with self._lock:
            self._engine = None

    def _open(self) -> StreamingEngine:
        if self._engine is None:
            raise self._closed()
        return self._engine

    def _part(self, part: str, length: int) -> Run:
        return self._open()._part(part, length)
