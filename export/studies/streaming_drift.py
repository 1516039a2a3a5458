"""Show whether anything accumulates in a streaming network: a scene is repeated, and what follows must repeat.

python -m export.studies.streaming_drift MODEL.stream.xml … --video FILE [--precision fp32 bf16] [--hours 1]

Where the states after a scene are those after the scene before, all that is computed later is the same for ever, since
a step depends on its frames and the states alone.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.studies.speed.videos import repeat_frames
from runtime.common.console import run_script
from runtime.common.tables import align
from runtime.engines import open_engine
from runtime.engines.base import Arrays
from runtime.engines.streaming import StreamingEngine
from runtime.errors import InputError
from runtime.spec.streaming import STREAMING_CHUNK
from runtime.streaming.backbone import StreamingBackbone

SCENE = 2 * STREAMING_CHUNK
"""Frames of the scene: a multiple of a chunk, longer than what a feature depends on."""


class Repeated(NamedTuple):
    """Holds digests of what a repeated scene left: one entry for each time it was shown."""

    states: list[str]
    features: list[str]

    @property
    def settled(self) -> int:
        """Number of times after which states and features no longer change; 0: they do at the last one, too."""
        for k in range(1, len(self.states)):
            if len({*self.states[k - 1 :]}) == 1 and len({*self.features[k:]}) == 1:
                return k
        return 0


def repeat_scene(engine: StreamingEngine, scene: Sequence[NDArray[np.uint8]], times: int) -> Repeated:
    """Show a scene, whose length is a multiple of a chunk, several times without a break, and keep digests."""
    backbone, found = StreamingBackbone(engine, STREAMING_CHUNK), Repeated([], [])
    for _ in range(times):
        features = [part for frame in scene if (part := backbone.push(frame)) is not None]
        found.features.append(_digest(features))
        found.states.append(_digest([backbone.states]))
    return found


def _digest(parts: Iterable[Arrays]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for name in sorted(part):
            digest.update(np.ascontiguousarray(part[name]).tobytes())
    return digest.hexdigest()


def measure_drift(models: Sequence[Path], video: Path, precisions: Sequence[str], hours: float) -> str:
    """Repeat a scene of the video for `hours` through every model and precision; return the table."""
    table = [["network", "device", "hours", "scenes", "the same bits from scene"]]
    for name, engine in _opened(models, precisions):
        with closing(engine):
            scene = list(islice(repeat_frames(video, engine.spec, SCENE), SCENE))
            times = max(round(hours * 3600 * engine.spec.sample_fps / SCENE), 4)
            found = repeat_scene(engine, scene, times)
            shown = times * SCENE / engine.spec.sample_fps / 3600
            settled = str(found.settled + 1) if found.settled else "never"
            table.append([name, engine.device, f"{shown:.2f}", str(times), settled])
    return align(table)


def _opened(models: Sequence[Path], precisions: Sequence[str]) -> Iterator[tuple[str, StreamingEngine]]:
    for model in models:
        for precision in precisions:
            engine: Any = open_engine(model, precision=precision)  # type: ignore[arg-type]
            if not isinstance(engine, StreamingEngine):
                raise InputError(f"{model}: a network on windows, expected a streaming one (afsd export --stream)")
            yield model.name, engine


def main() -> int:
    """Run from the command line; on an error print one line and return 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--video", type=Path, required=True, help="its first frames are the scene")
    parser.add_argument("--precision", nargs="+", default=["fp32"], help="default: fp32; that of an INT8 file's rest")
    parser.add_argument("--hours", type=float, default=0.0, help="hours of video; default: four scenes")
    args = parser.parse_args()
    return run_script(lambda: measure_drift(args.models, args.video, args.precision, args.hours))


if __name__ == "__main__":
    sys.exit(main())
