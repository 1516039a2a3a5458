"""Measure the parts of the study of speed, the most important first, as far as the time given allows."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from export.graph.trace import seeded_inputs
from export.studies.speed.models import Models, Say
from export.studies.speed.study import LengthRun
from export.studies.speed.videos import make_video
from runtime.benchmark.report import Report
from runtime.benchmark.speed import run_benchmark
from runtime.common.mappings import from_mapping
from runtime.common.processors import usable_cores
from runtime.common.text import one_line
from runtime.engines import Engine, open_engine
from runtime.engines.streaming import StreamingEngine
from runtime.errors import AfsdError, ExportError
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import STREAMING_CHUNK

STRIDES = (1.0, 0.5, 0.25, 0.125)
"""Strides of the windows that are measured, as shares of the model's own."""
FEW_STRIDES = (1.0, 0.25)
"""Those at which windows are measured in number types wider than INT8, where the shortest take minutes."""
HEIGHTS = (240, 480, 1080)
"""Heights of the videos, pixels; the first is that of all other parts."""
BATCHES = (1, 2, 4)
LENGTHS_S = (60, 600, 3600, 8 * 3600)
"""Lengths of video of the shipped small network, seconds."""
FILES_UP_TO_S = 600
"""Longest video that is a file; longer ones are frames in memory."""
FULL_LENGTHS = ((60, "file"), (600, "memory"))
"""Lengths of video of the full-size network, seconds, and where its frames come from."""

START_S = 4.0
"""Seconds to start a process and load a network."""
FULL_S, SMALL_S = 0.04, 0.004
"""Seconds per second of video of the full-size and of the small network, INT8, on two quiet cores."""

How = tuple[str, Path, dict[str, Any]]
"""Name of a row, file of the engine, options of `open_engine`."""


@dataclass
class Part:
    """One part of the study."""

    name: str
    seconds: float
    """Seconds it takes on two quiet cores, about; the time that must be left."""
    run: Callable[[], None]


@dataclass
class Clock:
    """Gives parts their time: one that does not fit what is left is left out, and said."""

    minutes: float
    say: Say
    slowness: float = 1.0
    """Factor on the seconds of parts, from those that ran."""
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    _start: float = field(default_factory=time.perf_counter)
    _expected: float = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def run(self, parts: Sequence[Part], save: Callable[[], None] = lambda: None) -> None:
        """Run parts in order, and `save` after each, so that a run that ends early loses only its last part."""
        for part in parts:
            needed = part.seconds * self.slowness
            if self.spent + needed > 60 * self.minutes:
                self.left_out.append(f"{part.name}: needs about {needed / 60:.1f} minutes more (--minutes)")
                self.say(f"left out, {self.left_out[-1]}")
                continue
            self.say(f"{part.name} ({self.spent / 60:.1f} of {self.minutes:g} minutes spent)")
            begin = time.perf_counter()
            try:
                part.run()
            except AfsdError as error:
                self.left_out.append(f"{part.name}: {one_line(error)}")
                self.say(f"left out, {self.left_out[-1]}")
                continue
            self.seconds[part.name] = round(time.perf_counter() - begin, 1)
            self._expected += part.seconds
            self.slowness = sum(self.seconds.values()) / self._expected
            save()


class Measurements:
    """Measures the parts and keeps what they give."""

    def __init__(self, models: Models, small: Sequence[Path], scene: Path, out: Path, *, quick: bool, say: Say) -> None:
        """Plan the parts.

        Args:
            models: files of the network.
            small: INT8 files of the shipped small network, on windows and streaming, for long videos.
            scene: video that the test videos are made of.
            out: folder of the test videos.
            quick: whether `models` are the small network's; then everything is short.
            say: function called with progress messages.
        """
        self.reports: dict[str, Report] = {}
        self.lengths: list[LengthRun] = []
        self.left_out: list[str] = []
        self._models, self._small, self._scene, self._out = models, small, scene, out
        self._quick, self._say = quick, say
        self._stride_s = 60 if quick else 120
        self._runs, self._video_runs, self._warmup = (5, 2, 8) if quick else (7, 3, 12)
        self._seconds = 60 if quick else 300
        """Length of the test videos. The first window waits for its frames and the last one runs alone, so a network is
        slower by a tenth or more on a video of a minute."""

    def parts(self) -> list[Part]:
        """Return the parts with the seconds that each takes on two quiet cores."""
        quick = self._quick
        full = () if quick else (self._models.int8, self._models.int8_stream)
        lengths = [(model, s, source, FULL_S) for model in full for s, source in FULL_LENGTHS]
        for s in LENGTHS_S[:2] if quick else LENGTHS_S:
            source = "file" if s <= FILES_UP_TO_S else "memory"
            lengths += [(model, s, source, SMALL_S) for model in self._small]
        return [
            Part("engines, network alone", 150 if quick else 180, self.engines),
            Part("engines, from file to detections", 15 if quick else 550, self.videos),
            Part("strides", 40 if quick else 580, self.strides),
            Part("resolutions", 20 if quick else 150, self.resolutions),
            Part("batches", 10 if quick else 40, self.batches),
            Part("threads", 10 if quick else 20, self.threads),
            *(
                Part(
                    f"{model.name}, {describe_length(s)} of video",
                    START_S + s * each,
                    partial(self.length, model, s, source),
                )
                for model, s, source, each in lengths
            ),
        ]

    def engines(self) -> None:
        """Time windows alone in every engine, PyTorch's strongest beside eager."""
        m = self._models
        rows: list[How] = [
            ("PyTorch eager", m.checkpoint, {}),
            ("PyTorch compiled", m.checkpoint, {"compiled": True}),
            ("PyTorch compiled bf16", m.checkpoint, {"compiled": True, "precision": "bf16"}),
            ("ONNX Runtime", m.onnx, {}),
            ("OpenVINO fp32", m.openvino, {}),
            ("OpenVINO bf16", m.openvino, {"precision": "bf16"}),
            ("OpenVINO INT8", m.int8, {}),
        ]
        self._benchmark("engines", rows)

    def videos(self) -> None:
        """Time engines from a 240p file to detections, each in the mode that suits a file."""
        m = self._models
        rows: list[How] = [
            ("PyTorch eager", m.checkpoint, {}),
            ("ONNX Runtime", m.onnx, {}),
            ("OpenVINO fp32", m.openvino, {"mode": "throughput"}),
            ("OpenVINO bf16", m.openvino, {"precision": "bf16", "mode": "throughput"}),
            ("OpenVINO INT8", m.int8, {"mode": "throughput"}),
            ("OpenVINO fp32, each frame once", m.stream, {}),
            ("OpenVINO bf16, each frame once", m.stream, {"precision": "bf16"}),
            ("OpenVINO INT8, each frame once", m.int8_stream, {}),
        ]
        self._benchmark("videos", rows, video=self._video(HEIGHTS[0]))

    def strides(self) -> None:
        """Time each number type from file to detections at shorter strides.

        On windows each frame is then computed more often.
        """
        m, wide = self._models, {"mode": "throughput"}
        rows: list[tuple[How, Sequence[float]]] = [
            (("INT8, windows", m.int8, wide), STRIDES),
            (("INT8, each frame once", m.int8_stream, {}), STRIDES),
            (("bf16, windows", m.openvino, {"precision": "bf16", **wide}), FEW_STRIDES),
            (("bf16, each frame once", m.stream, {"precision": "bf16"}), STRIDES),
            (("fp32, windows", m.openvino, wide), FEW_STRIDES),
            (("fp32, each frame once", m.stream, {}), STRIDES),
        ]
        shares = {name: found for (name, _, _), found in rows}
        with self._opened([how for how, _ in rows]) as opened:
            engines = []
            for name, engine in opened:
                if isinstance(engine, StreamingEngine):
                    engine.prepare(STREAMING_CHUNK)  # which the copies share
                for stride in strides_of(engine.spec, shares[name]):
                    other: Any = copy.copy(engine)  # the same network with another stride
                    other.spec = replace(engine.spec, window_stride=stride)
                    engines.append((f"{name}, stride {stride}", other))
            self.reports["strides"] = self._time(engines, video=self._video(HEIGHTS[0], self._stride_s))

    def resolutions(self) -> None:
        """Time INT8 from files of several resolutions to detections."""
        m = self._models
        for height in HEIGHTS:
            rows: list[How] = [
                (f"{height}p, windows", m.int8, {"mode": "throughput"}),
                (f"{height}p, each frame once", m.int8_stream, {}),
            ]
            self._benchmark(f"resolution {height}p", rows, video=self._video(height, 60))

    def batches(self) -> None:
        """Time windows alone in batches."""
        m = self._models
        rows: list[How] = [("OpenVINO bf16", m.openvino, {"precision": "bf16"}), ("OpenVINO INT8", m.int8, {})]
        self._benchmark("batches", rows, batches=BATCHES)

    def threads(self) -> None:
        """Time windows alone with one thread up to all cores."""
        counts = sorted({2**k for k in range(usable_cores().bit_length()) if 2**k <= usable_cores()} | {usable_cores()})
        m = self._models
        kinds: tuple[How, ...] = (("bf16", m.openvino, {"precision": "bf16"}), ("INT8", m.int8, {}))
        rows = [
            (f"{kind}, {count} threads", p, {**options, "threads": count})
            for kind, p, options in kinds
            for count in counts
        ]
        self._benchmark("threads", rows)

    def length(self, model: Path, seconds: float, source: str) -> None:
        """Run a whole video in a process of its own, of the file or of frames in memory (`source`)."""
        video = self._video(HEIGHTS[0], round(seconds) if source == "file" else 60)
        arguments = [str(model), str(video), str(seconds), source]
        command = [sys.executable, "-m", "export.studies.speed.length", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            raise ExportError(f"{model.name}, {describe_length(seconds)}: {last[0]}")
        self.lengths.append(from_mapping(LengthRun, json.loads(done.stdout)))

    def _benchmark(
        self, part: str, rows: Sequence[How], *, video: Path | None = None, batches: Sequence[int] = (1,)
    ) -> None:
        with self._opened(rows) as engines:
            if engines:
                self.reports[part] = self._time(engines, video=video, batches=batches)

    def _time(
        self, engines: Sequence[tuple[str, Engine]], *, video: Path | None = None, batches: Sequence[int] = (1,)
    ) -> Report:
        return run_benchmark(
            engines,
            batches=batches,
            warmup=self._warmup,
            runs=self._runs,
            video=None if video is None else str(video),
            video_runs=self._video_runs,
            clips=video is None,
            say=self._say,
        )

    @contextmanager
    def _opened(self, rows: Sequence[How]) -> Iterator[list[tuple[str, Engine]]]:
        """Open the engines of rows; one that cannot run here is left out, and said. Close all at the end."""
        engines: list[tuple[str, Engine]] = []
        try:
            for name, path, options in rows:
                try:
                    engine = open_engine(path, **options)
                    engines.append((name, engine))
                    if options.get("compiled"):  # what is wrong with the compiler shows in the first pass
                        self._say(f"compiling {name}, a minute or more")
                        engine.infer(seeded_inputs(engine.spec, seed=0, batch=1))
                except AfsdError as error:
                    engines = [entry for entry in engines if entry[0] != name]
                    self.left_out.append(f"{name}: {one_line(error)}")
                    self._say(f"left out, {self.left_out[-1]}")
            yield engines
        finally:
            for _, engine in engines:
                engine.close()

    def _video(self, height: int, seconds: int = 0) -> Path:
        return make_video(self._scene, self._out, height, seconds or self._seconds)


def strides_of(spec: ModelSpec, shares: Sequence[float]) -> list[int]:
    """Return shares of a model's stride in frames, longest first, without those that a streaming network has not."""
    step = 1 if spec.streaming is None else spec.streaming.multiple
    strides = (round(spec.window_stride * share) for share in shares)
    return [stride for stride in strides if stride and stride % step == 0]


def describe_length(seconds: float) -> str:
    """Return a length of video in words: "1 minute", "8 hours"."""
    value, unit = (seconds / 3600, "hour") if seconds >= 3600 else (seconds / 60, "minute")
    return f"{value:g} {unit}{'' if value == 1 else 's'}"
