"""An engine for workers of the service: the tiny network, which videos of certain levels have crash, hang or wait."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import EngineError
from tests.tiny import TinyEngine

CRASH, HANG, WAIT, GREEDY = 250, 5, 225, 200
"""Levels of grey, to within `NEAR`, of videos of one colour that the engine does not take well."""
NEAR = 3.0
WAIT_S = 0.15
"""Seconds that a window of a video of the level WAIT takes."""


class DoubleEngine(TinyEngine):
    """The tiny network, with faults that a video chooses."""

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        frames, lengths = inputs["frames"], inputs["lengths"]
        seen = frames[0, : int(lengths[0])]
        level = float(seen.mean()) if float(seen.std()) < NEAR else np.nan
        if abs(level - CRASH) < NEAR:
            os.kill(os.getpid(), signal.SIGSEGV)
        if abs(level - HANG) < NEAR:
            signal.pause()
        if abs(level - WAIT) < NEAR:
            time.sleep(WAIT_S)
        if abs(level - GREEDY) < NEAR:
            np.ones(1 << 40, np.uint8)
        return super().infer(inputs)


def open_double(path: str, **_: Any) -> DoubleEngine:
    """Open the double, unless the path says that it is broken."""
    if "broken" in path:
        raise EngineError(f"{path}: broken")
    return DoubleEngine()
