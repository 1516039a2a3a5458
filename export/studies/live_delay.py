"""Measure how long after an action's end its detection comes, in real time, by stride, on windows and streaming.

python -m export.studies.live_delay --out runs/live [--model CHECKPOINT] [--strides 64 32 16 8]

A synthetic video is played at the model's rate into all networks at once. A delay is that of the moment when a
detection is given out against the moment when its end was played.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from export.demo import SHIPPED
from export.studies.streaming_map import write_artifacts
from runtime.common.console import run_script
from runtime.common.tables import align
from runtime.detector import Detector, DetectorOptions
from runtime.engines import open_engine
from runtime.live.delay import Delay, worst_delay
from runtime.video.names import find_video
from runtime.video.sampling import open_frames
from training.synthetic.videos import VideoFormat, make_synthetic

LENGTH_S = 240
"""Seconds of the video."""
STRIDES = (64, 32, 16, 8)
SURE = 0.5
"""Score of the detections that count: those of less wait for the better ones around them, and nobody is shown them."""


class Played:
    """Plays frames at a rate into one network, and keeps the delay of every detection."""

    def __init__(self, model: Path, stride: int, frames: Sequence[NDArray[np.uint8]]) -> None:
        engine = open_engine(model, threads=1)
        spec = replace(engine.spec, window_stride=stride)
        usual = worst_delay(spec, 0.0).usual_s
        settle = DetectorOptions().horizon(spec, endless=True)  # as of a camera
        options = DetectorOptions(max_latency=usual + 1e-6, settle_seconds=settle)
        self._detector = Detector(engine, options=options)
        assert self._detector.spec.window_stride == stride
        self.bound: Delay = worst_delay(spec, settle)
        self.delays: list[float] = []
        self._frames, self._fps = frames, spec.sample_fps
        self._detector.run(
            np.stack(frames[: spec.window_length]), fps=self._fps
        )  # compiles what is compiled at first use
        self.thread = Thread(target=self._play)

    def _play(self) -> None:
        begun = time.perf_counter()

        def live() -> Iterator[NDArray[np.uint8]]:
            for number, frame in enumerate(self._frames):
                time.sleep(max(begun + number / self._fps - time.perf_counter(), 0))
                yield frame

        for found in self._detector.stream(live(), fps=self._fps):
            now = time.perf_counter() - begun
            if now < (len(self._frames) - 1) / self._fps:  # at the end of the video all that is left is given out
                self.delays += [now - end for end in found.above(SURE).segments[:, 1]]


def measure_delays(model: Path, out: Path, strides: Sequence[int]) -> str:
    """Play the video into every network at every stride; return the table."""
    artifacts = write_artifacts(model, out)
    data = out / "video"
    if not (data / "annotations.json").is_file():
        make_synthetic(data, videos=1, seed=5, subset="testing", video_format=VideoFormat(LENGTH_S, LENGTH_S))
    (name,) = (path.stem for path in (data / "videos").iterdir())
    with open_frames(
        str(find_video(data / "videos", name)), open_engine(artifacts["on windows"]).spec.sample_fps
    ) as opened:
        frames = list(opened)
    played = {(kind, stride): Played(path, stride, frames) for kind, path in artifacts.items() for stride in strides}
    for one in played.values():
        one.thread.start()
    for one in played.values():
        one.thread.join()
    table = [
        ["network", "stride", "detections", "median, s", "90 %, s", "longest, s", "bound, s", "bound in a chain, s"]
    ]
    for (kind, stride), one in played.items():
        numbers = [*np.percentile(one.delays, (50, 90, 100)), one.bound.usual_s, one.bound.worst_s]
        table.append([kind, str(stride), str(len(one.delays)), *(f"{number:.1f}" for number in numbers)])
    return align(table)


def main() -> int:
    """Run from the command line; on an error print one line and return 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="checkpoint (default: the shipped one)")
    parser.add_argument("--strides", type=int, nargs="+", default=STRIDES, help="in frames; default: 64 32 16 8")
    args = parser.parse_args()
    return run_script(lambda: measure_delays(args.model, args.out, args.strides))


if __name__ == "__main__":
    sys.exit(main())
